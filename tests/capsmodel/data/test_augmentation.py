"""Random changes of training images: what each part does, and which random numbers it draws."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples

from capsmodel.data import augmentation

_ALL = 'shift:2,rotate:15,scale:0.1,stroke:1,contrast:0.2,flip'


@pytest.fixture(scope='module')
def digits():
    """Genuine digits, uint8 [n, 28, 28]."""
    return transformed_examples.digits()[0].images[:64]


def _augmented(images, text, seed=3, step=5):
    images, step = tf.constant(images), tf.constant(step, tf.int64)
    return augmentation.augment(images, text, seed=seed, step=step).numpy()


def test_shift_moves_by_whole_pixels_and_fills_with_zeros():
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3)
    images = tf.constant(np.repeat(image, 3, axis=0))
    shifted = augmentation.shift(images, tf.constant([[0, 0], [1, -1], [-2, 0]]))
    np.testing.assert_array_equal(
        shifted,
        [
            [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
            [[0, 0, 0], [2, 3, 0], [5, 6, 0]],
            [[7, 8, 9], [0, 0, 0], [0, 0, 0]],
        ],
    )


def _spot(height, width, row, column):
    image = np.zeros((1, height, width), np.float32)
    image[0, row, column] = 1
    return tf.constant(image)


def test_rotation_is_clockwise_about_the_centre():
    quarter = augmentation.rotate_and_scale(_spot(5, 5, 0, 3), tf.constant([90.0]), tf.ones([1]))
    np.testing.assert_allclose(quarter, _spot(5, 5, 3, 4), atol=1e-5)
    half = augmentation.rotate_and_scale(_spot(4, 6, 0, 1), tf.constant([180.0]), tf.ones([1]))
    np.testing.assert_allclose(half, _spot(4, 6, 3, 4), atol=1e-5)


def test_scale_enlarges_about_the_centre_and_interpolates():
    image = np.zeros((1, 1, 7), np.float32)
    image[0, 0] = [9, 0, 4, 8, 4, 0, 9]
    enlarged = augmentation.rotate_and_scale(tf.constant(image), tf.zeros([1]), tf.constant([2.0]))
    np.testing.assert_allclose(enlarged[0, 0], [2, 4, 6, 8, 6, 4, 2], atol=1e-5)
    reduced = augmentation.rotate_and_scale(tf.constant(image), tf.zeros([1]), tf.constant([0.5]))
    np.testing.assert_allclose(reduced[0, 0], [0, 0, 0, 8, 0, 0, 0], atol=1e-5)


def test_each_image_is_changed_by_its_own_amount():
    images = tf.concat([_spot(5, 5, 0, 3)] * 2, axis=0)
    turned = augmentation.rotate_and_scale(images, tf.constant([90.0, 0.0]), tf.ones([2]))
    expected = tf.concat([_spot(5, 5, 3, 4), _spot(5, 5, 0, 3)], axis=0)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_strokes_become_thicker_by_a_cross_and_by_parts_of_it():
    spot = _spot(5, 5, 2, 2)
    once = np.zeros((5, 5))
    once[2, 1:4] = once[1:4, 2] = 1
    np.testing.assert_allclose(augmentation.widen(spot, tf.constant([1.0]), 1)[0], once)
    part = augmentation.widen(spot, tf.constant([0.25]), 1)[0]
    np.testing.assert_allclose(part, np.maximum(0.25 * once, spot[0]))
    # A pixel that is n steps away along rows and columns is reached by the n-th dilation.
    steps = np.abs(np.arange(5) - 2)
    away = steps[:, np.newaxis] + steps
    further = augmentation.widen(spot, tf.constant([1.5]), 2)[0]
    np.testing.assert_allclose(further, np.where(away <= 1, 1, np.where(away == 2, 0.5, 0)))


def test_strokes_become_thinner_by_half_as_much_and_keep_half_of_their_light():
    bar = np.zeros((1, 5, 7), np.float32)
    bar[..., 2:5] = 1
    thinner = augmentation.widen(tf.constant(bar), tf.constant([-1.0]), 1)
    np.testing.assert_allclose(thinner[0], [[0, 0, 0.5, 1, 0.5, 0, 0]] * 5)
    line = augmentation.widen(_spot(5, 5, 2, 2), tf.constant([-1.0]), 1)
    np.testing.assert_allclose(line, _spot(5, 5, 2, 2) / 2)
    both = tf.constant(np.concatenate([bar, bar]))
    same = augmentation.widen(both, tf.constant([0.0, -1.0]), 1)
    np.testing.assert_allclose(same[0], bar[0])
    np.testing.assert_allclose(same[1], thinner[0])


def test_contrast_multiplies_light_and_flip_mirrors_half_of_the_images(digits):
    grey = np.full((500, 2, 2), 200, np.uint8)
    grey[:, 0, 0] = 0
    changed = _augmented(grey, 'contrast:0.2')
    assert not changed[:, 0, 0].any()
    light = changed[:, 1, 1]
    assert light.min() in range(160, 163)
    assert light.max() in range(238, 241)
    assert _augmented(grey, 'contrast:1').max() == 255
    mirrored = [
        np.array_equal(after, before[:, ::-1])
        for before, after in zip(digits, _augmented(digits, 'flip'), strict=True)
    ]
    kept = (_augmented(digits, 'flip') == digits).all(axis=(1, 2))
    assert all(kept | mirrored)
    assert 16 < sum(mirrored) < 48


def test_the_shift_is_that_of_earlier_versions(digits):
    """A training that is interrupted goes on with the same batches, and results stay comparable."""
    digest = hashlib.sha256(_augmented(digits, 'shift:2').tobytes()).hexdigest()
    assert digest.startswith('7164bc4f7de470b28c7f')


def test_another_part_does_not_change_the_numbers_of_a_part(digits):
    nearly_none = 'rotate:1e-5,scale:1e-7,stroke:1e-4,contrast:1e-4'
    alone = _augmented(digits, 'shift:2')
    np.testing.assert_array_equal(_augmented(digits, f'shift:2,{nearly_none}'), alone)
    mirrored = _augmented(digits, 'flip')
    np.testing.assert_array_equal(_augmented(digits, f'{nearly_none},flip'), mirrored)
    np.testing.assert_array_equal(
        _augmented(mirrored, 'shift:2'), _augmented(digits, 'shift:2,flip')
    )


def test_parts_draw_different_numbers():
    """If they shared their numbers, the large images would be those turned clockwise."""
    spots = np.zeros((500, 41, 41), np.uint8)
    spots[:, 20, 40] = 255
    # Turned by up to 10 degrees and scaled by up to 20%, the spot tells by how much.
    changed = _augmented(spots, 'rotate:10,scale:0.2').astype(float)
    smaller = changed.sum(axis=(1, 2)) > 100  # the others have lost the spot
    assert 150 < smaller.sum() < 350
    place = np.arange(41) - 20
    down, right = (changed.sum(axis=axis) @ place for axis in (2, 1))
    degrees, reach = np.arctan2(down, right)[smaller], np.hypot(down, right)[smaller]
    reach /= changed.sum(axis=(1, 2))[smaller]
    assert abs(np.corrcoef(degrees, reach)[0, 1]) < 0.2
    assert np.degrees(np.abs(degrees)).max() == pytest.approx(10, abs=0.5)
    assert reach.min() == pytest.approx(16, abs=0.3)


def test_the_changes_depend_on_seed_step_and_place(digits):
    same = np.repeat(digits[:1], 64, axis=0)
    changed = _augmented(same, _ALL)
    assert len(np.unique(changed, axis=0)) > 60
    np.testing.assert_array_equal(_augmented(same, _ALL), changed)
    assert not np.array_equal(_augmented(same, _ALL, seed=4), changed)
    assert not np.array_equal(_augmented(same, _ALL, step=6), changed)
    assert _augmented(same, _ALL, seed=2**32 - 1).dtype == np.uint8


def test_no_part_leaves_images_as_they_are(digits):
    np.testing.assert_array_equal(_augmented(digits, 'none'), digits)


_EVERY_PART = 'shift:2,rotate:15,scale:0.1,stroke:1,flip,crop:20'


def test_a_channel_of_a_colour_image_is_changed_as_a_grey_image_would_be(digits):
    coloured = np.stack([digits, np.roll(digits, 1, 0), digits // 2], axis=-1)
    changed = _augmented(coloured, _EVERY_PART)
    assert changed.shape == (64, 20, 20, 3)
    for channel in range(3):
        np.testing.assert_array_equal(
            changed[..., channel], _augmented(coloured[..., channel], _EVERY_PART)
        )


def test_contrast_of_colours_is_about_the_mean_and_brightness_moves_it():
    image = np.full((500, 2, 2, 3), 100, np.uint8)
    image[:, 0] = 60  # the mean is 80
    changed = _augmented(image, 'contrast:0.8').astype(int)
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), 80, atol=0.5)
    spread = changed[:, 1, 0, 0] - changed[:, 0, 0, 0]
    assert spread.min() in range(8, 10)
    assert spread.max() in range(70, 73)
    changed = _augmented(image, 'brightness:63').astype(int)
    assert np.all(changed[:, 1] - changed[:, 0] == 40) == (changed[:, 0].min() > 0)
    assert changed[:, 0].min() == 0
    assert changed[:, 0].max() in range(120, 124)
    assert _augmented(image[..., 0], 'brightness:200').max() == 255


def test_crops_are_taken_everywhere():
    rows, columns = np.mgrid[:7, :9].astype(np.uint8)
    image = np.repeat(np.stack([rows, columns, rows], -1)[np.newaxis], 500, axis=0)
    changed = _augmented(image, 'crop:4')
    corners = {tuple(corner) for corner in changed[:, 0, 0, :2]}
    assert corners == {(row, column) for row in range(4) for column in range(6)}
    np.testing.assert_array_equal(changed[:, 3, 3] - changed[:, 0, 0], [[3, 3, 3]] * 500)
