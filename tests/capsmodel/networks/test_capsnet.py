"""Tests of the network as a whole, most of them on a small one."""

import dataclasses
import json

import keras
import numpy as np
import pydantic
import pytest
import tensorflow as tf
from project_paths import DATA

from capsmodel.networks.capsnet import CapsNet, lengths
from capsmodel.networks.losses import margin_loss, reconstruction_loss
from capsmodel.networks.settings import CapsNetConfig, CapsNetSettings, CommonSettings
from capsmodel.settings import declared, refusal

MNIST = CapsNetConfig(28, 28, 10)
SMALL = CapsNetConfig(
    image_height=13,
    image_width=12,
    num_classes=3,
    conv1_filters=8,
    conv1_kernel_size=5,
    primary_channels=4,
    primary_dim=4,
    primary_kernel_size=3,
    digit_dim=5,
    decoder_units=(16, 12),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 13, 12)).astype(np.uint8)
LABELS = np.array([2, 0, 1])


def _loss(network, images, labels):
    capsules = network(images)
    loss = margin_loss(labels, lengths(capsules))
    if network.decoder is not None:
        drawn = network.reconstruct(capsules, labels)
        loss += 0.0005 * reconstruction_loss(images, drawn)
    return tf.reduce_mean(loss)


def _gradients(network, images, labels):
    with tf.GradientTape() as tape:
        loss = _loss(network, images, labels)
    return tape.gradient(loss, network.trainable_variables)


def test_parameter_counts_are_the_papers():
    network = CapsNet(MNIST)
    assert network.decoder.count_params() == 1_411_344
    assert network.count_params() == 6_804_224 + 1_411_344
    assert CapsNet(dataclasses.replace(MNIST, decoder=False)).count_params() == 6_804_224
    assert network.digit_caps.kernel.shape == (1152, 10, 8, 16)
    assert len(network.trainable_variables) == 11


def test_untrained_capsules_are_neither_saturated_nor_dead(mnist_60):
    images, _ = mnist_60
    keras.utils.set_random_seed(1)
    scores = lengths(CapsNet(MNIST)(images[:8])).numpy()
    # From 2e-6 to 1e-4 with four other seeds.
    assert scores.min() > 5e-7
    assert scores.max() < 1e-3


def test_pixels_are_divided_by_255():
    network = CapsNet(SMALL)
    network.conv1.bias.assign(np.linspace(-0.1, 0.1, 8))
    scaled = IMAGES[..., np.newaxis].astype(np.float32) / 255
    expected = network.digit_caps(network.primary_caps(network.conv1(scaled)))
    np.testing.assert_allclose(network(IMAGES), expected, rtol=1e-5)
    convolved = tf.nn.conv2d(scaled, network.conv1.kernel.value, 1, 'VALID')
    np.testing.assert_allclose(
        network.conv1(scaled), tf.nn.relu(convolved + network.conv1.bias.value), atol=1e-5
    )


def test_lengths_worked_by_hand():
    capsules = tf.constant([[[0.3, 0.4], [0.0, 0.0]]])
    np.testing.assert_allclose(lengths(capsules), [[0.5, 0]], rtol=1e-6)


def test_only_the_capsule_of_the_label_is_decoded():
    network = CapsNet(SMALL)
    capsules = np.random.default_rng(1).uniform(-0.5, 0.5, (3, 3, 5)).astype(np.float32)
    drawn = network.reconstruct(capsules, LABELS)
    assert drawn.dtype == tf.float32
    assert drawn.shape == (3, 13, 12)
    assert np.min(drawn) > 0
    assert np.max(drawn) < 1

    masked = np.zeros_like(capsules)
    for row, label in enumerate(LABELS):
        masked[row, label] = capsules[row, label]
    assert network.decoder is not None
    np.testing.assert_array_equal(network.decoder(masked.reshape(3, 15)), drawn)

    others_changed = np.where(masked != 0, capsules, 7)
    np.testing.assert_array_equal(network.reconstruct(others_changed, LABELS), drawn)
    assert not np.allclose(network.reconstruct(capsules, (LABELS + 1) % 3), drawn)


