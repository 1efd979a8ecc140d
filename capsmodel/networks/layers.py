"""The layers of a capsule network (Sabour, Frosst, Hinton 2017) as Keras layers."""

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks import native_winograd, winograd
from capsmodel.networks.choices import (
    PRIMARY_ALGORITHMS,
    ROUTINGS,
    check_choice,
    check_routing_options,
)
from capsmodel.networks.routing import by_parents, route_by_parents, squash

# From these on, 'auto' takes 'winograd'. The transform of the weights costs as much as a direct
# convolution of 8 images, and the gain must make up for the transforms of input and output.
_SMALLEST_WINOGRAD_BATCH = 16
_SMALLEST_WINOGRAD_GAIN = 2.5
# With weights that are transformed already. They are five times as many numbers as the kernel, and
# to read them takes as long as a few images.
_SMALLEST_PREPARED_BATCH = 4
# The most numbers, 64 MiB of them, of all patches of a few images that are multiplied at once.
_MOST_PATCH_FLOATS = 2**24

# Glorot's rule does not fit here: for a kernel of this shape it counts all children as inputs. With
# 0.05, and Glorot's rule for the convolutions below, capsules start far from saturation, at lengths
# of about 1e-5. Adam does not depend on the gradient's scale and brings them near their targets in
# a few dozen steps. In the first 80 steps of the paper's network on MNIST (64 images a step, one
# seed) 0.05 was ahead of 0.1, of 0.2, and of He's rule, which starts at lengths of about 0.2.
_DIGIT_CAPS_STDDEV = 0.05


