"""Batch normalization: its equation, its gradients and its moving averages."""

import dataclasses

import numpy as np
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.step import Step

_X = np.random.default_rng(0).normal(3, 2, (6, 4, 5, 3)).astype(np.float32)


def _layer():
    layer = BatchNormalization()
    layer.build((None, 4, 5, 3))
    layer.gamma.assign([1, 2, 3])
    layer.beta.assign([0.5, 0, -1])
    return layer


def _step(number=0, **changes):
    step = Step.on_this_replica(0, tf.constant(number), 1, 6)
    return dataclasses.replace(step, **changes)


def test_training_normalizes_by_the_batch_as_keras_does():
    layer, other = _layer(), tf.keras.layers.BatchNormalization()
    other.build((None, 4, 5, 3))
    other.set_weights(layer.get_weights())
    results = []
    for call in (lambda x: layer(x, step=_step(newest=0.01)), lambda x: other(x, training=True)):
        x = tf.constant(_X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
            loss = tf.reduce_sum(y * tf.sin(tf.range(3, dtype=tf.float32) + x))
        results.append((y, tape.gradient(loss, x)))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-4)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)
    for ours, keras in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras, rtol=1e-3)


def test_answers_use_the_moving_averages():
    layer = _layer()
    layer(_X, step=_step(newest=1.0))
    mean, variance = _X.mean(axis=(0, 1, 2)), _X.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(layer.variance, variance, rtol=1e-4)
    expected = np.array([1, 2, 3]) * (_X - mean) / np.sqrt(variance + 1e-3) + [0.5, 0, -1]
    np.testing.assert_allclose(layer(_X), expected, atol=1e-4)
    # An answer changes nothing, and does not depend on the other images.
    np.testing.assert_allclose(layer(_X[:1]), expected[:1], atol=1e-4)
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-4)


def test_a_short_training_forgets_the_values_that_averages_begin_with():
    layer = _layer()
    for number in range(20):
        layer(_X / 100, step=_step(number))
    np.testing.assert_allclose(layer.mean, _X.mean(axis=(0, 1, 2)) / 100, rtol=1e-3)
    np.testing.assert_allclose(layer.variance, _X.var(axis=(0, 1, 2)) / 1e4, rtol=1e-2)


def test_bfloat16_goes_through():
    layer = BatchNormalization(dtype='mixed_bfloat16')
    y = layer(tf.cast(_X, tf.bfloat16), step=_step())
    assert (y.dtype, layer.mean.dtype) == (tf.bfloat16, 'float32')
    np.testing.assert_allclose(tf.reduce_mean(tf.cast(y, tf.float32), axis=[0, 1, 2]), 0, atol=0.01)
