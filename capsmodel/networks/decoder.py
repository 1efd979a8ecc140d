"""The decoder of a capsule network (Sabour, Frosst, Hinton 2017) as a Keras layer."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class Decoder(keras.layers.Layer):
    """Reconstructs an image from masked capsules with fully connected layers (Section 4.1).

    float [n, features] -> float32 [n, *shape] in [0, 1]. The hidden layers have ReLU units, the
    last one has a sigmoid unit for each pixel and channel.

    Args:
        units: sizes of the hidden layers.
        shape: of one image: rows, columns and, of colour images, channels.
    """

    def __init__(self, units: Sequence[int], shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.shape = tuple(shape)
        # Each layer is an attribute: tf.train.Checkpoint does not see layers in a Keras list.
        for number, size in enumerate(self.units):
            dense = keras.layers.Dense(size, activation='relu', dtype=self.dtype_policy)
            setattr(self, f'hidden_{number}', dense)
        self.pixel_layer = keras.layers.Dense(math.prod(self.shape), dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        for layer in [*self._hidden_layers(), self.pixel_layer]:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = inputs
        for layer in self._hidden_layers():
            x = layer(x)
        # The sigmoid is always computed in float32, even if the products are not.
        pixels = tf.sigmoid(tf.cast(self.pixel_layer(x), tf.float32))
        return tf.reshape(pixels, [tf.shape(inputs)[0], *self.shape])

    def _hidden_layers(self) -> list[keras.layers.Dense]:
        return [getattr(self, f'hidden_{number}') for number in range(len(self.units))]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return input_shape[0], *self.shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            'units': list(self.units),
            'shape': list(self.shape),
        }
