"""Each kind of picture has what makes it one, and the strokes of the image that it is drawn of."""

import io

import numpy as np
import pytest
from PIL import Image
from project_paths import ROOT

from components.picture_kinds import kinds

_IMAGES = np.load(ROOT / 'tests/data/mnist_300.npz')['images'][:12]
# Of which the strokes are told from the ground by one threshold.
_BLACK_ON_WHITE = (
    *('large on a sheet', 'small on a sheet', 'wide sheet', 'off centre', 'at the edge'),
    'thin pen',
)


def _pictures(kind):
    return [
        Image.open(io.BytesIO(kinds.draw(image, kind, str(number))))
        for number, image in enumerate(_IMAGES)
    ]


def _box(ink):
    """Top, bottom, left and right of what is true."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _black_boxes(kind):
    """The box of each picture's strokes as fractions of its height and width."""
    for picture in _pictures(kind):
        top, bottom, left, right = _box(np.asarray(picture) < 128)
        yield (
            top / picture.height,
            bottom / picture.height,
            left / picture.width,
            right / (picture.width),
        )


def _shares(kind):
    return [max(bottom - top, right - left) for top, bottom, left, right in _black_boxes(kind)]


@pytest.mark.parametrize('kind', kinds.KINDS)
def test_a_picture_is_a_function_of_its_image_kind_and_seed_and_not_large(kind):
    first, again, other = (kinds.draw(_IMAGES[0], kind, seed) for seed in ('a', 'a', 'b'))
    assert first == again != other
    for picture in _pictures(kind):
        assert picture.format in {'PNG', 'JPEG'}
        assert min(picture.size) > 60
        assert max(picture.size) <= kinds.MAX_SIDE


@pytest.mark.parametrize('kind', kinds.KINDS)
def test_an_image_without_strokes_can_be_drawn(kind):
    assert Image.open(io.BytesIO(kinds.draw(np.zeros((28, 28), np.uint8), kind, ''))).width > 60


@pytest.mark.parametrize('kind', [*_BLACK_ON_WHITE, 'transparent'])
def test_the_strokes_are_those_of_the_image(kind):
    for image, picture in zip(_IMAGES, _pictures(kind), strict=True):
        ink = (
            np.asarray(picture)[..., 3] > 128
            if picture.mode == 'RGBA'
            else (np.asarray(picture) < 128)
        )
        top, bottom, left, right = _box(image > 100)
        original = image[top:bottom, left:right] / 255
        top, bottom, left, right = _box(ink)
        large = Image.fromarray(255 * ink[top:bottom, left:right].astype(np.uint8))
        drawn = np.asarray(large.resize(original.shape[::-1], Image.Resampling.BOX)) / 255
        # A pen's lines are in the middle of strokes, and so shorter than these.
        assert drawn[original > 0.3].sum() > (0.6 if kind == 'thin pen' else 0.8) * drawn.sum()
        if kind != 'thin pen':
            assert np.corrcoef(drawn.ravel(), original.ravel())[0, 1] > 0.85


def test_sheets_are_filled_as_they_say():
    assert all(0.6 < share < 0.8 for share in _shares('large on a sheet'))
    assert all(0.3 < share < 0.5 for share in _shares('small on a sheet'))
    for picture, (top, bottom, _, _) in zip(
        _pictures('wide sheet'), _black_boxes('wide sheet'), strict=True
    ):
        assert 2.5 < picture.width / picture.height < 3.5
        assert 0.4 < bottom - top < 0.9


def test_strokes_off_the_centre_leave_it_empty_and_others_touch_an_edge():
    for top, bottom, left, right in _black_boxes('off centre'):
        assert abs(top + bottom - 1) > 0.25
        assert abs(left + right - 1) > 0.25
    for top, bottom, left, right in _black_boxes('at the edge'):
        assert 0 in (top, left) or 1 in (bottom, right)


def test_a_thin_pen_has_half_the_ink():
    def share(ink):
        top, bottom, left, right = _box(ink)
        return ink.sum() / max(bottom - top, right - left) ** 2

    thin = [share(np.asarray(picture) < 128) for picture in _pictures('thin pen')]
    assert 0.3 < np.mean(thin) / np.mean([share(image > 100) for image in _IMAGES]) < 0.7


def test_pencil_is_a_little_darker_than_grey_paper():
    for picture in _pictures('pencil'):
        values = np.asarray(picture).astype(float)
        paper = np.median(values)
        assert 150 < paper < 220
        assert 25 < paper - np.percentile(values, 2) < 100


def test_a_photograph_has_uneven_light_and_is_a_jpeg():
    for picture in _pictures('photograph'):
        assert picture.format == 'JPEG'
        light = np.asarray(picture.convert('L').resize((6, 6), Image.Resampling.BOX))
        assert light.max() > 1.15 * np.median(light) or light.min() < 0.8 * np.median(light)
        assert light.min() < 0.8 * light.max()


def test_ink_and_paper_are_coloured_and_chalk_is_light_on_a_dark_board():
    for picture in _pictures('coloured'):
        colours = np.asarray(picture.convert('HSV'))[..., 1]
        assert colours.max() > 120
        assert np.median(np.asarray(picture.convert('L'))) > 215
    for picture in _pictures('chalk'):
        grey = np.asarray(picture.convert('L'))
        assert np.median(grey) < 80
        assert np.percentile(grey, 99) > np.median(grey) + 90


def test_a_transparent_picture_has_strokes_of_one_colour_on_nothing():
    for picture in _pictures('transparent'):
        values = np.asarray(picture)
        assert len(np.unique(values[..., :3].reshape(-1, 3), axis=0)) == 1
        assert values[0, :, 3].max() == 0
        assert values[..., 3].max() == 255
