"""Tells an image of one of the classes from any other: a blank sheet, a shirt among digits.

A network answers one of its classes whatever it is given. Where it has seen nothing like the image,
its highest score is low, the next one is nearly as high, and the decoder, if there is one, cannot
draw the image from the capsule. Besides, a filled shape is no stroke. The guard refuses an image
that has less of one of these than nearly all images of the classes have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.data import ink
from capsmodel.data.stored_images import StoredImages
from capsmodel.networks import memory
from capsmodel.networks.losses import reconstruction_loss
from capsmodel.networks.network import Network

# Images that the thresholds are computed from: with 5,000, a rate of 5% has a standard error of
# 0.3%.
_MOST_IMAGES = 5000
# What is near to darkness, as a fraction of the image's shorter side: 2 of 28 pixels.
_NEAR = 2 / 28
# Halvings of the interval that holds the common quantile.
_HALVINGS = 30


def measures(
    images: tf.Tensor, scores: tf.Tensor, reconstructions: tf.Tensor | None = None
) -> tf.Tensor:
    """What the guard looks at; an image of one of the classes has much of each.

    In this order: the highest score; what it is higher than the next one; the share
    of the image's light that is near to darkness, which is 1 for thin strokes and small for filled
    shapes; the share of the image's squares that its reconstruction explains.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        scores: float32 [n, classes], of capsules their lengths.
        reconstructions: float32 of the same shape, in [0, 1], from the capsule with the
            highest score; None for a network without a decoder.

    Returns:
        float32 [n, 3], or [n, 4] with reconstructions.
    """
    highest = tf.math.top_k(scores, 2).values
    light = tf.cast(images, tf.float32)
    if len(images.shape) == 4:
        light = tf.reduce_mean(light, axis=3)
    side = 2 * max(1, round(_NEAR * min(light.shape[1:]))) + 1
    inner = ink.smallest_near(light, side)
    solid = tf.math.divide_no_nan(
        tf.reduce_sum(inner, axis=[1, 2]), tf.reduce_sum(light, axis=[1, 2])
    )
    columns = [highest[:, 0], highest[:, 0] - highest[:, 1], 1 - solid]
    if reconstructions is not None:
        whole = reconstruction_loss(images, tf.zeros_like(reconstructions))
        error = reconstruction_loss(images, reconstructions)
        columns.append(tf.math.divide_no_nan(whole - error, whole))
    return tf.stack(columns, axis=1)


def is_known(images: tf.Tensor, measured: tf.Tensor, thresholds: np.ndarray) -> tf.Tensor:
    """bool [n]: whether an image is one of the classes; never for an image of one colour only.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        measured: What `measures` returns for them.
        thresholds: What `thresholds` returns.
    """
    is_blank = tf.reduce_all(images == images[:, :1, :1], axis=range(1, len(images.shape)))
    return ~is_blank & tf.reduce_all(measured >= thresholds, axis=1)


def thresholds(
    model: Network, images: np.ndarray | StoredImages, false_alarms: float
) -> np.ndarray:
    """The least of each measure that an image of the classes must have.

    All of them are the same quantile of their measure. It is the largest one with which at most
    `false_alarms` of the images are refused.

    Args:
        model: The network.
        images: uint8 [n, *image_shape], images of the classes that it has not learned from.
        false_alarms: The fraction of these images that may be refused.

    Returns:
        float32 [3], or [4] if the network has a decoder.
    """
    rows = np.arange(0, len(images), -(-len(images) // _MOST_IMAGES))
    pieces = -(-len(rows) // memory.images_at_once(model))
    measured = np.concatenate(
        [
            measured_by(model, images[piece], model(images[piece])).numpy()
            for piece in np.array_split(rows, pieces)
        ]
    )
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        refused = np.any(measured < np.quantile(measured, middle, axis=0), axis=1)
        low, high = (middle, high) if np.mean(refused) <= false_alarms else (low, middle)
    return np.quantile(measured, low, axis=0).astype(np.float32)


def measured_by(model: Network, images: tf.Tensor, outputs: Any) -> tf.Tensor:
    """What `measures` returns for images and the network's outputs for them.

    The decoder, if there is one, reconstructs from the capsule with the highest score.
    """
    scores = model.scores(outputs)
    if not model.config.has_decoder:
        return measures(images, scores)
    reconstructions = model.reconstruct(model.capsules(outputs), tf.argmax(scores, axis=-1))
    return measures(images, scores, reconstructions)