class PrimaryCaps(keras.layers.Layer):
    """A convolution without padding, whose filters are grouped into squashed capsules.

    float [n, height, width, filters] -> float32 [n, grid_height * grid_width * channels, dim],
    where grid_height = (height - kernel_size) // strides + 1, and grid_width alike.

    Capsule (y * grid_width + x) * channels + k is the k-th one at row y and column x of the grid:
    positions are the outer order and channels the inner one. Its dim components are the adjacent
    filters k * dim to (k + 1) * dim - 1.

    Args:
        channels: capsules at each position of the grid.
        dim: components of a capsule.
        kernel_size: height and width of the convolution's kernel.
        strides: step of the convolution in both directions.
        algorithm: how the convolution is computed; variables are the same, results differ in
            rounding only. 'conv2d' is TensorFlow's own, 'winograd' is `networks.winograd`, always
            in float32. 'auto' takes 'winograd' where it is faster: for 16 images or more, without a
            GPU, in float32, with a kernel that it suits. For fewer images in a graph that does not
            know their number, as in an exported model, it multiplies patches of the images. Where
            it is known, as in training, the transforms are in C++ if they are compiled.

    Raises:
        ValueError: `algorithm` is not one of these, or, when the layer is built, the kernel is too
            large for 'winograd'.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        kernel_size: int,
        strides: int,
        algorithm: str = 'auto',
        **kwargs: Any,
    ) -> None:
        check_choice('the primary algorithm', algorithm, PRIMARY_ALGORITHMS)
        super().__init__(**kwargs)
        self.algorithm = algorithm
        self.channels = channels
        self.dim = dim
        self.kernel_size = kernel_size
        self.strides = strides

    def build(self, input_shape: Sequence[int | None]) -> None:
        if self.algorithm == 'winograd':
            winograd.check_kernel_size(self.kernel_size, self.strides)
        filters = self.channels * self.dim
        self.kernel = self.add_weight(
            name='kernel',
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], filters),
            initializer='glorot_uniform',
        )
        self.bias = self.add_weight(name='bias', shape=(filters,), initializer='zeros')

    def call(self, inputs: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        features = self._convolve(inputs, tf.convert_to_tensor(self.kernel), prepared)
        return self._capsules(features, inputs.shape, tf.shape(inputs)[0])

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
        return self._capsules(features, input_shape, input_shape[0])

    def _capsules(self, features: tf.Tensor, input_shape: Sequence[Any], n: Any) -> tf.Tensor:
        bias = tf.convert_to_tensor(self.bias)
        features = tf.nn.bias_add(tf.cast(features, bias.dtype), bias)
        _, children, dim = self.compute_output_shape(input_shape)
        # With -1 for n, a grid of another size would pass as more or fewer images.
        return squash(tf.reshape(features, [n, children, dim]))

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
            _, children, _ = self.compute_output_shape(inputs.shape)
            floats = children // self.channels * math.prod(kernel.shape[:3])
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

    def _winograd_suits(self, input_shape: Sequence[Any], dtype: tf.DType) -> bool:
        _, height, width, _ = input_shape
        return (
            dtype == tf.float32
            and not tf.config.list_logical_devices('GPU')
            and winograd.gain((height, width), self.kernel_size, self.strides)
            >= _SMALLEST_WINOGRAD_GAIN
        )

    def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[int | None, int, int]:
        n, height, width, _ = input_shape
        grid_height, grid_width = (
            (size - self.kernel_size) // self.strides + 1 for size in (height, width)
        )
        return n, grid_height * grid_width * self.channels, self.dim

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            'channels': self.channels,
            'dim': self.dim,
            'kernel_size': self.kernel_size,
            'strides': self.strides,
            'algorithm': self.algorithm,
        }


class DigitCaps(keras.layers.Layer):
    """One capsule for each class, from all the capsules below by routing by agreement.

    float [n, children, child_dim] -> float32 [n, parents, dim]. The predictions are
    u_hat_j|i = W_ij u_i (Eq. 2); W has the shape [children, parents, child_dim, dim] and starts at
    N(0, 0.05).

    Args:
        parents: number of capsules.
        dim: components of a capsule.
        iterations: routing iterations, at least 1.
        gradient: see `routing_by_agreement`.
        algorithm: how the capsules are routed; a name in `choices.ROUTINGS`.
        none_of_the_above: see `routing_by_agreement`.
        use_bias: whether s_j has a bias, which starts at 0. The paper's equations have none.

    Raises:
        ValueError: `iterations`, `gradient` or `algorithm` is not one of the allowed values.
    """

    def __init__(
        self,
        parents: int,
        dim: int,
        iterations: int = 3,
        gradient: str = 'all',
        algorithm: str = 'matmul',
        none_of_the_above: bool = False,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        check_routing_options(iterations, gradient)
        check_choice('the routing algorithm', algorithm, ROUTINGS)
        super().__init__(**kwargs)
        self.parents = parents
        self.dim = dim
        self.iterations = iterations
        self.gradient = gradient
        self.algorithm = algorithm
        self.none_of_the_above = none_of_the_above
        self.use_bias = use_bias
        self.bias: Any = None

    def build(self, input_shape: Sequence[int | None]) -> None:
        _, children, child_dim = input_shape
        self.kernel = self.add_weight(
            name='kernel',
            shape=(children, self.parents, child_dim, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=_DIGIT_CAPS_STDDEV),
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name='bias', shape=(self.parents, self.dim), initializer='zeros'
            )

    def call(self, inputs: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        if prepared is not None:
            return route_by_parents(inputs, prepared(), *self.options())
        return self.route(inputs, tf.convert_to_tensor(self.kernel))

    def prepare(self) -> tf.Tensor:
        """The kernel as 'matmul' takes it; `call` takes a function that returns it."""
        return by_parents(tf.cast(tf.cast(self.kernel, self.compute_dtype), tf.float32))

    def route(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The layer's outputs with the given kernel instead of its own."""
        module, _, name = ROUTINGS[self.algorithm].function.rpartition('.')
        function = getattr(importlib.import_module(module), name)
        return function(inputs, kernel, *self.options())

    def options(self) -> tuple[Any, ...]:
        """The arguments of `routing_by_agreement` after the kernel."""
        bias = self.bias
        if bias is not None:
            bias = tf.convert_to_tensor(bias)
        return self.iterations, self.gradient, self.none_of_the_above, bias

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return input_shape[0], self.parents, self.dim

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            'parents': self.parents,
            'dim': self.dim,
            'iterations': self.iterations,
            'gradient': self.gradient,
            'algorithm': self.algorithm,
            'none_of_the_above': self.none_of_the_above,
            'use_bias': self.use_bias,
        }
