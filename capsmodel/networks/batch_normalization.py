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

    float [n, ..., channels] -> the same shape and dtype; everything is computed in float32.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        how: Any = {'shape': (input_shape[-1],), 'autocast': False}
        self.gamma = self.add_weight(name='gamma', initializer='ones', **how)
        self.beta = self.add_weight(name='beta', initializer='zeros', **how)
        # Every replica has the same new value: one of them is enough.
        how |= {'trainable': False, 'aggregation': 'only_first_replica'}
        self.mean = self.add_weight(name='mean', initializer='zeros', **how)
        self.variance = self.add_weight(name='variance', initializer='ones', **how)

    def call(self, inputs: tf.Tensor, step: Step | None = None) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        mean, variance, gamma, beta = (
            tf.convert_to_tensor(variable.value)
            for variable in (self.mean, self.variance, self.gamma, self.beta)
        )
        if step is not None:
            old_mean, old_variance = mean, variance
            axes = list(range(len(x.shape) - 1))
            mean = _over_replicas(tf.reduce_mean(x, axes), step)
            variance = _over_replicas(tf.reduce_mean(tf.square(x - mean), axes), step)
            self.mean.assign(old_mean + step.newest * (mean - old_mean))
            self.variance.assign(old_variance + step.newest * (variance - old_variance))
        scale = gamma * tf.math.rsqrt(variance + _EPSILON)
        return tf.cast(x * scale + (beta - mean * scale), inputs.dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)


def _over_replicas(mean: tf.Tensor, step: Step) -> tf.Tensor:
    """The mean of the replicas' means, each over as many numbers."""
    if step.replicas == 1:
        return mean
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, mean) / step.replicas
