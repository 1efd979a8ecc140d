"""The first convolution in the order of phases against TensorFlow's own."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import winograd
from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.phases import first_convolution
from capsmodel.networks.settings import CapsNetConfig

# Rows, columns, channels, kernel size; the next kernel's size and its stride.
CASES = [
    (16, 16, 1, 5, 5, 2),
    (17, 19, 3, 5, 6, 2),  # rows and columns that the next convolution leaves out
    (40, 31, 1, 3, 9, 2),  # two tiles, which read beyond the ends
    (13, 12, 1, 4, 5, 3),
    (12, 12, 1, 4, 3, 1),
]


@pytest.mark.parametrize(('height', 'width', 'channels', 'size', 'next_size', 'stride'), CASES)
def test_two_convolutions_and_their_gradients(height, width, channels, size, next_size, stride):
    rng = np.random.default_rng(0)
    shapes = [[3, height, width, channels], [size, size, channels, 4], [4]]
    shapes.append([next_size, next_size, 4, 2])
    pixels, kernel, bias, next_kernel = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes
    )

    def in_phases():
        map_size = (height - size + 1, width - size + 1)
        phases = first_convolution(
            pixels, kernel, bias, stride, winograd.phase_size(map_size, next_size, stride)
        )
        transformed = winograd.transform_kernel(next_kernel, map_size, stride)
        return winograd.conv2d_of_phases(phases, transformed, map_size, next_size, stride)

    def directly():
        hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(pixels, kernel, 1, 'VALID'), bias))
        return tf.nn.conv2d(hidden, next_kernel, stride, 'VALID')

    weights = rng.normal(size=directly().shape)
    results = []
    for function in (in_phases, directly):
        with tf.GradientTape() as tape:
            tape.watch([kernel, bias, next_kernel])
            outputs = function()
            loss = tf.reduce_sum(weights * outputs)
        results.append([outputs, *tape.gradient(loss, [kernel, bias, next_kernel])])
    for actual, expected in zip(*results, strict=True):
        assert actual.shape == expected.shape
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actual / largest, expected / largest, atol=3e-4)


def test_the_network_takes_it_for_16_images_of_a_known_number():
    config = CapsNetConfig(
        image_height=28, image_width=28, num_classes=3, conv1_filters=8, primary_channels=2
    )
    images = np.random.default_rng(0).integers(0, 256, (16, 28, 28)).astype(np.uint8)
    capsules, operations = [], []
    for algorithm in ('auto', 'conv2d'):
        keras.utils.set_random_seed(1)
        network = CapsNet(dataclasses.replace(config, primary_algorithm=algorithm))
        function = tf.function(network.primary_capsules, autograph=False)
        capsules.append(function(tf.constant(images)))
        graph = function.get_concrete_function(tf.TensorSpec([16, 28, 28], tf.uint8)).graph
        operations.append({operation.type for operation in graph.get_operations()})
    np.testing.assert_allclose(capsules[0], capsules[1], atol=2e-5)
    assert ['Conv2D' in types for types in operations] == [False, True]
