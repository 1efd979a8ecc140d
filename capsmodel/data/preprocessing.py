"""The preprocessing of Transform: a picture becomes raw pixels, label and id stay the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from capsmodel.data import features, images


def preprocessing_fn(
    inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """The function that TFX Transform calls; it handles each example by itself.

    Args:
        inputs: The raw features, n examples: IMAGE string (PNG or JPEG), LABEL int64, ID string.
        custom_config: `image_height`, `image_width`, `framing` and `channels`, see
            `images.decode_images`.

    Returns:
        IMAGE string [n], height * width * channels bytes each; LABEL int64 [n]; ID string [n].
    """
    pixels = images.decode_images(
        _one_each(inputs[features.IMAGE]),
        custom_config['image_height'],
        custom_config['image_width'],
        custom_config['framing'],
        custom_config['channels'],
    )
    return {
        features.IMAGE: _to_bytes(pixels),
        features.LABEL: _one_each(inputs[features.LABEL]),
        features.ID: _one_each(inputs[features.ID]),
    }


def raw_pixels(transformed_images: tf.Tensor, shape: Sequence[int], crop: int = 0) -> tf.Tensor:
    """Decodes the IMAGE of `preprocessing_fn`.

    Args:
        transformed_images: string [n], row by row; a colour pixel has three bytes.
        shape: Of an image: (height, width), or (height, width, 3) of colour images.
        crop: Rows and columns in the middle of each image that are kept; 0: all.

    Returns:
        uint8 [n, *shape], or with a crop [n, crop, crop] and [n, crop, crop, 3].

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if an image has another number of bytes.
    """
    pixels = tf.io.decode_raw(transformed_images, tf.uint8)
    images = tf.reshape(pixels, [tf.size(transformed_images), *shape])
    if not crop:
        return images
    top, left = ((size - crop) // 2 for size in shape[:2])
    return images[:, top : top + crop, left : left + crop]


def _one_each(values: tf.Tensor) -> tf.Tensor:
    """[n] or [n, 1] to [n]; raises if there are more values than examples."""
    return tf.reshape(values, [tf.shape(values)[0]])


def _to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 [n, height, width], or [n, height, width, 3], to string [n]."""
    # TensorFlow has no inverse of decode_raw: look each value up and join the bytes.
    table = tf.constant([bytes([value]) for value in range(256)])
    rows = tf.reshape(pixels, [tf.shape(pixels)[0], math.prod(pixels.shape[1:])])
    return tf.strings.reduce_join(tf.gather(table, tf.cast(rows, tf.int32)), axis=1)
