"""What makes large images small before the first convolution of a capsule network."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

# The filters of the first convolution and of the others. The 9x9 convolution behind them takes 81
# products for each channel and output: with 32 channels and 20x20 outputs, as many as the paper's
# whole network on MNIST.
_FIRST_FILTERS, _FILTERS = 16, 32
_KERNEL_SIZE = 3


class Stem(keras.layers.Layer):
    """Strided convolutions of 3x3 with ReLU.

    float [n, height, width, channels] -> float [n, rows, columns, filters]; a stride of 2 halves
    rows or columns, rounded up. Nothing of this is in Sabour, Frosst, Hinton 2017: their networks
    have 6x6 positions of primary capsules on 28x28 pixels, and would have 104x104 on 224x224.

    Args:
        strides: for each convolution, the rows and the columns that it steps by.
    """

    def __init__(self, strides: Sequence[tuple[int, int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strides = tuple(tuple(pair) for pair in strides)
        # Each layer is an attribute: tf.train.Checkpoint does not see layers in a Keras list.
        for number, pair in enumerate(self.strides):
            convolution = keras.layers.Conv2D(
                _FILTERS if number else _FIRST_FILTERS,
                _KERNEL_SIZE,
                strides=pair,
                padding='same',
                activation='relu',
                dtype=self.dtype_policy,
            )
            setattr(self, f'convolution_{number}', convolution)

    def build(self, input_shape: Sequence[int | None]) -> None:
        for layer in self._convolutions():
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for layer in self._convolutions():
            inputs = layer(inputs)
        return inputs

    def _convolutions(self) -> list[keras.layers.Conv2D]:
        return [getattr(self, f'convolution_{number}') for number in range(len(self.strides))]

    def output_shapes(self, input_shape: Sequence[int | None]) -> list[tuple[int | None, ...]]:
        """The shape of the outputs of each convolution."""
        shapes = []
        for layer in self._convolutions():
            input_shape = layer.compute_output_shape(input_shape)
            shapes.append(tuple(input_shape))
        return shapes

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return self.output_shapes(input_shape)[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'strides': [list(pair) for pair in self.strides]}
