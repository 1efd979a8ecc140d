"""Tests of what the benchmark of cost hands to XLA, and of how what comes back is judged."""

import json
import os
import subprocess

import numpy as np
import pytest
from project_paths import ROOT

from benchmarks.cost import with_ratios
from benchmarks.gpu_hlo import draw, known_peak, largest_difference
from benchmarks.programs import IMPLEMENTATIONS, updated_inputs, write_programs
from capsmodel.networks.settings import CapsNetConfig

SMALL = CapsNetConfig(
    image_height=12,
    image_width=12,
    num_classes=3,
    conv1_filters=4,
    conv1_kernel_size=3,
    primary_channels=2,
    primary_dim=2,
    primary_kernel_size=3,
    digit_dim=3,
    routing_iterations=2,
    decoder_units=(5,),
)
JAX_PYTHON = ROOT / '.venv-bench/bin/python'


@pytest.fixture(scope='module')
def programs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('programs'))
    return folder, write_programs(folder, batch=2, config=SMALL)


@pytest.mark.slow
def test_all_implementations_have_the_same_inputs_and_outputs(programs):
    folder, index = programs
    with open(f'{folder}/index.json') as file:
        assert json.load(file) == json.loads(json.dumps(index))
    for part in ('routing', 'step'):
        entries = [entry for entry in index if entry['part'] == part]
        assert sorted({entry['name'] for entry in entries}) == sorted(IMPLEMENTATIONS)
        assert len(entries) == 2 * len(IMPLEMENTATIONS)
        for key in ('inputs', 'outputs'):
            by_name = [sorted(map(str, entry[key])) for entry in entries]
            assert all(names == by_name[0] for names in by_name)
        for entry in entries:
            assert os.path.getsize(f'{folder}/{entry["stem"]}.hlo') > 1000


@pytest.mark.slow
def test_a_step_takes_weights_and_moments_and_returns_what_it_updates(programs):
    entry = next(entry for entry in programs[1] if entry['stem'] == 'step-ours-all')
    inputs = {value['name']: value for value in entry['inputs']}
    outputs = {value['name'] for value in entry['outputs']}
    weights = [name for name in inputs if name.startswith('weight')]
    # Kernels and biases of conv1, the primary capsules and two layers of the decoder; W.
    assert len(weights) == 9
    # Two moments a weight, the number of steps and the learning rate, which stays as it is.
    assert len(inputs) == 2 + 3 * len(weights) + 2
    assert len(outputs & inputs.keys()) == 3 * len(weights) + 1
    assert {'loss', 'margin_loss', 'reconstruction_loss', 'accuracy'} < outputs


@pytest.mark.slow
@pytest.mark.skipif(not JAX_PYTHON.exists(), reason='`make setup-bench` has not been run')
def test_xla_counts_the_programs_and_their_outputs_agree(programs):
    folder, index = programs

    def run(*arguments):
        environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
        command = [JAX_PYTHON, '-m', *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)

    run('benchmarks.hlo_cost', folder, '--compilers', 'CPU')
    with open(f'{folder}/cost.json') as file:
        rows = json.load(file)
    assert len(rows) == len(index)
    for row in rows:
        assert row['gflop'] > 0
        assert row['memory_mb'] > 0
        assert row['mb_accessed'] > 0
    table = f'{folder}/rows.json'
    run('benchmarks.gpu_hlo', folder, '--turns', '1', '--tolerance', '1e-3', '--json', table)
    with open(table) as file:
        assert len(json.load(file)) == len(index)


def test_updated_inputs_are_read_from_the_header():
    hlo = (
        'HloModule f, input_output_alias={ {10}: (3, {}, may-alias), {2}: (5, {}, must-alias) }, '
        'entry_computation_layout={(f32[8]{0})->f32[8]{0}}\n\nENTRY %f'
    )
    assert updated_inputs(hlo) == [5, 3]
    assert updated_inputs('HloModule f, entry_computation_layout={()->f32[]}\n') == []


def test_ratios_are_those_to_textbook_of_the_same_kind():
    rows = [
        {'part': 'step', 'gradient_mode': mode, 'compiler': 'CPU', 'name': name, 'mb_accessed': mb}
        for mode, name, mb in (
            ('all', 'ours', 5.0),
            ('all', 'textbook', 10.0),
            ('last', 'textbook', 8.0),
            ('last', 'ours', 2.0),
        )
    ]
    assert [row['ratio_to_textbook'] for row in with_ratios(rows)] == [0.5, 1, 1, 0.25]


def test_inputs_are_drawn_by_their_names():
    given = [
        {'name': 'u', 'shape': [100], 'dtype': 'float32', 'low': -0.5, 'high': 0.5},
        {'name': 'labels', 'shape': [100], 'dtype': 'int64', 'low': 0, 'high': 9},
    ]
    u, labels = draw(given)
    assert u.dtype == np.float32
    assert labels.dtype == np.int64
    assert -0.5 <= u.min() < -0.3 < 0.3 < u.max() <= 0.5
    assert set(labels) == set(range(10))
    np.testing.assert_array_equal(u, draw(given[::-1])[1])


def test_differences_are_parts_of_an_outputs_largest_value():
    expected = {'a': np.array([100.0, 0.0]), 'b': np.zeros(2)}
    assert largest_difference({'a': np.array([100.0, 1.0]), 'b': np.zeros(2)}, expected) == 0.01
    assert largest_difference(expected, expected) == 0
    assert np.isnan(largest_difference({**expected, 'b': np.array([0, np.nan])}, expected))


def test_peaks_of_devices():
    assert known_peak('NVIDIA H100 80GB HBM3').gb_per_s == 3350
    assert known_peak('NVIDIA H100 PCIe').gb_per_s == 2000
    assert known_peak('NVIDIA L40S').tflops == 91.6
    assert known_peak('cpu') is None
