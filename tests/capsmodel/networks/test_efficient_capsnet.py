"""Efficient-CapsNet: its size, its layers against TensorFlow's, and the folded normalizations."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.capsnet import lengths
from capsmodel.networks.efficient_capsnet import DepthwiseCaps, EfficientCapsNet
from capsmodel.networks.self_attention_routing import exponential_squash
from capsmodel.networks.settings import EfficientCapsNetConfig
from capsmodel.networks.step import Step

MNIST = EfficientCapsNetConfig(28, 28, 10)


def _step(**changes):
    step = Step.on_this_replica(0, tf.constant(0), 10, batch_size=6)
    return dataclasses.replace(step, **changes)


def _images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_it_has_161824_parameters_without_the_decoder():
    network = EfficientCapsNet(MNIST)
    decoder = network.decoder.count_params()
    trained = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert trained - decoder == 161_824
    assert decoder == 160 * 512 + 512 + 512 * 1024 + 1024 + 1024 * 784 + 784
    assert network.primary_caps.kernel.shape == (9, 9, 128)


@pytest.mark.parametrize(
    ('height', 'width', 'channels', 'rows'), [(11, 12, 1, (1, 1)), (32, 32, 3, (11, 11))]
)
def test_the_depthwise_convolution_spans_the_map_at_any_size(height, width, channels, rows):
    config = EfficientCapsNetConfig(height, width, 4, image_channels=channels, decoder=False)
    network = EfficientCapsNet(config)
    assert network.primary_caps.kernel.shape == (*rows, 128)
    assert network(_images(2, *config.image_shape)).shape == (2, 4, 16)


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match='10x30 pixels are too small: efficient_capsnet needs'):
        EfficientCapsNetConfig(10, 30, 4)


def test_depthwise_capsules_are_those_of_tensorflows_convolution():
    layer = DepthwiseCaps(4)
    layer.build((None, 5, 6, 8))
    layer.bias.assign(np.linspace(-1, 1, 8))
    x = np.random.default_rng(0).normal(size=(3, 5, 6, 8)).astype(np.float32)
    kernel = layer.kernel.value[..., tf.newaxis]
    sums = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], 'VALID') + layer.bias
    expected = exponential_squash(tf.reshape(sums, [3, 2, 4]))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)
    factor, offset = tf.linspace(0.5, 2.0, 8), tf.linspace(1.0, -1.0, 8)
    np.testing.assert_allclose(
        layer(x, factor, offset), layer(factor * x + offset), rtol=1e-4, atol=1e-5
    )
    assert DepthwiseCaps.from_config(layer.get_config()).dim == 4


def test_answers_are_those_of_the_layers_one_after_another():
    keras.utils.set_random_seed(1)
    network = EfficientCapsNet(dataclasses.replace(MNIST, decoder=False))
    images = _images(6, 28, 28)
    in_training = network(images, step=_step(newest=1.0))
    for layer in network.convolutions._flatten_layers():
        if isinstance(layer, BatchNormalization):
            layer.gamma.assign_add(np.linspace(-0.5, 0.5, layer.gamma.shape[0]))
            layer.beta.assign_add(np.linspace(-0.5, 0.5, layer.beta.shape[0]))
    x = network.pixels(tf.constant(images))
    expected = network.digit_caps(network.primary_caps(network.convolutions(x)))
    answers = network(images)
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    assert np.max(np.abs(answers - in_training)) > 1e-3


def test_training_and_answers_agree_where_the_statistics_are_the_batchs():
    keras.utils.set_random_seed(2)
    network = EfficientCapsNet(dataclasses.replace(MNIST, decoder=False))
    images = _images(6, 28, 28)
    in_training = network(images, step=_step(newest=1.0))
    np.testing.assert_allclose(network(images), in_training, atol=1e-4)
    np.testing.assert_allclose(network.scores(in_training), lengths(in_training))


def test_the_layer_of_convolutions_survives_its_config():
    layer = EfficientCapsNet(MNIST).convolutions
    config = json.loads(json.dumps(layer.get_config()))
    assert type(layer).from_config(config).convolutions == layer.convolutions
    assert layer.compute_output_shape((None, 28, 28, 1)) == (None, 9, 9, 128)


def test_replicas_normalize_by_the_same_formula():
    """The one that replicas use, with a single one: the mean of all replicas is then its own."""
    x = np.random.default_rng(0).normal(3, 2, (6, 4, 5, 3)).astype(np.float32)
    weights = np.sin(np.arange(x.size, dtype=np.float32)).reshape(x.shape)
    results = []
    for replicas in (1, 2):
        layer = BatchNormalization()
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1, 2])
        with tf.GradientTape() as tape:
            inputs = tf.constant(x)
            tape.watch(inputs)
            y = layer(inputs, step=dataclasses.replace(_step(), replicas=replicas))
            loss = tf.reduce_sum(weights * y)
        gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])
        results.append([y, *gradients, *layer.non_trainable_variables])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
