"""The table of what a model reads of people's pictures and what it refuses."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image
from project_paths import ROOT

from benchmarks import pictures
from components.picture_kinds import kinds

_DIGITS = np.load(ROOT / 'tests/data/mnist_300.npz')
_IMAGES, _LABELS = _DIGITS['images'][:40], _DIGITS['labels'][:40]


def _grey(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert('L')).astype(float)


def _knows_contrast(encoded):
    """Answers class 7 to each picture, and knows those with some contrast."""
    contrast = np.array([np.ptp(_grey(picture)) for picture in encoded])
    return {'label': np.full(len(encoded), 7), 'known': contrast > 60}


@pytest.fixture(scope='module')
def clothes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fashion')
    content = bytes(16) + bytes(28 * 28 * 50)
    (folder / 't10k-images-idx3-ubyte.gz').write_bytes(gzip.compress(content))
    return folder


def test_the_table_has_every_kind_with_its_rates(clothes):
    lines = list(pictures.table(_knows_contrast, _IMAGES, _LABELS, str(clothes)))
    assert lines[:2] == ['| 40 pictures each | correct | refused |', '| --- | --- | --- |']
    cells = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines[2:])
    rows = {name: tuple(percentages) for name, *percentages in cells}
    sevens = f'{100 * np.mean(_LABELS == 7):.1f}%'
    assert sevens not in ('0.0%', '100.0%')
    for kind in ('plain', 'chalk', 'large on a sheet', 'thin pen'):
        assert rows[kind] == (sevens, '0.0%')
    assert rows['blank sheet'] == ('', '100.0%')
    assert rows['scribbles'] == rows['two digits side by side'] == ('', '0.0%')
    assert rows['Fashion-MNIST'] == ('', '100.0%')  # the fixture's are black
    assert rows.keys() >= {*kinds.KINDS, 'blank sheet, uneven light', 'noise', 'spots'}


def test_a_model_without_a_guard_has_no_rate_of_refusals():
    def answer(encoded):
        return {'label': np.zeros(len(encoded), int)}

    pngs = [kinds.draw(image, 'wide sheet', '') for image in _IMAGES]
    assert pictures.rates(answer, pngs, np.arange(40) % 4) == (25.0, None)


def test_there_are_two_digits_on_a_sheet_and_no_clothes_without_their_files(tmp_path, capsys):
    drawn = dict(pictures.no_digits(_IMAGES[:4], str(tmp_path)))
    assert 'Fashion-MNIST' not in drawn
    assert 'Fashion-MNIST is left out: there is no ' in capsys.readouterr().err
    for sheet in drawn['two digits side by side'][::2]:
        columns = np.flatnonzero((_grey(sheet) < 128).any(0))
        # Much wider than one digit, with a gap.
        assert np.ptp(columns) > 0.6 * _grey(sheet).shape[1]
        assert np.diff(columns).max() > 3
