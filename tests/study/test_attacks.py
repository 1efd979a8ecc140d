"""Attacked images: hand-worked on a network of two sums of pixels, and on networks of the table."""

import dataclasses

import keras
import network_configs
import numpy as np
import pytest
import tensorflow as tf
import transformed_examples

from capsmodel import guard
from capsmodel.data.dataset import LabeledImages
from capsmodel.networks import table
from capsmodel.networks.losses import cross_entropy, margin_loss
from capsmodel.networks.network import Network
from capsmodel.networks.settings import CapsNetConfig, NetworkConfig
from capsmodel.training import loop
from capsmodel.training.settings import TrainingConfig
from study import attacks
from study.claims import attacks as claim

_DIGITS = transformed_examples.digits()[1]
_CONDITIONS = [
    'clean',
    'noise, epsilon 0.3',
    'FGSM, epsilon 0.1',
    'FGSM, epsilon 0.3',
    'PGD, epsilon 0.1',
    'PGD, epsilon 0.3',
]


class _Halves(Network):
    """The score of class 0 is the light on the left half of the image, that of 1 on the right."""

    loss_name = 'loss'

    def __init__(self, loss, factor=1.0):
        super().__init__(NetworkConfig(4, 4, 2, network='mlp'))
        self.loss, self.factor = loss, factor
        self.built = True

    def forward(self, pixels, step):
        halves = tf.reshape(pixels, [-1, 4, 2, 2])
        return self.factor * tf.reduce_mean(halves, axis=[1, 3])

    def scores(self, outputs):
        return tf.nn.softmax(outputs) if self.loss is cross_entropy else outputs

    def classification_loss(self, labels, outputs, step=None):
        return self.loss(labels, outputs)


def _image(left, right):
    image = np.full((1, 4, 4), left, np.uint8)
    image[..., 2:] = right
    return image


def _network(name='capsnet', **changes):
    keras.utils.set_random_seed(1)
    return table.create(network_configs.small(name, **changes))


@pytest.mark.parametrize(('label', 'expected'), [(0, (75, 125)), (1, (125, 75))])
def test_fgsm_moves_each_pixel_by_epsilon_against_its_class(label, expected):
    attacker = attacks.Attacker(_Halves(cross_entropy))
    attacked = attacker.fgsm(_image(100, 100), np.array([label]), 0.1)
    np.testing.assert_array_equal(attacked, _image(*expected))


def test_fgsm_stays_in_the_range_of_a_pixel():
    attacker = attacks.Attacker(_Halves(cross_entropy))
    attacked = attacker.fgsm(_image(20, 240), np.array([0]), 0.3)
    np.testing.assert_array_equal(attacked, _image(0, 255))


def test_pgd_ends_in_the_corner_where_the_loss_is_highest():
    attacker = attacks.Attacker(_Halves(cross_entropy))
    images, labels = _image(100, 100), np.array([0])
    # From one corner to the opposite one it takes 2 * 25 / 2.55 steps.
    attacked = attacker.pgd(images, labels, 0.1, np.random.default_rng(0), steps=20)
    np.testing.assert_array_equal(attacked, _image(75, 125))
    attacked = attacker.pgd(images, labels, 0.1, np.random.default_rng(0), steps=3)
    assert 75 <= attacked.min() < attacked.max() < 125


@pytest.mark.parametrize(
    ('loss', 'factor'), [(margin_loss, 1.0), (cross_entropy, 200.0)], ids=['margin', 'softmax']
)
def test_where_the_loss_is_flat_the_attack_goes_towards_the_second_class(loss, factor):
    network = _Halves(loss, factor)
    # Left 240 / 255 > 0.9, right 15 / 255 < 0.1.
    images, labels = _image(240, 15), tf.constant([0], tf.int64)
    levels = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(levels)
        value = network.classification_loss(labels, network.call(levels))
    assert value.numpy() == 0
    assert not np.any(tape.gradient(value, levels))
    attacked = attacks.Attacker(network).fgsm(images, labels.numpy(), 0.1)
    np.testing.assert_array_equal(attacked, _image(215, 40))


@pytest.mark.parametrize(('epsilon', 'levels'), [(0.1, 25), (0.3, 76), (0.2, 51), (3 / 255, 3)])
def test_attacked_images_are_images_within_epsilon(epsilon, levels):
    images, labels = _DIGITS.images[:20], _DIGITS.labels[:20]
    attacker = attacks.Attacker(_network('mlp'))
    random = np.random.default_rng(0)
    for attacked in (
        attacker.fgsm(images, labels, epsilon),
        attacker.pgd(images, labels, epsilon, random, steps=5),
        attacker.pgd(images, labels, epsilon, random, steps=0),
        attacks.noise(images, epsilon, random),
    ):
        assert attacked.dtype == np.uint8
        changes = np.abs(attacked.astype(int) - images)
        assert changes.max() == levels
        assert changes.max() / 255 <= epsilon


def test_noise_has_both_signs_wherever_there_is_room():
    noisy = attacks.noise(np.full((50, 4, 4), 100, np.uint8), 0.1, np.random.default_rng(0))
    assert set(np.unique(noisy)) == {75, 125}
    assert 0.4 < np.mean(noisy == 125) < 0.6


def test_a_random_start_is_a_function_of_the_seed_for_batches_of_any_size():
    images, labels = _DIGITS.images[:9], _DIGITS.labels[:9]
    attacker = attacks.Attacker(_network('mlp'))

    def started(seed, *parts):
        random = np.random.default_rng(seed)
        return np.concatenate(
            [attacker.pgd(images[part], labels[part], 0.3, random, steps=0) for part in parts]
        )

    whole = started(5, slice(9))
    np.testing.assert_array_equal(started(5, slice(4), slice(4, 9)), whole)
    assert not np.array_equal(started(6, slice(9)), whole)