@pytest.mark.parametrize(
    'size', [(26, 12), (13, 24), (12, 12), (14, 12), (6, 6), (13, 13), (26, 24)]
)
def test_images_of_another_size_are_refused(size):
    network = CapsNet(dataclasses.replace(SMALL, routing_iterations=1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'compatible .* shape \[\?,13,12\]'):
        network(np.zeros([2, *size], np.uint8))


def test_capsules_of_another_size_are_no_other_batch():
    network = CapsNet(SMALL)
    for shape in ((2, 3, 10), (2, 6, 5), (4, 3, 5), (1, 3, 5)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            network.reconstruct(tf.ones(shape), tf.constant([0, 1]))


def test_without_a_decoder_there_is_nothing_to_reconstruct():
    network = CapsNet(dataclasses.replace(SMALL, decoder=False))
    with pytest.raises(ValueError, match='no decoder'):
        network.reconstruct(network(IMAGES), LABELS)


@pytest.mark.parametrize('iterations', [1, 2, 4])
@pytest.mark.parametrize('gradient', ['all', 'last'])
@pytest.mark.parametrize('decoder', [True, False])
def test_options_reach_every_variable(iterations, gradient, decoder):
    network = CapsNet(
        dataclasses.replace(
            SMALL, routing_iterations=iterations, routing_gradient=gradient, decoder=decoder
        )
    )
    assert network.digit_caps.iterations == iterations
    assert network.digit_caps.gradient == gradient
    assert network(IMAGES).shape == (3, 3, 5)
    for gradient_of in _gradients(network, IMAGES, LABELS):
        assert np.all(np.isfinite(gradient_of))
        assert np.any(gradient_of != 0)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_unknown_batch_size_in_a_function(jit_compile):
    # XLA does not know operations of this project.
    algorithm = 'matmul' if jit_compile else 'auto'
    network = CapsNet(dataclasses.replace(SMALL, routing_algorithm=algorithm))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 13, 12], tf.uint8),
            tf.TensorSpec([None], tf.int64),
        ],
        jit_compile=jit_compile,
    )
    def run(images, labels):
        capsules = network(images)
        gradients = _gradients(network, images, labels)
        return capsules, network.reconstruct(capsules, labels), gradients

    expected = network(IMAGES)
    for n in (0, 1, 3):
        capsules, drawn, _ = run(IMAGES[:n], LABELS[:n])
        np.testing.assert_allclose(capsules, expected[:n], atol=1e-6)
        assert drawn.shape == (n, 13, 12)
    for actual, eager in zip(
        run(IMAGES, LABELS)[2], _gradients(network, IMAGES, LABELS), strict=True
    ):
        np.testing.assert_allclose(actual, eager, rtol=1e-3, atol=1e-6)


def test_the_seed_decides_the_first_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return CapsNet(SMALL).get_weights()

    for first, again in zip(weights(3), weights(3), strict=True):
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(weights(3)[0], weights(4)[0])


def test_config_and_checkpoint_make_an_equal_network(tmp_path):
    network = CapsNet(SMALL)
    path = tf.train.Checkpoint(model=network).write(str(tmp_path / 'checkpoint'))
    copy = CapsNet.from_config(json.loads(json.dumps(network.get_config())))
    assert copy.config == SMALL
    assert not np.array_equal(copy(IMAGES), network(IMAGES))
    tf.train.Checkpoint(model=copy).read(path).assert_consumed()
    for restored, original in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(restored, original)
    np.testing.assert_array_equal(copy(IMAGES), network(IMAGES))


