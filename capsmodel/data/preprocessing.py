"""The preprocessing of Transform: a picture becomes raw pixels, label and id stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from capsmodel.data import features, images


def preprocessing_fn(
    inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """The function that TFX Transform calls; it handles each example by itself.

    Args:
        inputs: The raw features, n examples: IMAGE string (PNG or JPEG), LABEL int64, ID string.
        custom_config: `image_height`, `image_width` and `framing`, see `images.decode_images`.

    Returns:
        IMAGE string [n], height * width bytes each; LABEL int64 [n]; ID string [n].
    """
    pixels = images.decode_images(
        _one_each(inputs[features.IMAGE]),
        custom_config['image_height'],
        custom_config['image_width'],
        custom_config['framing'],
    )
    return {
        features.IMAGE: _to_bytes(pixels),
        features.LABEL: _one_each(inputs[features.LABEL]),
        features.ID: _one_each(inputs[features.ID]),
    }


def raw_pixels(transformed_images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Decodes the IMAGE of `preprocessing_fn`.

    Args:
        transformed_images: string [n], height * width bytes each, row by row.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        uint8 [n, height, width].

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if an image has not height * width bytes.
    """
    pixels = tf.io.decode_raw(transformed_images, tf.uint8)
    return tf.reshape(pixels, [tf.size(transformed_images), height, width])


def _one_each(values: tf.Tensor) -> tf.Tensor:
    """[n] or [n, 1] to [n]; raises if there are more values than examples."""
    return tf.reshape(values, [tf.shape(values)[0]])


def _to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 [n, height, width] to string [n]."""
    # TensorFlow has no inverse of decode_raw: look each value up and join the bytes.
    table = tf.constant([bytes([value]) for value in range(256)])
    rows = tf.reshape(pixels, [tf.shape(pixels)[0], pixels.shape[1] * pixels.shape[2]])
    return tf.strings.reduce_join(tf.gather(table, tf.cast(rows, tf.int32)), axis=1)
