"""Training images of the study, in the form in which Transform writes them."""

from __future__ import annotations

import os
import pathlib
import uuid

import numpy as np
import tensorflow as tf

from capsmodel.data.dataset import LabeledImages
from components import image_examples


def chosen(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which images are learned from: as many of each class, as far as that goes.

    Args:
        labels: integers [n] of all images in the order of their ids.
        count: How many are chosen; 0: all.
        seed: Decides which.

    Returns:
        Their places, integers [count], in a random order. A larger count has the images of a
        smaller one, too, if the classes have enough images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if not count:
        return order
    # The rank of each image among those of its class: the first of each class come first.
    shuffled = labels[order]
    ranks = np.empty(len(order), np.int64)
    for label in np.unique(shuffled):
        is_label = shuffled == label
        ranks[is_label] = np.arange(np.count_nonzero(is_label))
    return order[np.argsort(ranks, kind='stable')[:count]]


def write(
    images: LabeledImages, path: pathlib.Path, *, count: int, views: int, seed: int, pad: int = 0
) -> None:
    """Writes images over and over, so that an epoch of them has a number of views.

    A training of one epoch then has the same steps however few images there are, and sees each of
    them about equally often.

    Args:
        images: All training images.
        path: The file to write, a TFRecord compressed by gzip. It is whole when it is there.
        count: How many images are learned from; 0: all.
        views: How many examples are written.
        seed: Decides which images.
        pad: Black pixels that are added at each side.
    """
    places = chosen(images.labels, count, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.{uuid.uuid4().hex}')
    room = ((0, 0), (pad, pad), (pad, pad))
    try:
        options = tf.io.TFRecordOptions('GZIP', compression_level=1)
        with tf.io.TFRecordWriter(os.fspath(unfinished), options) as writer:
            for first in range(0, views, 1024):
                numbers = np.arange(first, min(first + 1024, views))
                rows = places[numbers % len(places)]
                pixels = np.pad(images.images[rows], room)
                for number, label, image in zip(numbers, images.labels[rows], pixels, strict=True):
                    identifier = f'{number:08}'.encode()
                    writer.write(image_examples.serialized(image.tobytes(), label, identifier))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