def test_saved_model_answers_without_the_network(tmp_path):
    class Exported(tf.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        @tf.function(input_signature=[tf.TensorSpec([None, 13, 12], tf.uint8)])
        def classify(self, images):
            capsules = self.network(images)
            label = tf.argmax(lengths(capsules), axis=1)
            return {'label': label, 'drawn': self.network.reconstruct(capsules, label)}

    module = Exported(CapsNet(SMALL))
    tf.saved_model.save(module, str(tmp_path), signatures={'classify': module.classify})
    expected = module.classify(IMAGES)
    answers = tf.saved_model.load(str(tmp_path)).signatures['classify']
    for n in (0, 1, 3):
        actual = answers(images=tf.constant(IMAGES[:n]))
        np.testing.assert_array_equal(actual['label'], expected['label'][:n])
        np.testing.assert_allclose(actual['drawn'], expected['drawn'][:n], atol=1e-6)


def test_algorithms_give_the_same_lengths(mnist_60):
    images = mnist_60[0][:20]
    keras.utils.set_random_seed(1)
    direct = CapsNet(dataclasses.replace(MNIST, primary_algorithm='conv2d'))
    transformed = CapsNet(dataclasses.replace(MNIST, primary_algorithm='winograd'))
    # Larger than the first weights, so that lengths are far from 0, and far from equal.
    weights = [3 * w if w.ndim == 4 else w for w in direct.get_weights()]
    for network in (direct, transformed):
        network.set_weights(weights)
    expected = lengths(direct(images)).numpy()
    assert expected.min() < 0.3
    assert expected.max() > 0.7
    np.testing.assert_allclose(lengths(transformed(images)), expected, atol=1e-3)


def test_step_under_a_distribution_strategy():
    strategy = tf.distribute.MirroredStrategy(['CPU:0'])
    with strategy.scope():
        network = CapsNet(SMALL)
    gradients = tf.function(lambda: strategy.run(lambda: _gradients(network, IMAGES, LABELS)))()
    for actual, expected in zip(gradients, _gradients(network, IMAGES, LABELS), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)


def test_mixed_precision_reaches_the_layers_and_stays_inside():
    exact = CapsNet(SMALL)
    mixed = CapsNet(dataclasses.replace(SMALL, precision='mixed_bfloat16'))
    mixed.set_weights(exact.get_weights())
    assert mixed.conv1.compute_dtype == 'bfloat16'
    assert mixed.decoder.pixel_layer.compute_dtype == 'bfloat16'
    capsules = mixed(IMAGES)
    drawn = mixed.reconstruct(capsules, LABELS)
    assert capsules.dtype == drawn.dtype == lengths(capsules).dtype == tf.float32
    np.testing.assert_allclose(lengths(capsules), lengths(exact(IMAGES)), atol=0.02)
    for gradient in _gradients(mixed, IMAGES, LABELS):
        assert gradient.dtype == tf.float32


def test_a_small_network_learns_60_digits(mnist_60):
    images, labels = mnist_60
    keras.utils.set_random_seed(1)
    network = CapsNet(
        dataclasses.replace(MNIST, conv1_filters=16, primary_channels=4, decoder_units=(64,))
    )
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step():
        gradients = _gradients(network, images, labels)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    def reconstruction_error():
        drawn = network.reconstruct(network(images), labels)
        return np.mean(reconstruction_loss(images, drawn))

    error_before = reconstruction_error()
    for _ in range(60):
        step()
    predicted = np.argmax(lengths(network(images)), axis=1)
    np.testing.assert_array_equal(predicted, labels)
    assert reconstruction_error() < 0.6 * error_before


# Another value than the default for each setting.
_CHANGES = {
    'conv1_filters': 3,
    'primary_channels': 3,
    'primary_dim': 3,
    'digit_dim': 3,
    'routing_iterations': 2,
    'routing_gradient': 'last',
    'routing_algorithm': 'reference',
    'primary_algorithm': 'conv2d',
    'precision': 'mixed_bfloat16',
    'none_of_the_above': True,
    'digit_bias': True,
    'initial_values': 'authors',
    'stem': '1',
    'standardize': True,
    'decoder': False,
    'decoder_units': (3,),
}


def test_every_setting_reaches_a_layer():
    def layers(config):
        return [layer.get_config() for layer in CapsNet(config).layers]

    assert _CHANGES.keys() == declared(CapsNetSettings).keys() | declared(CommonSettings).keys()
    large = dataclasses.replace(SMALL, image_height=14, image_width=14)
    for name in _CHANGES.keys() - {'standardize', 'initial_values'}:
        assert layers(dataclasses.replace(large, **{name: _CHANGES[name]})) != layers(large), name


def test_first_values_of_the_authors():
    network = CapsNet(dataclasses.replace(SMALL, digit_bias=True, initial_values='authors'))
    assert network.digit_caps.bias.shape == (3, 5)
    kernels = 0
    for variable in network.trainable_variables:
        values = variable.numpy()
        if variable.name == 'bias':
            np.testing.assert_array_equal(values, np.float32(0.1))
            continue
        kernels += 1
        stddev = 0.05 if variable is network.conv1.kernel else 0.1
        assert 1.5 * stddev < np.abs(values).max() <= 2 * stddev
        # That of a normal distribution which is cut off at two standard deviations.
        assert np.std(values) == pytest.approx(0.8796 * stddev, rel=0.1)
    assert kernels == 6


def test_standardized_images_have_mean_0_and_variance_1():
    network = CapsNet(dataclasses.replace(SMALL, image_channels=3, standardize=True))
    images = np.random.default_rng(0).integers(0, 200, (2, 13, 12, 3)).astype(np.uint8)
    values = images.astype(np.float32)
    expected = np.stack([(one - one.mean()) / one.std() for one in values])
    capsules = network.primary_caps(network.conv1(expected))
    np.testing.assert_allclose(network.primary_capsules(images), capsules, atol=1e-4)
    np.testing.assert_allclose(network(images // 2 + 100), network(images // 2), atol=1e-4)
    assert np.all(np.isfinite(network(np.full_like(images, 7))))


def test_colours_are_told_apart_and_decoded():
    network = CapsNet(dataclasses.replace(SMALL, image_channels=3))
    images = np.random.default_rng(0).integers(0, 256, (3, 13, 12, 3)).astype(np.uint8)
    assert not np.allclose(network(images), network(images[..., ::-1]), rtol=1e-3)
    drawn = network.reconstruct(network(images), LABELS)
    assert drawn.shape == (3, 13, 12, 3)
    np.testing.assert_allclose(
        reconstruction_loss(images, drawn),
        np.sum((images / 255 - drawn) ** 2, axis=(1, 2, 3)),
        rtol=1e-5,
    )


def test_crops_are_what_the_network_sees():
    config = dataclasses.replace(SMALL, crop=9, image_channels=3)
    assert (config.image_shape, config.uncropped_shape) == ((9, 9, 3), (13, 12, 3))
    assert CapsNet(config)(np.zeros((2, 9, 9, 3), np.uint8)).shape == (2, 3, 5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'num_classes': 1}, 'num_classes must be at least 2, not 1'),
        ({'routing_iterations': 0}, 'routing_iterations is 0: it must be at least 1'),
        ({'routing_gradient': 'some'}, "routing_gradient is 'some': it must be one of all, last"),
        ({'routing_algorithm': 'fft'}, "routing_algorithm is 'fft': it must be one of auto, "),
        ({'primary_algorithm': 'fft'}, 'it must be one of auto, conv2d, winograd'),
        ({'precision': 'int8'}, 'it must be one of float32, mixed_bfloat16'),
        (
            {'image_width': 6},
            '13x6 pixels are too small: kernels of size 5 and 3 need at least 7x7',
        ),
        ({'image_height': 0}, '0x12 pixels are too small'),
        ({'stem': '4'}, "stem is '4': it must be one of auto, none, 1, 2, 3"),
        ({'stem': '1'}, '13x12 pixels, 7x6 behind the stem, are too small'),
        ({'crop': 13}, '13x12 pixels are too small for crops of 13x13'),
        ({'crop': 6}, 'images of 6x6 pixels are too small'),
        ({'image_channels': 2}, 'image_channels is 2: it must be one of 1, 3'),
        ({'primary_dim': 2.5}, 'primary_dim is 2.5: it must be a whole number'),
        ({'decoder': 'maybe'}, "decoder is 'maybe': it must be yes or no"),
        ({'decoder_units': (512, 0)}, 'decoder_units is 0: it must be at least 1'),
        ({'decoder_units': 512}, 'decoder_units is 512: it must be a valid tuple'),
        ({'depth': 3}, 'there is no setting depth'),
        ({'num_classes': None}, 'num_classes is None: it must be a whole number'),
    ],
)
def test_senseless_configs_are_refused(changes, message):
    with pytest.raises(pydantic.ValidationError) as caught:
        CapsNetConfig(**{**dataclasses.asdict(SMALL), **changes})
    assert message in refusal(caught.value, str)


def test_the_smallest_image_that_fits_works():
    smallest = dataclasses.replace(SMALL, image_height=7, image_width=7)
    assert CapsNet(smallest)(np.zeros((2, 7, 7), np.uint8)).shape == (2, 3, 5)


def test_config_survives_json():
    settings = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert CapsNetConfig(**settings) == SMALL
    minimal = {'image_height': 28, 'image_width': 28, 'num_classes': 10}
    assert CapsNetConfig(**minimal) == MNIST


@pytest.fixture(scope='module')
def mnist_60():
    with np.load(DATA / 'mnist_300.npz') as data:
        return data['images'][:60], data['labels'][:60].astype(np.int64)
