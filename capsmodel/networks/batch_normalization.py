"""Batch normalization that all replicas share and that a convolution can take into its weights."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

_EPSILON = 1e-3
_MOMENTUM = 0.99


class BatchNormalization(keras.layers.Layer):
    """Batch normalization of each channel (Ioffe, Szegedy 2015, Algorithm 1).

    float [n, height, width, channels] -> the same:
    y = gamma (x - mean) / sqrt(variance + 0.001) + beta. In training, mean and variance are those
    of the batch, of all replicas together; otherwise those of `moving_mean` and `moving_variance`,
    which a step of training moves by 0.01 of the way to the batch's. The results are those of
    keras.layers.BatchNormalization(synchronized=True). On one replica, TensorFlow's own kernel
    computes them, which is faster.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        def weight(name: str, first: str, **options: Any) -> keras.Variable:
            return self.add_weight(
                name=name, shape=input_shape[-1:], initializer=first, autocast=False, **options
            )

        self.gamma, self.beta = weight('gamma', 'ones'), weight('beta', 'zeros')
        # The replicas have the same value, since they share the batch's mean and variance.
        moving = {'trainable': False, 'aggregation': 'only_first_replica'}
        self.moving_mean = weight('moving_mean', 'zeros', **moving)
        self.moving_variance = weight('moving_variance', 'ones', **moving)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training:
            factor, offset = self.affine()
            return inputs * tf.cast(factor, inputs.dtype) + tf.cast(offset, inputs.dtype)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            outputs, mean, variance = _normalized(inputs, gamma, beta)
        else:
            outputs, mean, variance = _normalized_together(inputs, gamma, beta, context)
        for variable, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kept = _MOMENTUM * tf.convert_to_tensor(variable)
            variable.assign(kept + (1 - _MOMENTUM) * tf.stop_gradient(value))
        return outputs

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Factor and offset, float32 [channels] each: y = factor x + offset, outside training."""
        gamma, beta, mean, variance = map(tf.convert_to_tensor, self.weights)
        factor = gamma * tf.math.rsqrt(variance + _EPSILON)
        return factor, beta - mean * factor

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)


def _normalized(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The outputs, and the batch's mean and variance [channels]."""
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=_EPSILON)
    # TensorFlow estimates the variance of all images: count / (count - 1) times the batch's.
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
    return outputs, mean, variance * tf.maximum(count - 1, 1) / count


def _normalized_together(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, context: tf.distribute.ReplicaContext
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_normalized` by the mean and variance of the whole batch of all replicas."""
    axes = [0, 1, 2]
    values = tf.cast(x, tf.float32)
    sums = [
        tf.cast(tf.size(x) // x.shape[-1], tf.float32),
        tf.reduce_sum(values, axes),
    ]
    count, total = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    mean = total / count
    squares = tf.reduce_sum(tf.square(values - mean), axes)
    variance = context.all_reduce(tf.distribute.ReduceOp.SUM, squares) / count
    factor = gamma * tf.math.rsqrt(variance + _EPSILON)
    return tf.cast((values - mean) * factor + beta, x.dtype), mean, variance
