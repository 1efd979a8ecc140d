"""The stem: how many convolutions an image gets, and that small images get none."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.networks.stem import Stem

_SMALL = {'conv1_filters': 4, 'primary_channels': 2, 'primary_dim': 4, 'decoder': False}


def _config(height, width, channels=3, **settings):
    return CapsNetConfig(height, width, 3, image_channels=channels, **_SMALL, **settings)


@pytest.mark.parametrize(
    ('size', 'strides', 'left'),
    [
        ((28, 28), (), (28, 28)),
        ((32, 32), (), (32, 32)),
        ((40, 40), (), (40, 40)),
        ((41, 41), ((2, 2),), (21, 21)),
        ((96, 96), ((2, 2), (2, 2)), (24, 24)),
        ((224, 224), ((2, 2), (2, 2), (2, 2)), (28, 28)),
        ((20, 224), ((1, 2), (1, 2), (1, 2)), (20, 28)),
        ((60, 100), ((2, 2), (1, 2)), (30, 25)),
    ],
)
def test_auto_halves_each_side_until_it_has_40_pixels(size, strides, left):
    config = _config(*size)
    assert config.stem_strides == strides
    assert config.conv1_size == left


def test_there_are_at_most_12_positions_on_each_side_and_3_behind_a_stem():
    for side, other in itertools.product(range(17, 225), (17, 41, 224)):
        positions = [(size - 17) // 2 + 1 for size in _config(side, other).conv1_size]
        assert all(1 <= count <= 12 for count in positions)
        assert side < 41 or positions[0] >= 3


@pytest.mark.parametrize('stem', ['none', '1', '2'])
def test_a_number_of_convolutions_can_be_asked_for(stem):
    count = 0 if stem == 'none' else int(stem)
    assert _config(96, 80, stem=stem).stem_strides == ((2, 2),) * count


def test_too_many_convolutions_are_refused():
    with pytest.raises(ValueError, match='28x28 pixels, 14x14 behind the stem, are too small'):
        _config(28, 28, stem='1')


def test_the_network_without_a_stem_is_the_one_that_it_was():
    keras.utils.set_random_seed(7)
    network = CapsNet(_config(28, 28, channels=1))
    keras.utils.set_random_seed(7)
    alone = keras.layers.Conv2D(4, 9)
    alone.build((None, 28, 28, 1))
    assert network.stem is None
    np.testing.assert_array_equal(network.weights[0], alone.kernel)
    chosen = CapsNet(dataclasses.replace(network.config, stem='none'))
    assert [w.shape for w in chosen.weights] == [w.shape for w in network.weights]


def test_a_convolution_takes_every_second_row_and_column_where_it_should():
    stem = Stem([(1, 2), (2, 2)])
    stem.build((None, 6, 9, 3))
    images = np.random.default_rng(0).normal(size=(2, 6, 9, 3)).astype(np.float32)
    for variable in stem.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    first, first_bias, second, second_bias = (variable.value for variable in stem.weights)
    # Every position, then every second one; SAME pads so that the last window ends at the edge.
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    middle = tf.nn.relu(tf.nn.conv2d(padded, first, 1, 'VALID')[:, :, ::2] + first_bias)
    padded = tf.pad(middle, [[0, 0], [0, 1], [1, 1], [0, 0]])
    expected = tf.nn.relu(tf.nn.conv2d(padded, second, 2, 'VALID') + second_bias)
    assert stem.compute_output_shape((2, 6, 9, 3)) == expected.shape == (2, 3, 3, 32)
    np.testing.assert_allclose(stem(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('size', 'channels'), [((224, 224), 3), ((17, 96), 3), ((96, 64), 1), ((20, 30), 1)]
)
def test_images_of_every_size_give_capsules_and_gradients(size, channels):
    network = CapsNet(_config(size[0], size[1], channels))
    shape = (2, *network.config.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images) ** 2)
    assert len(shape) == (3 if channels == 1 else 4)
    assert all(np.any(gradient != 0) for gradient in tape.gradient(loss, network.weights)[::2])


def test_config_checkpoint_and_saved_model_keep_the_stem(tmp_path):
    network = CapsNet(_config(50, 44))
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 44, 3), dtype=np.uint8)
    expected = network(images)
    path = tf.train.Checkpoint(model=network).write(str(tmp_path / 'checkpoint'))
    copy = CapsNet.from_config(json.loads(json.dumps(network.get_config())))
    assert not np.allclose(copy(images), expected, rtol=1e-3, atol=0)
    tf.train.Checkpoint(model=copy).read(path).assert_consumed()
    np.testing.assert_array_equal(copy(images), expected)
    module = tf.Module()
    module.network = copy
    module.answer = tf.function(
        lambda pixels: copy(pixels),  # noqa: PLW0108 (a Keras model has no signature to be traced)
        input_signature=[tf.TensorSpec([None, 50, 44, 3], tf.uint8)],
    )
    tf.saved_model.save(module, str(tmp_path / 'model'))
    loaded = tf.saved_model.load(str(tmp_path / 'model'))
    for n in (0, 1, 3):
        np.testing.assert_allclose(loaded.answer(images[:n]), expected[:n], atol=1e-6)
