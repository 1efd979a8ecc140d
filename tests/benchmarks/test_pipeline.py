"""Tests of the benchmark of the pipeline's nodes."""

import pytest
from benchmark_process import rows_of, run


@pytest.mark.slow
@pytest.mark.e2e
def test_nodes_of_a_cold_and_a_cached_run(mnist_dir, tmp_path):
    kept = tmp_path / 'kept'
    kept.mkdir()
    options = ['--preset', 'tiny', '--data_dir', mnist_dir, '--var', str(kept)]
    by_name = {row['name']: row for row in rows_of(tmp_path, 'pipeline', *options)}
    nodes = {name: row for name, row in by_name.items() if row['kind'] == 'node'}
    assert len(nodes) == 18
    assert by_name['in all']['cold_s'] > sum(row['cold_s'] for row in nodes.values())
    # Each run has its own numbers: the second one trains nothing.
    assert by_name['Trainer']['cached_s'] < by_name['Trainer']['cold_s'] / 5
    cached = sum(row['cached_s'] for row in nodes.values())
    assert cached < by_name['in all']['cached_s'] < by_name['in all']['cold_s']
    assert len(list(kept.glob('serving_model/*/*/saved_model.pb'))) == 1


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--data_dir', 'no_folder'], 'there is no folder no_folder: `make data` prepares it'),
        (['--var', 'benchmarks'], '--var must be an empty folder: benchmarks'),
    ],
)
def test_wrong_folders_end_in_a_sentence(options, sentence):
    done = run('pipeline', *options)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith(sentence)
