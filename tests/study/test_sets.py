"""Digits in 40x40: none is cut, whatever was drawn."""

import numpy as np
import pytest
from project_paths import DATA

from study.sets import affine, shifted
from study.sets.affine import View
from study.sets.draws import generator

_IMAGES = np.load(DATA / 'mnist_300.npz')['images']
_IDS = [f'mnist-test_{number}' for number in range(len(_IMAGES))]
_SETTINGS = {'seed': 1}
each_set = pytest.mark.parametrize('function', [affine.affine, shifted.shifted])


def _made(function, images=_IMAGES, **settings):
    return np.stack(
        [
            function(image, 0, identifier, {**_SETTINGS, **settings})
            for image, identifier in zip(images, _IDS, strict=False)
        ]
    )


@each_set
def test_an_image_is_a_function_of_its_id_and_the_seed(function):
    image = _IMAGES[0]
    first = function(image, 3, 'a', _SETTINGS)
    assert first.dtype == np.uint8
    assert first.shape == (40, 40)
    np.testing.assert_array_equal(function(image, 3, 'a', dict(_SETTINGS)), first)
    assert not np.array_equal(function(image, 3, 'b', _SETTINGS), first)
    assert not np.array_equal(function(image, 3, 'a', {'seed': 2}), first)


@each_set
def test_a_blank_image_stays_blank(function):
    assert not function(np.zeros((28, 28), np.uint8), 0, 'a', _SETTINGS).any()


def test_two_sets_draw_independently():
    assert generator('affine', 1, 'a').random() != generator('shifted', 1, 'a').random()


def test_views_reach_their_ranges():
    views = np.array([View.drawn(generator('affine', 1, str(number))) for number in range(2000)])
    limits = np.array([[-20, 20], [-0.2, 0.2], [0.8, 1.2], [0.8, 1.2]])
    width = np.ptp(limits, axis=1)
    assert np.all(views.min(0) >= limits[:, 0])
    assert np.all(views.max(0) <= limits[:, 1])
    assert np.all(0.01 * width > np.abs(np.stack([views.min(0), views.max(0)], 1) - limits).T)
    # Uniform, and independent of each other.
    np.testing.assert_allclose(views.std(0) / width, 12**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(views.T), np.eye(4), atol=0.08)


@pytest.mark.parametrize(
    ('view', 'offset', 'expected'),
    [
        (View(0, 0, 1.2, 0.8), (10, 5), (12, 4)),
        (View(90, 0, 1, 1), (0, 5), (5, 0)),  # what is to the right comes to lie below
        (View(0, 0.2, 1, 1), (-10, 0), (-10, 2)),  # a row above moves to the right
        (View(90, 0.2, 1, 2), (-10, 0), (2, 10)),
    ],
)
def test_a_view_moves_offsets_as_worked_out_by_hand(view, offset, expected):
    np.testing.assert_allclose(view.matrix @ offset, expected, atol=1e-12)


def test_a_pixel_between_pixels_is_spread_over_them():
    image = np.zeros((28, 28), np.uint8)
    image[3, 4] = 200
    warped = affine.warped(image, np.eye(2), np.array([2.25, 10]))
    expected = np.zeros((40, 40))
    expected[5:7, 14] = 150, 50
    np.testing.assert_array_equal(warped, expected)
    # At the edges of the image, too, and half outside of the sheet.
    corner = np.zeros((28, 28), np.uint8)
    corner[0, 0] = 200
    assert affine.warped(corner, np.eye(2), np.array([2.5, 3.5])).sum() == 200
    assert affine.warped(corner, np.eye(2), np.array([-0.5, 0])).sum() == 100


def test_no_transformed_digit_is_cut():
    made = _made(affine.affine)
    inks = []
    for image, identifier, transformed in zip(_IMAGES, _IDS, made, strict=True):
        view = View.drawn(generator('affine', 1, identifier))
        area = np.abs(np.linalg.det(view.matrix))
        inks.append(transformed.sum(dtype=int) / (area * image.sum(dtype=int)))
    # Ink is kept up to interpolation, and no digit in the set lacks the part of a stroke.
    assert np.abs(np.mean(inks) - 1) < 0.002
    assert 0.97 < np.min(inks) <= np.max(inks) < 1.03


def test_transformed_digits_come_to_each_edge_and_lie_all_over():
    made = _made(affine.affine) > 0
    for axis in (1, 2):
        seen = made.any(axis=axis)
        assert seen[:, 0].any()
        assert seen[:, -1].any()
    places = np.array([np.argwhere(image).mean(0) for image in made])
    assert np.all(places.std(0) > 3)
    np.testing.assert_allclose(places.mean(0), 19.5, atol=1)


def test_a_view_that_does_not_fit_is_drawn_again():
    large = np.zeros((34, 34), np.uint8)
    large[::33, ::33] = 255  # its four corners
    for number in range(30):
        made = affine.affine(large, 0, f'large {number}', _SETTINGS)
        # Each corner is there, spread over at most four pixels.
        assert made.sum(dtype=int) > 0.5 * 4 * 255


def test_an_image_that_fits_in_no_view_is_refused_by_name():
    with pytest.raises(ValueError, match='The image big is too large to be turned in 40x40'):
        affine.affine(np.full((50, 50), 255, np.uint8), 0, 'big', _SETTINGS)


def test_shifted_images_are_whole_and_lie_at_all_places():
    corners = set()
    for image, made in zip(_IMAGES, _made(shifted.shifted), strict=True):
        found = [
            (top, left)
            for top in range(13)
            for left in range(13)
            if np.array_equal(made[top : top + 28, left : left + 28], image)
        ]
        assert len(found) == 1
        assert made.sum(dtype=int) == image.sum(dtype=int)
        corners.update(found)
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(13))
    assert len(corners) > 120  # of 169, with 300 images


def test_a_shift_of_0_leaves_images_in_the_middle():
    expected = np.pad(_IMAGES, [(0, 0), (6, 6), (6, 6)])
    np.testing.assert_array_equal(_made(shifted.shifted, shift=0), expected)


def test_a_smaller_shift_moves_less():
    image = np.full((28, 28), 9, np.uint8)
    made = np.stack(
        [shifted.shifted(image, 0, each, {'seed': 1, 'shift': 1}) for each in _IDS]
    ).any(axis=0)
    np.testing.assert_array_equal(made, np.pad(np.ones((30, 30), bool), 5))


@pytest.mark.parametrize('shift', [-1, 7])
def test_a_shift_that_would_cut_is_refused(shift):
    with pytest.raises(ValueError, match=f'from 0 to 6 pixels, not {shift}'):
        shifted.shifted(_IMAGES[0], 0, 'a', {'seed': 1, 'shift': shift})
