import functools

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from capsmodel.data import ink


@functools.cache
def _graph(function):
    spec = tf.TensorSpec([None, None], tf.bool if function is ink._pieces else tf.float32)
    return tf.function(function, input_signature=[spec], autograph=False)


def in_graph(function, values):
    return _graph(function)(values).numpy()


def spiral(side):
    """bool [side, side]: one line, a pixel wide, with a pixel between its turns."""
    is_ink = np.zeros((side, side), bool)
    y, x, step, leg = 0, 0, (0, 1), side - 1
    is_ink[0, 0] = True
    legs = [leg, leg, leg] + [each for each in range(side - 3, 0, -2) for _ in range(2)]
    for length in legs:
        for _ in range(length):
            y, x = y + step[0], x + step[1]
            is_ink[y, x] = True
        step = (step[1], -step[0])
    return is_ink


@pytest.mark.parametrize('share', [0.02, 0.2, 0.33, 0.37, 0.5, 0.9])
def test_pieces_are_those_of_scipy(share):
    random = np.random.default_rng(int(100 * share))
    for size in (*[(64, 64)] * 10, (64, 20), (1, 64), (7, 3), (1, 1)):
        is_ink = random.random(size) < share
        pieces = in_graph(ink._pieces, is_ink)
        expected, count = scipy.ndimage.label(is_ink, np.ones((3, 3)))
        np.testing.assert_array_equal(pieces > 0, is_ink)
        assert pieces.max() <= is_ink.size
        # Each number of one is always the same number of the other.
        pairs = set(zip(pieces[is_ink].tolist(), expected[is_ink].tolist(), strict=True))
        assert len(pairs) == count == len({piece for piece, _ in pairs})


def test_the_longest_piece_is_one():
    for is_ink in (spiral(63), spiral(63)[::-1], spiral(63).T, spiral(63)[::-1, ::-1]):
        assert scipy.ndimage.label(is_ink, np.ones((3, 3)))[1] == 1
        assert len(set(in_graph(ink._pieces, is_ink)[is_ink].tolist())) == 1


def test_largest_near_is_scipys():
    values = np.random.default_rng(0).normal(size=(2, 19, 30)).astype(np.float32)
    for side in (3, 25):
        expected = scipy.ndimage.maximum_filter(values, (1, side, side), mode='nearest')
        np.testing.assert_array_equal(ink.largest_near(values, side), expected)


@pytest.mark.parametrize('fraction', [0.0, 0.25, 0.5, 0.9])
def test_quantile_is_one_of_the_sorted_values(fraction):
    for count in (1, 2, 7, 100):
        values = np.random.default_rng(count).normal(size=(count, 1)).astype(np.float32)
        expected = np.sort(values[:, 0])[int(fraction * count)]
        assert ink.quantile(values, fraction).numpy() == expected


def test_the_background_is_found_beside_strokes():
    y, x = np.mgrid[:64, :48] / np.array([64, 48]).reshape(2, 1, 1)
    light = 210 - 70 * x - 40 * y * x
    picture = light.copy()
    picture[20:44, 20:26] -= 100
    surface, least = ink._background(tf.constant(picture, tf.float32))
    np.testing.assert_allclose(ink._evaluated(surface, [64, 48]), light, atol=2)
    assert least < 8


def test_least_contrast_is_five_deviations_of_the_noise():
    for deviation in (1, 5, 20):
        noise = np.random.default_rng(0).normal(128, deviation, (64, 64))
        _, least = ink._background(tf.constant(noise, tf.float32))
        assert least.numpy() == pytest.approx(5 * deviation, rel=0.1)


@pytest.mark.parametrize('is_dark', [False, True])
def test_strokes_have_contrast_1_and_the_rest_0(is_dark):
    strokes = np.zeros((150, 100), bool)
    strokes[40:110, 45:53] = True
    strokes[40:48, 30:53] = True
    picture = np.where(strokes, 60, 190)
    found = in_graph(ink.find, (picture if is_dark else 255 - picture).astype(np.float32))
    np.testing.assert_allclose(found, strokes, atol=0.1)


def test_faint_strokes_count_only_beyond_the_least_contrast():
    for contrast, is_found in ((5, False), (20, True)):
        picture = np.full((100, 100), 180, np.float32)
        picture[30:70, 48:54] -= contrast
        assert in_graph(ink.find, picture).any() == is_found


def test_what_has_more_contrast_is_the_ink():
    picture = np.full((128, 128), 120, np.float32)
    picture[20:100, 30:36] += 60
    picture[20:100, 90:96] -= 100
    found = in_graph(ink.find, picture)
    assert found[50, 92] > 0.9
    assert not found[:, :80].any()


def test_a_wide_shadow_is_no_ink():
    picture = np.full((128, 128), 220, np.float32)
    picture[:, 80:] -= 90
    picture[30:90, 40:46] -= 60
    found = in_graph(ink.find, picture)
    assert found[50, 42] > 0.9
    assert not found[:, 84:].any()


def test_a_piece_with_less_than_a_tenth_of_the_largest_is_a_speck():
    # In the copy of 64 pixels a side, pieces have 30 x 5, 5 x 5 and 3 x 3 pixels.
    picture = np.full((64, 64), 200, np.float32)
    picture[10:40, 10:15] = picture[50:55, 50:55] = picture[10:13, 50:53] = 40
    found = in_graph(ink.find, picture)
    assert min(found[20, 12], found[52, 52]) > 0.9
    assert not found[5:20, 40:].any()
