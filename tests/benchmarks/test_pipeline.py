"""Tests of the benchmark of the pipeline's nodes."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.e2e
def test_nodes_of_a_cold_and_a_cached_run(mnist_dir, tmp_path, root):
    rows = tmp_path / 'rows.json'
    options = ['--preset', 'tiny', '--data_dir', mnist_dir, '--json', str(rows)]
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.pipeline', *options],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_name = {row['name']: row for row in json.loads(rows.read_text())}
    nodes = {name: row for name, row in by_name.items() if row['kind'] == 'node'}
    assert len(nodes) == 18
    assert by_name['tfx run create']['cold_s'] > sum(row['cold_s'] for row in nodes.values())
    # Each run has its own numbers: the second one trains nothing.
    assert by_name['Trainer']['cached_s'] < by_name['Trainer']['cold_s'] / 5
    cached = sum(row['cached_s'] for row in nodes.values())
    assert cached < by_name['tfx run create']['cached_s'] < by_name['tfx run create']['cold_s']
    assert by_name['tfx pipeline create']['cached_s'] is None


def test_missing_data_end_in_a_sentence(tmp_path, root):
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.pipeline', '--data_dir', str(tmp_path / 'data')],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith('`make data` prepares it')
