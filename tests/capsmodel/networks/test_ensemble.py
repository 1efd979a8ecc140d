"""An ensemble of two exported networks, from their files to what it answers itself."""

import dataclasses
import shutil

import keras
import network_configs
import numpy as np
import plain_tensorflow
import pytest
import tensorflow as tf
import training_request
import transformed_examples
from run_transform import run_transform
from small_training import TRAINING

from capsmodel import guard, model_facts, signatures
from capsmodel.data import features
from capsmodel.networks import table
from capsmodel.networks.ensemble_settings import EnsembleConfig
from capsmodel.training import launcher, loop, warm_start
from capsmodel.training.errors import TrainingError
from capsmodel.training.state import load_best

NAMES = [f'digit {label}' for label in range(10)]


@pytest.fixture(scope='module')
def images():
    _, evaluation = transformed_examples.digits()
    return evaluation.images


@pytest.fixture(scope='module')
def members():
    """Two networks that disagree: after a second of training, and after none."""
    training, evaluation = transformed_examples.digits()
    settings = dataclasses.replace(TRAINING, epochs=1, batch_size=20)
    trained = loop.train(network_configs.small('capsnet'), settings, training, evaluation, None)
    keras.utils.set_random_seed(3)
    return [trained.exported(), table.create(network_configs.small('mlp'))]


@pytest.fixture(scope='module')
def weights(members):
    return [variable.numpy() for member in members for variable in member.variables]


def _config(members):
    return EnsembleConfig(28, 28, 10, members=tuple(member.config for member in members))


def _mean(members, images):
    return np.mean([member.scores(member(images)) for member in members], axis=0)


def test_its_weights_are_those_of_the_members_and_its_scores_their_mean(members, weights, images):
    keras.utils.set_random_seed(5)
    ensemble = table.create(_config(members))
    warm_start.assign(ensemble, weights)
    expected = _mean(members, images)
    answers = [member.scores(member(images)).numpy().argmax(axis=1) for member in members]
    assert np.any(answers[0] != answers[1])
    np.testing.assert_array_equal(ensemble.scores(ensemble(images)), expected)
    with pytest.raises(TrainingError, match='MEMBERS: the weights of a member do not fit'):
        warm_start.assign(ensemble, weights[1:])


def test_nothing_is_trained_and_nothing_is_lost(members, weights, images, capsys):
    """Whatever the settings of a training say, and with fewer images than in one batch."""
    training, evaluation = transformed_examples.digits()
    settings = dataclasses.replace(TRAINING, epochs=9, batch_size=5000, ema_decay=0.5)
    ensemble = loop.train(
        *(_config(members), settings, training, evaluation, None), initial_weights=weights
    )
    assert ensemble.trainable_variables == []
    for variable, weight in zip(ensemble.variables, weights, strict=True):
        np.testing.assert_array_equal(variable, weight)
    accuracy = np.mean(_mean(members, images).argmax(axis=1) == evaluation.labels)
    assert capsys.readouterr().err.splitlines() == [
        f'  nothing is trained: the network is made of {ensemble.size()}',
        f'  accuracy {accuracy:.2%} on the 100 evaluation images',
    ]


def test_members_see_the_same_images_in_the_same_classes():
    for other in ({'size': 24}, {'classes': 9}):
        odd = network_configs.small('mlp', **other)
        with pytest.raises(ValueError, match='a member sees images of shape'):
            EnsembleConfig(28, 28, 10, members=(network_configs.small('capsnet'), odd))


def test_without_members_there_is_no_ensemble():
    with pytest.raises(ValueError, match='an ensemble needs members'):
        table.create(EnsembleConfig(28, 28, 10))


@pytest.mark.slow
def test_the_exported_ensemble_needs_neither_its_members_nor_this_project(
    members, images, tmp_path
):
    png = tf.io.encode_png(images[0][..., np.newaxis]).numpy()
    raw = [{features.IMAGE: png, features.LABEL: 3, features.ID: b'a'}]
    _, transform_output = run_transform(raw, str(tmp_path / 'transform'), 28, 28)

    def export(network, name):
        thresholds = guard.thresholds(network, images, false_alarms=0.1)
        exported = (transform_output, str(tmp_path / name), images[:2], thresholds)
        signatures.export(network, *exported, NAMES, 'strokes')
        return str(tmp_path / name)

    folders = [export(member, f'member {number}') for number, member in enumerate(members)]
    facts = [model_facts.read_network(folder) for folder in folders]
    assert {each['framing'] for each in facts} == {'strokes'}
    networks = tuple(table.config_of(each['config']) for each in facts)
    request = dataclasses.replace(
        training_request.write(tmp_path),
        network=EnsembleConfig(28, 28, 10, members=networks),
        weights_from=folders,
    )
    checkpoints = launcher.train(request, 'default')
    for folder in folders:
        shutil.rmtree(folder)
    ensemble = table.create(request.network.exported)
    load_best(ensemble, checkpoints)
    expected = _mean(members, images)
    np.testing.assert_array_equal(ensemble.scores(ensemble(images)), expected)

    asked = {'pixels': {'pixels': images}}
    answer = plain_tensorflow.answers(export(ensemble, 'ensemble'), asked, tmp_path)['pixels']
    np.testing.assert_allclose(answer['scores'], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer['label'], expected.argmax(axis=1))
    assert 0.9 <= np.mean(answer['known']) < 1
