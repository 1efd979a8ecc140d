"""The pairs of a training: a function of seed and step, and each partner as likely as another."""

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples

from capsmodel.data.dataset import LabeledImages
from study.overlap.pairs import TrainingPairs, overlaid

_CLASSES = np.array([0] * 5 + [1] * 2 + [3] * 3)


def _numbered(labels):
    """Images of 3x3 pixels, each in a light of its own."""
    lights = np.arange(1, len(labels) + 1, dtype=np.uint8)
    return LabeledImages(np.tile(lights[:, np.newaxis, np.newaxis], (1, 3, 3)), labels)


def _batches(pairs, steps):
    return [[values.numpy() for values in batch] for batch in pairs.dataset(0, steps)]


def test_overlaid_worked_by_hand():
    digits = tf.constant([[[[1, 200], [3, 4]], [[5, 100], [7, 8]]]], tf.uint8)
    images, singles = overlaid(digits, tf.constant([[[0, 0], [-1, 2]]]))
    expected = np.zeros((2, 10, 10), np.uint8)
    expected[0, 4:6, 4:6] = [[1, 200], [3, 4]]
    expected[1, 3:5, 6:8] = [[5, 100], [7, 8]]
    np.testing.assert_array_equal(singles[0], expected)
    np.testing.assert_array_equal(images[0], expected.sum(axis=0))


def test_light_adds_up_to_255_at_most():
    digits = tf.constant([[[[200]], [[100]]]], tf.uint8)
    images, _ = overlaid(digits, tf.zeros([1, 2, 2], tf.int32))
    assert images.numpy()[0, 4, 4] == 255
    assert images.numpy().sum() == 255


def test_a_digit_leaves_the_image_where_it_is_moved_beyond_the_padding():
    digits = tf.ones([1, 2, 28, 28], tf.uint8)
    _, singles = overlaid(digits, tf.constant([[[6, 0], [0, -6]]]))
    np.testing.assert_array_equal(singles.numpy().sum(axis=(2, 3)), [[26 * 28, 28 * 26]])


def test_an_epoch_has_each_image_as_the_first_digit_and_partners_of_other_classes():
    pairs = TrainingPairs(_numbered(_CLASSES), 0, seed=1, batch_size=2)
    batches = _batches(pairs, 10)
    for epoch in np.split(np.concatenate([singles for _, singles, _ in batches]), 2):
        assert sorted(epoch[:, 0, 4, 4]) == list(range(1, 11))
    for images, singles, labels in batches:
        np.testing.assert_array_equal(_CLASSES[singles[:, :, 4, 4].astype(int) - 1], labels)
        assert (labels[:, 0] != labels[:, 1]).all()
        np.testing.assert_array_equal(images, singles.sum(axis=1))


def test_all_images_of_other_classes_are_equally_likely_partners():
    pairs = TrainingPairs(_numbered(_CLASSES), 0, seed=1, batch_size=10)
    singles = np.concatenate([batch[1] for batch in _batches(pairs, 300)])[:, :, 4, 4]
    for first in range(1, 11):
        partners = np.bincount(singles[singles[:, 0] == first, 1], minlength=11)[1:]
        is_other = _CLASSES[first - 1] != _CLASSES
        assert (partners[~is_other] == 0).all()
        expected = 300 / is_other.sum()
        assert (abs(partners[is_other] - expected) < 5 * np.sqrt(expected)).all()


def test_both_digits_reach_every_offset():
    pairs = TrainingPairs(_numbered(_CLASSES), 2, seed=1, batch_size=10)
    singles = np.concatenate([batch[1] for batch in _batches(pairs, 60)])
    for digit in range(2):
        corners = [np.argwhere(single[digit])[0] - 4 for single in singles]
        places, counts = np.unique(corners, axis=0, return_counts=True)
        assert places.tolist() == [[down, right] for down in range(-2, 3) for right in range(-2, 3)]
        assert counts.min() > 5


def test_a_step_can_be_repeated_and_another_seed_is_another_training():
    digits, _ = transformed_examples.digits()
    one, again, other = (
        TrainingPairs(digits, 4, seed=seed, batch_size=20).batch(tf.constant(7, tf.int64))
        for seed in (1, 1, 2)
    )
    for values, expected in zip(again, one, strict=True):
        np.testing.assert_array_equal(values, expected)
    assert (one.labels.numpy() != other.labels.numpy()).any()
    following = TrainingPairs(digits, 4, seed=1, batch_size=20).batch(tf.constant(8, tf.int64))
    assert (one.singles.numpy()[:, 1] != following.singles.numpy()[:, 1]).any()


@pytest.mark.parametrize(
    ('labels', 'shift', 'batch_size', 'error'),
    [
        ([3, 3, 3], 4, 2, 'A pair needs images of two classes, and all are of the same one'),
        ([1, 2, 3], 4, 4, '4 pairs a step are more than the 3 images: lower BATCH_SIZE'),
        ([1, 2, 3], -1, 2, 'A digit can be shifted by 0 to 8 pixels, not by -1'),
    ],
)
def test_what_cannot_be_paired_is_said(labels, shift, batch_size, error):
    with pytest.raises(ValueError, match=error):
        TrainingPairs(_numbered(np.array(labels)), shift, seed=1, batch_size=batch_size)
