"""The layers of a capsule network (Sabour, Frosst, Hinton 2017) as Keras layers."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.choices import ROUTINGS, check_choice, check_routing_options
from capsmodel.networks.routing import by_parents, route_by_parents, squash
from capsmodel.networks.strided_convolution import StridedConvolution

# Glorot's rule does not fit here: for a kernel of this shape it counts all children as inputs. With
# 0.05, and Glorot's rule for the convolutions below, capsules start far from saturation, at lengths
# of about 1e-5. Adam does not depend on the gradient's scale and brings them near their targets in
# a few dozen steps. In the first 80 steps of the paper's network on MNIST (64 images a step, one
# seed) 0.05 was ahead of 0.1, of 0.2, and of He's rule, which starts at lengths of about 0.2.
_DIGIT_CAPS_STDDEV = 0.05


class PrimaryCaps(StridedConvolution):
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
        algorithm: how the convolution is computed, see `StridedConvolution`.

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
        super().__init__(channels * dim, kernel_size, strides, algorithm, **kwargs)
        self.channels = channels
        self.dim = dim

    def call(self, inputs: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        features = super().call(inputs, prepared)
        return self._capsules(features, inputs.shape, tf.shape(inputs)[0])

    def of_phases(self, phases: tf.Tensor, input_shape: Sequence[Any]) -> tf.Tensor:
        features = super().of_phases(phases, input_shape)
        return self._capsules(features, input_shape, input_shape[0])

    def _capsules(self, features: tf.Tensor, input_shape: Sequence[Any], n: Any) -> tf.Tensor:
        _, children, dim = self.compute_output_shape(input_shape)
        # With -1 for n, a grid of another size would pass as more or fewer images.
        return squash(tf.reshape(features, [n, children, dim]))

    def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[int | None, int, int]:
        rows, columns = self._grid(input_shape)
        return input_shape[0], rows * columns * self.channels, self.dim

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), 'channels': self.channels, 'dim': self.dim}
        del config['filters']
        return config


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
