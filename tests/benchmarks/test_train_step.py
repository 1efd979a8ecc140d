"""Tests of the training step's benchmark: its rows, its floor, its peers, its options."""

import subprocess

import pytest
from benchmark_process import rows_of

from benchmarks import train_step
from benchmarks.interleaved import Timing
from benchmarks.peers import PEERS
from benchmarks.peers.checkouts import peer_programs
from benchmarks.train_step import floor_flops, mnist_config, step_rows


def test_floor_counts_the_matrix_products_of_a_step():
    conv1 = 400 * 81 * 256
    primary = 100 * 4 * 256 * 256  # 100 points, 4 phases
    routing = 1152 * 8 * 10 * 16
    decoder = 160 * 512 + 512 * 1024 + 1024 * 784
    multiplications = 2 * conv1 + 3 * primary + (3 + 2 * 7) * routing + 3 * decoder
    assert floor_flops(mnist_config()) == pytest.approx(2 * multiplications)


def test_rows_compare_with_the_textbook_of_their_gradient_mode():
    floor = floor_flops(mnist_config())
    # 2 * 2048^3 operations in such a time that the floor is 1000 images/s.
    sgemm = 2 * 2048**3 / (1000 * floor)
    timings = {
        'textbook': Timing(1.0, 2.0, 100.0, {}),
        'ours': Timing(0.25, 0.4, 90.0, {}),
        'textbook-last': Timing(0.5, 1.0, 80.0, {}),
        'ours-last': Timing(0.2, 0.3, 70.0, {}),
        'capsnet_pytorch eager': Timing(4.0, 8.0, 200.0, {'parameters': 8_227_088}),
        'sgemm': Timing(sgemm, 2 * sgemm, 10.0, {}),
    }
    *steps, machine = step_rows(timings, 100)
    by_name = {row['name']: row for row in steps}
    assert by_name['ours'] == {
        'name': 'ours',
        'kind': 'step',
        'network': 'capsnet-8.2M',
        'parameters': 8_215_568,
        'batch': 100,
        'dtype': 'float32',
        'gradient_mode': 'all',
        'threads': by_name['ours']['threads'],
        'images_per_s': 400,
        'cpu_ms_per_image': 4,
        'peak_rss_mb': 90,
        'ratio_to_textbook': 4,
        'cpu_ratio_to_textbook': 5,
        'ratio_to_floor': pytest.approx(0.4),
    }
    assert by_name['ours-last']['ratio_to_textbook'] == 2.5
    peer = by_name['capsnet_pytorch eager']
    assert (peer['parameters'], peer['gradient_mode']) == (8_227_088, 'all')
    assert peer['ratio_to_textbook'] == 0.25
    assert machine['kind'] == 'machine'
    assert machine['gflop_per_s'] == pytest.approx(1000 * floor / 1e9)


def test_a_peer_has_a_row_for_each_of_its_steps(root):
    programs = peer_programs(
        {'capsnet_keras': 'there'}, {'capsnet_keras': 'python9'}, 'd.npz', 16, 2
    )
    assert list(programs) == ['capsnet_keras train_on_batch', 'capsnet_keras function']
    command = programs['capsnet_keras function']
    assert command.arguments[:3] == ('python9', '-m', 'benchmarks.peers.capsnet_keras')
    assert command.arguments[-2:] == ('--step', 'function')
    assert command.environment['PYTHONPATH'] == root


@pytest.mark.parametrize('name', PEERS)
def test_an_adapter_is_a_program_of_its_own(name, tmp_path, root):
    (command, *_) = peer_programs({name: str(tmp_path)}, {}, 'data.npz', 16, 1).values()
    done = subprocess.run(
        [*command.arguments, '--help'],
        env=dict(command.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '--checkout' in done.stdout


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--peer', 'capsnet=.', "'capsnet=.' must be NAME=VALUE with a NAME of capsnet_keras, "),
        ('--peer', 'capsnet_keras', "'capsnet_keras' must be NAME=VALUE"),
        ('--peer', 'capsnet_keras=.', "'.' has no capsulenet.py: it must be a checkout of Xifeng"),
        ('--peer_python', 'capsnet_keras=/no/python', "'/no/python' is no program"),
        ('--batch', '0', "'0' must be a whole number from 1 to 6400"),
        ('--batches', '16,x', "'x' must be a whole number from 1 to 6400"),
    ],
)
def test_a_wrong_option_ends_in_a_sentence(option, value, message, capsys):
    with pytest.raises(SystemExit):
        train_step.main([option, value])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_batch_sizes_are_measured_of_real_steps(mnist_dir, tmp_path):
    options = ['--batches', '2,4', '--turns', '1', '--data_dir', mnist_dir]
    rows = rows_of(tmp_path, 'train_step', *options)
    steps = [row for row in rows if row['kind'] == 'step']
    assert [(row['name'], row['batch']) for row in steps] == [
        ('textbook', 2),
        ('ours', 2),
        ('textbook', 4),
        ('ours', 4),
    ]
    # As many cores were busy as there can be, whatever an image's time is measured by.
    for row in steps:
        busy = row['images_per_s'] * row['cpu_ms_per_image'] / 1000
        assert 0.2 < busy < 1.1 * row['threads']
