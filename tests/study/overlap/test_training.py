"""A network learns to name both digits of a pair, by losses worked out in numpy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from lively_capsnet import lively_capsnet
from network_configs import small

from capsmodel.networks import table
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import Diverged, TrainingError
from pipeline.configs import SettingError
from study.measure import Measure
from study.overlap import pair_files, training
from study.overlap.pairs import TrainingPairs

_SETTINGS = {
    'PRESET': 'tiny',
    'BATCH_SIZE': '40',
    'EPOCHS': '1',
    'CONV1_FILTERS': '8',
    'PRIMARY_CHANNELS': '4',
    'DECODER_UNITS': '16',
}
_CNN_SETTINGS = {'PRESET': 'tiny', 'BATCH_SIZE': '40', 'EPOCHS': '1', 'LEARNING_RATE': '0.003'}


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()


@pytest.fixture(scope='module')
def batch(digits):
    return TrainingPairs(digits[0], 4, seed=1, batch_size=6).batch(tf.constant(0, tf.int64))


@pytest.fixture(scope='module')
def pair_file(digits, tmp_path_factory):
    """A hundred pairs of test digits, where the component would write them."""
    path = tmp_path_factory.mktemp('pairs') / 'pairs.gz'
    pairs = TrainingPairs(digits[1], 4, seed=1, batch_size=100).batch(tf.constant(0, tf.int64))
    arrays = type(pairs)(*(values.numpy() for values in pairs))
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for serialized in pair_files.serialized(arrays, [f'{n:03}'.encode() for n in range(100)]):
            writer.write(serialized)
    return str(path)


def _two_hot(labels):
    return np.eye(10)[labels].sum(axis=1)


def test_the_loss_of_capsules_is_equation_4_and_both_reconstructions(batch):
    model = lively_capsnet()
    capsules = model(batch.images)
    lengths = np.linalg.norm(capsules, axis=2)
    present = _two_hot(batch.labels.numpy())
    expected = present * np.maximum(0, 0.9 - lengths) ** 2
    expected += 0.5 * (1 - present) * np.maximum(0, lengths - 0.1) ** 2
    expected = expected.sum(axis=1)
    loss = training.pair_loss(model, batch, capsules, 0.0, None)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    for place in range(2):
        drawn = model.reconstruct(capsules, batch.labels[:, place])
        difference = drawn - batch.singles[:, place] / 255
        expected += 0.01 * np.sum(np.square(difference), axis=(1, 2))
        other = model.reconstruct(capsules, batch.labels[:, 1 - place])
        assert np.abs(other - drawn).max() > 0.1
    loss = training.pair_loss(model, batch, capsules, 0.01, None)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_the_loss_of_logits_is_the_cross_entropy_of_sigmoids(batch):
    model = table.create(small('cnn', 36))
    logits = 30 * model(batch.images)
    present = _two_hot(batch.labels.numpy())
    probability = 1 / (1 + np.exp(-np.float64(logits)))
    expected = -present * np.log(probability) - (1 - present) * np.log(1 - probability)
    loss = training.pair_loss(model, batch, logits, 0.0, None)
    np.testing.assert_allclose(loss, expected.sum(axis=1), rtol=1e-4)


def test_measures_worked_by_hand():
    scored = np.array([[0.9, 0.8, 0.1], [0.3, 0.2, 0.1], [0.1, 0.2, 0.3], [0.5, 0.1, 0.6]])
    labels = np.array([[1, 0], [0, 2], [1, 0], [0, 1]])
    assert training.two_highest(scored).tolist() == [[0, 1], [0, 1], [2, 1], [2, 0]]
    assert training.measures(scored, labels) == [
        Measure('both right', 75.0),
        Measure('each by itself', 37.5),
    ]


@pytest.mark.parametrize(('network', 'settings'), [('capsnet', _SETTINGS), ('cnn', _CNN_SETTINGS)])
def test_a_network_learns_to_name_both_digits(network, settings, digits, pair_file):
    model = training.trained(network, 4, 120, 1, digits[0], settings)
    pairs = pair_files.load(pair_file)
    both, each = training.measures(training.scores(model, pairs.images), pairs.labels)
    # By chance, both are right in 1 of 45 pairs, and 1 of 5 digits is found.
    assert both.condition == 'both right'
    assert both.error_percent < 90
    assert each.condition == 'each by itself'
    assert each.error_percent < 65


def _trained(digits, network, steps, *, checkpoints=None, should_stop=lambda: False, **settings):
    model_config, config = training.configured(network, (28, 28), 1, settings)
    pairs = TrainingPairs(digits[0], 4, seed=1, batch_size=config.batch_size)
    keras.utils.set_random_seed(1)
    model = table.create(model_config)
    training.train(model, config, pairs, steps, checkpoints, should_stop)
    return model.get_weights()


def test_a_training_can_be_repeated_and_its_averaged_weights_are_used(digits):
    first = _trained(digits, 'cnn', 1, **_CNN_SETTINGS)
    second = _trained(digits, 'cnn', 2, **_CNN_SETTINGS)
    averaged = _trained(digits, 'cnn', 2, **_CNN_SETTINGS, EMA_DECAY='0.25')
    for before, after, mean in zip(first, second, averaged, strict=True):
        # The first average is that of the first step.
        np.testing.assert_allclose(mean, 0.25 * before + 0.75 * after, atol=1e-5)
        assert np.abs(after - before).max() > 1e-3


def test_a_training_that_was_stopped_resumes_to_the_same_weights(digits, tmp_path, capfd):
    settings = {**_CNN_SETTINGS, 'EMA_DECAY': '0.25'}
    whole = _trained(digits, 'cnn', 4, **settings)
    given = {**settings, 'checkpoints': Checkpoints(tmp_path)}
    questions = itertools.count()
    with pytest.raises(TrainingError, match='did after step 2 of 4: the same command resumes'):
        _trained(digits, 'cnn', 4, should_stop=lambda: next(questions) == 2, **given)
    # The second one to resume has no step left.
    for start in (2, 4):
        capfd.readouterr()
        resumed = _trained(digits, 'cnn', 4, **given)
        assert f'resuming from the checkpoint of step {start} of 4' in capfd.readouterr().err
        for expected, weights in zip(whole, resumed, strict=True):
            np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_checkpoints_are_written_every_so_many_steps(digits, tmp_path):
    checkpoints = Checkpoints(tmp_path, every_steps=2)
    _trained(digits, 'cnn', 5, checkpoints=checkpoints, **_CNN_SETTINGS)
    # Only two are kept.
    assert {path.name for path in tmp_path.iterdir()} == {'step-00000004', 'step-00000005'}


def test_a_training_that_diverges_says_at_which_learning_rate(digits):
    # Of four steps in two epochs, the last one has 0.01 ** 1.5 of the first one's rate.
    settings = {
        **_CNN_SETTINGS,
        'EPOCHS': '2',
        'LEARNING_RATE': '1e30',
        'LEARNING_RATE_SCHEDULE': 'exponential',
        'LEARNING_RATE_DECAY': '0.01',
    }
    with pytest.raises(Diverged, match=r'at step 3, where the learning rate is 1e\+27'):
        _trained(digits, 'cnn', 4, **settings)


def test_networks_and_settings_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"NETWORK must be one of capsnet, cnn, .*, not 'mlp'"):
        training.configured('mlp', (28, 28), 1, {})
    with pytest.raises(SettingError, match='LEARNING_RATE'):
        training.configured('capsnet', (28, 28), 1, {'LEARNING_RATE': 'fast'})
    config, _ = training.configured('capsnet', (28, 28), 1, {'IMAGE_HEIGHT': '28'})
    assert config.image_shape == (36, 36)
