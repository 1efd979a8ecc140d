"""Pairs of digits that lie on top of each other, and those of the steps of a training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from capsmodel.data import augmentation, dataset

# Empty pixels that each image gets on each side: 28x28 becomes 36x36.
PADDING = 4
# MNIST leaves four pixels empty around a digit, and the padding is as many.
MOST_SHIFT = 8

# Streams of random numbers; smaller ones belong to augmentation and to layers.
_PARTNERS, _OFFSETS = 2000, 2001


class Pairs(NamedTuple):
    """Pairs of digits of different classes, as arrays or as tensors.

    Attributes:
        images: uint8 [n, height, width], one digit over the other.
        singles: uint8 [n, 2, height, width], each digit alone, where it lies in the image.
        labels: int64 [n, 2], their classes.
    """

    images: np.ndarray | tf.Tensor
    singles: np.ndarray | tf.Tensor
    labels: np.ndarray | tf.Tensor


def overlaid(digits: tf.Tensor, offsets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads the two digits of each pair, moves them, and lays one over the other.

    Light adds up, and 255 is the most (Sabour, Frosst, Hinton 2017, section 6).

    Args:
        digits: uint8 [n, 2, height, width], n known.
        offsets: int32 [n, 2, 2], by how many pixels each digit is moved down and to the right.
            Beyond PADDING, an edge of its image is cut off: with 6 pixels, one in a hundred test
            digits of MNIST loses some of its light, 0.02% of the light of all.

    Returns:
        The images, uint8 [n, height + 2 * PADDING, width + 2 * PADDING], and the digits alone, as
        `Pairs` describes them.
    """
    count = digits.shape[0]
    each = tf.reshape(digits, [2 * count, *digits.shape[2:]])
    padded = tf.pad(each, [[0, 0], [PADDING, PADDING], [PADDING, PADDING]])
    moved = augmentation.shift(padded, tf.reshape(offsets, [2 * count, 2]))
    singles = tf.reshape(moved, [count, 2, *moved.shape[1:]])
    light = tf.reduce_sum(tf.cast(singles, tf.int32), axis=1)
    return tf.cast(tf.minimum(light, 255), tf.uint8), singles


def check_shift(shift: int) -> None:
    """Raises ValueError unless a digit that is moved by `shift` pixels stays in the image."""
    if not 0 <= shift <= MOST_SHIFT:
        raise ValueError(f'A digit can be shifted by 0 to {MOST_SHIFT} pixels, not by {shift}')


class TrainingPairs:
    """The pairs of each step of a training; they depend on the arguments and the step alone.

    The first digits are those of `dataset.training_batch`: an epoch has each image once. The second
    one is any image of any other class, all of them equally likely.

    Args:
        data: Images, uint8 [n, height, width], with labels.
        shift: Each digit is moved by up to this many pixels each way, all equally likely.
        seed: Decides the order, the partners and how far the digits are moved.
        batch_size: Pairs a step.

    Raises:
        ValueError: There are fewer images than a step has pairs, all images are of one class, or
            `shift` is out of bounds.
    """

    def __init__(
        self, data: dataset.LabeledImages, shift: int, *, seed: int, batch_size: int
    ) -> None:
        check_shift(shift)
        labels, count = data.labels, len(data.labels)
        if count < batch_size:
            raise ValueError(
                f'{batch_size} pairs a step are more than the {count} images: lower BATCH_SIZE'
            )
        if len(np.unique(labels)) < 2:
            raise ValueError('A pair needs images of two classes, and all are of the same one')
        self._data = dataset.for_graph(data)
        self._shift = shift
        self._seed = seed
        self._batch_size = batch_size
        # The images by class, and of each class its first place there and its size.
        self._by_class = tf.constant(np.argsort(labels, kind='stable'))
        sizes = np.bincount(labels)
        self._sizes = tf.constant(sizes)
        self._first = tf.constant(np.cumsum(sizes) - sizes)

    def batch(self, step: tf.Tensor) -> Pairs:
        """The pairs of a step, int64 scalar, counted from 0: tensors."""
        count = self._batch_size
        images, labels = dataset.training_batch(
            self._data, step, seed=self._seed, batch_size=count, augmentation='none'
        )
        partners, other_labels = dataset.rows_at(self._data, self._partners(labels, step))
        offsets = tf.random.stateless_uniform(
            [count, 2, 2],
            self._stream(step, _OFFSETS),
            minval=-self._shift,
            maxval=self._shift + 1,
            dtype=tf.int32,
        )
        merged, singles = overlaid(tf.stack([images, partners], axis=1), offsets)
        return Pairs(merged, singles, tf.stack([labels, other_labels], axis=1))

    def dataset(self, start: int, stop: int) -> tf.data.Dataset:
        """The pairs of the steps from `start` to before `stop`."""
        batches = tf.data.Dataset.range(start, stop).map(
            self.batch, num_parallel_calls=tf.data.AUTOTUNE
        )
        return dataset.untuned(batches.prefetch(2))

    def _partners(self, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """The place of an image of another class for each label: int64 [batch_size]."""
        first, size = tf.gather(self._first, labels), tf.gather(self._sizes, labels)
        others = tf.cast(self._by_class.shape[0] - size, tf.float64)
        random = tf.random.stateless_uniform(
            labels.shape, self._stream(step, _PARTNERS), dtype=tf.float64
        )
        place = tf.cast(random * others, tf.int64)  # among the images without those of the class
        return tf.gather(self._by_class, tf.where(place < first, place, place + size))

    def _stream(self, step: tf.Tensor, number: int) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in(tf.stack([self._seed, step]), number)
