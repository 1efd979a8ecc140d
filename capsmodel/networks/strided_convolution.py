"""A convolution with a large kernel and a stride, computed in the way that is fastest."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks import native_winograd, toom_cook, winograd
from capsmodel.networks.choices import PRIMARY_ALGORITHMS, check_choice
from capsmodel.networks.phases import first_convolution

# From these on, 'auto' takes 'winograd'. The transform of the weights costs as much as a direct
# convolution of 8 images, and the gain must make up for the transforms of input and output.
_SMALLEST_WINOGRAD_BATCH = 16
_SMALLEST_WINOGRAD_GAIN = 2.5
# With weights that are transformed already. They are five times as many numbers as the kernel, and
# to read them takes as long as a few images.
_SMALLEST_PREPARED_BATCH = 4
# The most numbers, 64 MiB of them, of all patches of a few images that are multiplied at once.
_MOST_PATCH_FLOATS = 2**24


class StridedConvolution(keras.layers.Layer):
    """A convolution without padding, with a bias.

    float [n, height, width, channels] -> float [n, rows, columns, filters], where
    rows = (height - kernel_size) // strides + 1, and columns alike.

    Args:
        filters: how many numbers there are at each position.
        kernel_size: height and width of the kernel.
        strides: step in both directions.
        algorithm: how it is computed; variables are the same, results differ in rounding only.
            'conv2d' is TensorFlow's own, 'winograd' is `networks.winograd`, always in float32.
            'auto' takes 'winograd' where it is faster: for 16 images or more, without a GPU, in
            float32, with a kernel that it suits. For fewer images in a graph that does not know
            their number, as in an exported model, it multiplies patches of the images. Where it is
            known, as in training, the transforms are in C++ if they are compiled.

    Raises:
        ValueError: `algorithm` is not one of these, or, when the layer is built, the kernel is too
            large for 'winograd'.
    """

    def __init__(
        self, filters: int, kernel_size: int, strides: int, algorithm: str = 'auto', **kwargs: Any
    ) -> None:
        check_choice('the primary algorithm', algorithm, PRIMARY_ALGORITHMS)
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.algorithm = algorithm

    def build(self, input_shape: Sequence[int | None]) -> None:
        if self.algorithm == 'winograd':
            winograd.check_kernel_size(self.kernel_size, self.strides)
        self.kernel = self.add_weight(
            name='kernel',
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer='glorot_uniform',
        )
        self.bias = self.add_weight(name='bias', shape=(self.filters,), initializer='zeros')

    def call(self, inputs: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        """The outputs for float [n, height, width, channels].

        Args:
            inputs: As above; n may be unknown.
            prepared: Returns what `prepare` has returned for inputs of this shape, so that the
                kernel is not transformed again.
        """
        return self._biased(self._convolve(inputs, tf.convert_to_tensor(self.kernel), prepared))

    def phase_size(self, input_shape: Sequence[Any]) -> tuple[int, int] | None:
        """Rows and columns of each phase that `of_phases` takes; None: use `call` for these."""
        n, height, width, _ = input_shape
        if self.algorithm == 'conv2d' or n is None or n < _SMALLEST_WINOGRAD_BATCH:
            return None
        if not self._winograd_suits(input_shape, tf.as_dtype(self.compute_dtype)):
            return None
        return winograd.phase_size((height, width), self.kernel_size, self.strides)

    def of_phases(self, phases: tf.Tensor, input_shape: Sequence[Any]) -> tf.Tensor:
        """The result of `call` for inputs of the given shape, whose n is known.

        Args:
            phases: The inputs in the order that `winograd.conv2d_of_phases` takes, float32.
            input_shape: (n, height, width, filters), for which `phase_size` gives a size.
        """
        _, height, width, _ = input_shape
        size = (height, width)
        if self.algorithm == 'auto':
            kernel = tf.convert_to_tensor(self.kernel)
            features = native_winograd.conv2d_of_phases(phases, kernel, size, self.strides)
        else:  # 'winograd' needs nothing but TensorFlow
            features = winograd.conv2d_of_phases(
                phases, self.prepare(input_shape), size, self.kernel_size, self.strides
            )
        return self._biased(features)

    def _biased(self, features: tf.Tensor) -> tf.Tensor:
        bias = tf.convert_to_tensor(self.bias)
        return tf.nn.bias_add(tf.cast(features, bias.dtype), bias)

    def prepare(self, input_shape: Sequence[Any]) -> tf.Tensor:
        """The kernel as 'winograd' takes it for inputs of this shape.

        `call` takes a function that returns it: Keras would round a tensor to the precision of the
        layer.
        """
        _, height, width, _ = input_shape
        kernel = tf.cast(tf.cast(self.kernel, self.compute_dtype), tf.float32)
        return winograd.transform_kernel(kernel, (height, width), self.strides)

    def _convolve(
        self, inputs: tf.Tensor, kernel: tf.Tensor, prepared: Callable[[], tf.Tensor] | None
    ) -> tf.Tensor:
        def direct() -> tf.Tensor:
            return tf.nn.conv2d(inputs, kernel, self.strides, 'VALID')

        def transformed() -> tf.Tensor:
            x, w = (tf.cast(tensor, tf.float32) for tensor in (inputs, kernel))
            if prepared is not None:
                return winograd.conv2d_with(x, prepared(), self.kernel_size, self.strides)
            return winograd.conv2d(x, w, self.strides)

        def multiplied() -> tf.Tensor:
            # TensorFlow's own convolution brings all weights into another order first, each time,
            # and its `extract_patches` takes five times as long as this gather.
            _, height, width, channels = inputs.shape
            places = np.arange(height * width).reshape(height, width)
            windows = np.lib.stride_tricks.sliding_window_view(places, kernel.shape[:2])
            windows = windows[:: self.strides, :: self.strides]
            rows, columns, side, _ = windows.shape
            pixels = tf.reshape(inputs, [-1, height * width, channels])
            patches = tf.gather(pixels, windows.reshape(rows, columns, -1), axis=1)
            patches = tf.reshape(patches, [-1, rows, columns, side * side * channels])
            return tf.tensordot(patches, tf.reshape(kernel, [side * side * channels, -1]), 1)

        if self.algorithm == 'conv2d':
            return direct()
        if self.algorithm == 'winograd':
            return transformed()
        if not self._winograd_suits(inputs.shape, inputs.dtype):
            return direct()
        n = inputs.shape[0]
        if n is None:
            count = tf.shape(inputs)[0]
            smallest = _SMALLEST_WINOGRAD_BATCH if prepared is None else _SMALLEST_PREPARED_BATCH
            floats = math.prod(self._grid(inputs.shape)) * math.prod(kernel.shape[:3])
            return tf.case(
                [
                    (count >= smallest, transformed),
                    (count <= _MOST_PATCH_FLOATS // floats, multiplied),
                ],
                direct,
            )
        return transformed() if n >= _SMALLEST_WINOGRAD_BATCH else direct()

    def transformed_floats(self, input_shape: Sequence[Any]) -> int:
        """How many numbers 'winograd' stores for one image's transformed input; 0 if not used."""
        n, height, width, filters = input_shape
        suits = self._winograd_suits(input_shape, tf.as_dtype(self.compute_dtype))
        suits &= n is None or n >= _SMALLEST_WINOGRAD_BATCH
        if self.algorithm == 'conv2d' or (self.algorithm == 'auto' and not suits):
            return 0
        return filters * winograd.products((height, width), self.kernel_size, self.strides)

    def transformed_kernel_floats(self, input_shape: Sequence[Any]) -> int:
        """How many numbers the transformed kernel has; 0 if it is not used."""
        if not self.transformed_floats(input_shape):
            return 0
        return (toom_cook.MOST_POINTS * self.strides) ** 2 * input_shape[-1] * self.filters

    def floats_to_evaluate(self, input_shape: Sequence[Any]) -> int:
        """About how many numbers an image takes in an evaluation: its inputs and outputs together.

        The factors were fitted to the memory of CapsNet, as all in `capsnet_memory`.
        """
        _, *read = input_shape
        _, *made = self.compute_output_shape(input_shape)
        return 2 * math.prod(read) + 3 * self.transformed_floats(input_shape) + 4 * math.prod(made)

    def floats_to_train(self, input_shape: Sequence[Any]) -> int:
        """The same in a step of training."""
        _, *read = input_shape
        _, *made = self.compute_output_shape(input_shape)
        return 2 * math.prod(read) + 4 * self.transformed_floats(input_shape) + 8 * math.prod(made)

    def _winograd_suits(self, input_shape: Sequence[Any], dtype: tf.DType) -> bool:
        _, height, width, _ = input_shape
        return (
            dtype == tf.float32
            and not tf.config.list_logical_devices('GPU')
            and winograd.gain((height, width), self.kernel_size, self.strides)
            >= _SMALLEST_WINOGRAD_GAIN
        )

    def _grid(self, input_shape: Sequence[Any]) -> tuple[int, int]:
        """Rows and columns of the outputs."""
        rows, columns = ((size - self.kernel_size) // self.strides + 1 for size in input_shape[1:3])
        return rows, columns

    def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[Any, ...]:
        return input_shape[0], *self._grid(input_shape), self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            'filters': self.filters,
            'kernel_size': self.kernel_size,
            'strides': self.strides,
            'algorithm': self.algorithm,
        }


def after_first(
    first: keras.layers.Conv2D,
    second: StridedConvolution,
    pixels: tf.Tensor,
    prepared: Callable[[], tf.Tensor] | None = None,
) -> tf.Tensor:
    """second(first(pixels)). The pixels get no gradient if their number is known.

    Args:
        first: Has stride 1, no padding, and ReLU.
        second: What reads its outputs.
        pixels: float32 [n, height, width, channels].
        prepared: See `StridedConvolution.call`.
    """
    if prepared is None:
        shape = first.compute_output_shape(tuple(pixels.shape))
        size = second.phase_size(shape)
        if size is not None:
            kernel, bias = map(tf.convert_to_tensor, (first.kernel, first.bias))
            phases = first_convolution(pixels, kernel, bias, second.strides, size)
            return second.of_phases(phases, shape)
    return second(first(pixels), prepared=prepared)
