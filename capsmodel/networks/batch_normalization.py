"""Batch normalization over all replicas of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.step import Step

# Keras' value; no variance is 0 in the quotient.
_EPSILON = 1e-3


class BatchNormalization(keras.layers.Layer):
    """Normalizes each channel: y = gamma (x - mean) / sqrt(variance + 0.001) + beta.

    This is algorithm 1 of Ioffe, Szegedy 2015 (arXiv:1502.03167). In training, mean and variance
    are those of the step's images on all replicas together, so that two replicas train as one does.
    Otherwise they are moving averages, non-trainable variables: checkpoints hold them, and for
    averaged weights `training.statistics` computes them again.

    float [n, height, width, channels] -> the same shape and dtype; mean and variance are computed
    in float32.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = (input_shape[-1],)
        weights: Any = {'autocast': False, 'shape': shape}
        self.gamma = self.add_weight(name='gamma', initializer='ones', **weights)
        self.beta = self.add_weight(name='beta', initializer='zeros', **weights)
        # Every replica has the same new value: one of them is enough.
        how: Any = {'trainable': False, 'aggregation': 'only_first_replica', **weights}
        self.mean = self.add_weight(name='mean', initializer='zeros', **how)
        self.variance = self.add_weight(name='variance', initializer='ones', **how)

    def call(self, inputs: tf.Tensor, step: Step | None = None) -> tf.Tensor:
        if step is None:
            factor, offset = self.affine()
            return tf.cast(tf.cast(inputs, tf.float32) * factor + offset, inputs.dtype)
        gamma, beta, old_mean, old_variance = self._values()
        normalize = _normalized if step.replicas == 1 else _normalized_together
        outputs, mean, variance = normalize(inputs, gamma, beta)
        self.mean.assign(old_mean + step.newest * (mean - old_mean))
        self.variance.assign(old_variance + step.newest * (variance - old_variance))
        return outputs

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Factor and offset, float32 [channels]: outside training, y = factor x + offset."""
        gamma, beta, mean, variance = self._values()
        factor = gamma * tf.math.rsqrt(variance + _EPSILON)
        return factor, beta - mean * factor

    def _values(self) -> list[tf.Tensor]:
        return [
            tf.convert_to_tensor(variable.value)
            for variable in (self.gamma, self.beta, self.mean, self.variance)
        ]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)


def _normalized(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The outputs, and the images' mean and variance [channels]: TensorFlow's kernel is fast."""
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=_EPSILON)
    # It estimates the variance of all images: count / (count - 1) times that of these.
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
    return outputs, mean, variance * tf.maximum(count - 1, 1) / count


def _normalized_together(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_normalized` for the images of all replicas together, each of which has as many."""
    context = tf.distribute.get_replica_context()

    def mean_of(values: tf.Tensor) -> tf.Tensor:
        means = tf.reduce_mean(values, axis=[0, 1, 2])
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, means)
        return total / context.num_replicas_in_sync

    values = tf.cast(x, tf.float32)
    mean = mean_of(values)
    variance = mean_of(tf.square(values - mean))
    factor = gamma * tf.math.rsqrt(variance + _EPSILON)
    return tf.cast((values - mean) * factor + beta, x.dtype), mean, variance
