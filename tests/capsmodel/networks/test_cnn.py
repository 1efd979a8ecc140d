"""The convolutional networks, computed from their weights by TensorFlow's plainest operations."""

import keras
import network_configs
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import table
from capsmodel.networks.prepared_weights import prepare_weights

_NOISE = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)


@pytest.fixture(scope='module')
def network():
    keras.utils.set_random_seed(1)
    return table.create(network_configs.small('cnn_large_kernels', cnn_width=0.05))


def _plain(network, images):
    x = tf.cast(images, tf.float32)[..., tf.newaxis] / 255
    for layer, strides in ((network.conv1, 1), (network.conv2, 2)):
        x = tf.nn.relu(tf.nn.conv2d(x, layer.kernel, strides, 'VALID') + layer.bias)
    return tf.reduce_mean(x, [1, 2]) @ network.logits.kernel + network.logits.bias


@pytest.mark.parametrize('n', [1, 3, 20])
def test_large_kernels_give_the_same_for_any_number_of_images(network, n):
    images = _NOISE[:n]
    reads = tf.TensorSpec([None, 28, 28], tf.uint8)
    expected = _plain(network, images)
    prepared = prepare_weights(network)
    assert prepared
    for answer in (network, lambda images: network.answer(images, prepared)):
        function = tf.function(answer, input_signature=[reads], autograph=False)
        np.testing.assert_allclose(function(images), expected, atol=1e-5)
    np.testing.assert_allclose(network(images), expected, atol=1e-5)


def test_large_kernels_have_the_same_gradients(network):
    gradients = []
    for function in (network, lambda images: _plain(network, images)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(function(_NOISE)))
        gradients.append(tape.gradient(loss, network.trainable_variables))
    for found, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.max(np.abs(expected)))