def test_the_gradient_goes_through_all_iterations_whatever_the_network_was_trained_with():
    whole, last = _network(), _network(routing_gradient='last')
    images, labels = _DIGITS.images[:10].astype(np.float32), _DIGITS.labels[:10]
    # Far from the start, the coupling coefficients depend on the image.
    for network in (whole, last):
        network.digit_caps.kernel.assign(20 * network.digit_caps.kernel)
    expected = attacks._ascent(whole)(images, labels).numpy()
    assert not np.allclose(attacks._ascent(last)(images, labels), expected, rtol=0.01)
    attacker = attacks.Attacker(last)
    np.testing.assert_allclose(attacker._ascent(images, labels), expected, rtol=1e-4)


def test_pixels_have_a_gradient_where_training_needs_none():
    config = CapsNetConfig(28, 28, 10, conv1_filters=8, primary_channels=2, decoder=False)
    images, labels = _DIGITS.images[:20].astype(np.float32), _DIGITS.labels[:20]
    gradients = []
    for algorithm in ('auto', 'conv2d'):
        keras.utils.set_random_seed(1)
        network = table.create(dataclasses.replace(config, primary_algorithm=algorithm))
        gradients.append(attacks._ascent(network)(images, labels).numpy())
        # In training, this network's first convolution has no gradient for the pixels.
        assert (network.primary_caps.phase_size((20, 20, 20, 8)) is None) == (algorithm != 'auto')
    scale = np.abs(gradients[1]).max()
    assert scale > 0
    np.testing.assert_allclose(gradients[0] / scale, gradients[1] / scale, atol=1e-4)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in ('cnn', 'mlp') else pytest.mark.slow)
        for name in table.NETWORKS
    ],
)
def test_every_network_can_be_attacked(name):
    network = _network(name)
    images, labels = _DIGITS.images[:20], _DIGITS.labels[:20]
    attacked = attacks.Attacker(network).fgsm(images, labels, 2 / 255)
    before, after = (
        network.classification_loss(labels, network(each)).numpy() for each in (images, attacked)
    )
    assert np.all(after > before)


@pytest.fixture(scope='module')
def trained():
    settings = TrainingConfig(
        epochs=10, batch_size=10, learning_rate=3e-3, learning_rate_decay=0.97, augmentation='none'
    )
    return loop.train(network_configs.small('capsnet'), settings, _DIGITS, _DIGITS, None)


@pytest.fixture(scope='module')
def measures(trained):
    evaluated = LabeledImages(_DIGITS.images[50:], _DIGITS.labels[50:])
    return attacks.measure(trained, evaluated, _DIGITS, seed=3, count=20)


def test_a_trained_network_is_misled_by_attacks_and_far_less_by_noise(measures):
    assert [each.condition for each in measures] == _CONDITIONS
    clean, noise, fgsm_01, fgsm_03, pgd_01, pgd_03 = (each.error_percent for each in measures)
    assert clean == 0
    assert noise < 40 < fgsm_03 <= pgd_03
    assert fgsm_01 <= pgd_01 < pgd_03
    assert pgd_03 > 90


def test_measures_count_the_first_images_and_what_the_guard_refuses(trained, measures):
    images, labels = _DIGITS.images[:20], _DIGITS.labels[:20]
    thresholds = guard.thresholds(trained, _DIGITS.images[50:], 0.05)
    noisy = attacks.noise(images, 0.3, np.random.default_rng(3))
    for measured, attacked in ((measures[0], images), (measures[1], noisy)):
        outputs = trained(attacked)
        wrong = np.mean(trained.scores(outputs).numpy().argmax(1) != labels)
        known = guard.is_known(
            attacked, guard.measured_by(trained, attacked, outputs), thresholds
        ).numpy()
        assert measured.error_percent == pytest.approx(100 * wrong)
        assert measured.refused_percent == pytest.approx(100 * np.mean(~known))
    assert measures[1].refused_percent > measures[0].refused_percent


def test_measures_do_not_depend_on_the_size_of_batches(monkeypatch, capsys):
    data = LabeledImages(
        np.random.default_rng(0).integers(0, 256, [30, 4, 4], np.uint8),
        np.arange(30) % 2,
    )
    network = _Halves(cross_entropy)
    expected = attacks.measure(network, data, data, seed=1)
    monkeypatch.setattr(attacks, '_images_at_once', lambda model: 7)
    assert attacks.measure(network, data, data, seed=1) == expected
    assert 'no gradient' not in capsys.readouterr().err
    assert expected[-1].error_percent > expected[0].error_percent


def test_images_without_a_gradient_are_said(capsys):
    data = LabeledImages(np.full((3, 4, 4), 9, np.uint8), np.array([0, 1, 0]))
    attacks.measure(_Halves(cross_entropy, factor=0.0), data, data, seed=1)
    said = capsys.readouterr().err
    assert 'FGSM, epsilon 0.1: 3 of 3 images have no gradient and did not change' in said
    assert 'clean' not in said


def test_no_images_are_refused_in_a_sentence():
    none = LabeledImages(np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match='There is no test image to attack'):
        attacks.measure(_Halves(cross_entropy), none, none, seed=1)


def test_the_claim_names_what_is_measured():
    assert list(claim.TESTS) == _CONDITIONS
