"""Batch normalization: Keras' results, the moving statistics, and replicas."""

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization

_X = np.random.default_rng(0).normal(2, 3, size=(6, 4, 5, 3)).astype(np.float32)


def _pair():
    layers = BatchNormalization(), keras.layers.BatchNormalization()
    for layer in layers:
        layer.build(_X.shape)
        layer.gamma.assign([0.5, 1.0, 2.0])
        layer.beta.assign([-1.0, 0.0, 3.0])
    return layers


def _outputs_and_gradients(layer, x, weights):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
        value = tf.reduce_sum(weights * outputs)
    return [outputs, *tape.gradient(value, [x, *layer.trainable_variables])]


def test_it_is_that_of_keras():
    layers = _pair()
    weights = np.random.default_rng(1).normal(size=_X.shape).astype(np.float32)
    for _ in range(2):
        ours, theirs = (_outputs_and_gradients(layer, _X, weights) for layer in layers)
        for actual, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    for actual, expected in zip(*(layer.weights for layer in layers), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(*(layer(_X) for layer in layers), rtol=1e-5, atol=1e-5)
    factor, offset = layers[0].affine()
    np.testing.assert_allclose(layers[0](_X), factor * _X + offset, rtol=1e-5)


def test_replicas_share_mean_and_variance():
    devices = tf.config.list_logical_devices('CPU')
    if len(devices) < 2:
        raise AssertionError('the test session has two logical devices')
    alone, _ = _pair()
    weights = np.random.default_rng(1).normal(size=_X.shape).astype(np.float32)
    expected = _outputs_and_gradients(alone, _X, weights)
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices[:2]])
    with strategy.scope():
        together, _ = _pair()

    @tf.function
    def step():
        def replica():
            context = tf.distribute.get_replica_context()
            half = 3 * context.replica_id_in_sync_group
            results = _outputs_and_gradients(
                together, tf.constant(_X)[half : half + 3], weights_of(half)
            )
            return [*results[:2], *(context.all_reduce('sum', each) for each in results[2:])]

        def weights_of(half):
            return tf.constant(weights)[half : half + 3]

        return [strategy.experimental_local_results(each) for each in strategy.run(replica)]

    outputs, of_x, of_gamma, of_beta = step()
    np.testing.assert_allclose(np.concatenate(outputs), expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(of_x), expected[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_gamma[0], expected[2], rtol=1e-4)
    np.testing.assert_allclose(of_beta[0], expected[3], rtol=1e-4)
    for actual, wanted in zip(together.weights, alone.weights, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5)
