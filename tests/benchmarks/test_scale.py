"""The benchmark of growing data: its pictures, its measure, and a run on few of them."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import scale

_CASE = scale.Case(images=7, classes=3, pixels=20)


def test_the_folder_holds_the_pictures_by_class(tmp_path):
    scale.write_folder(tmp_path / 'images', _CASE)
    paths = sorted((tmp_path / 'images').rglob('*.png'), key=lambda path: path.name)
    expected = list(scale.pictures(_CASE))
    assert [path.parent.name for path in paths] == [f'class {label:03}' for label, _ in expected]
    for path, (_, image) in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(Image.open(path), image)
    assert len({image.tobytes() for _, image in expected}) == 7


def test_memory_is_what_all_processes_hold_by_themselves(tmp_path):
    inner = 'import time; x = bytearray(b"1" * 80_000_000); time.sleep(1.5)'
    outer = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {inner!r}])'
    result = scale.measured([sys.executable, '-c', outer], {}, tmp_path)
    assert 75 < result['memory_mb'] < 200
    assert 1.5 < result['seconds'] < 30


def test_a_command_that_fails_ends_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match='has failed: see what it says above'):
        scale.measured([sys.executable, '-c', 'exit(3)'], {}, tmp_path)


@pytest.mark.slow
def test_a_training_is_measured(tmp_path, capfd):
    scale.main(['--quick', '--training', '--json', str(tmp_path / 'rows.json')])
    (row,) = json.loads((tmp_path / 'rows.json').read_text())
    assert {key: row[key] for key in ('name', 'images', 'classes', 'pixels')} == {
        'name': 'training',
        'images': 600,
        'classes': 3,
        'pixels': 28,
    }
    assert row['seconds'] > 1
    assert row['memory_mb'] > 100
    assert 'memory_mb' in capfd.readouterr().out
