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

from capsmodel import guard, signatures
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
def transform_output(images, tmp_path_factory):
    png = tf.io.encode_png(images[0][..., np.newaxis]).numpy()
    raw = [{features.IMAGE: png, features.LABEL: 3, features.ID: b'a'}]
    return run_transform(raw, str(tmp_path_factory.mktemp('transform')), 28, 28)[1]


@pytest.fixture(scope='module')
def members():
    """Two networks that disagree: after a second of training, and after none."""
    training, evaluation = transformed_examples.digits()
    settings = dataclasses.replace(TRAINING, epochs=1, batch_size=20)
    trained = loop.train(network_configs.small('capsnet'), settings, training, evaluation, None)
    keras.utils.set_random_seed(3)
    return [trained.exported(), table.create(network_configs.small('mlp'))]


@pytest.fixture(scope='module')
def folders(members, images, transform_output, tmp_path_factory):
    """Where the networks are exported to."""
    folders = []
    for member in members:
        folders.append(str(tmp_path_factory.mktemp('member') / '1'))
        thresholds = np.full(4 if member.config.has_decoder else 3, -1e9, np.float32)
        exported = (transform_output, folders[-1], images[:2], thresholds)
        signatures.export(member, *exported, NAMES, 'strokes')
    return folders


def _config(members):
    return EnsembleConfig(28, 28, 10, members=tuple(member.config for member in members))


def _mean(members, images):
    return np.mean([member.scores(member(images)) for member in members], axis=0)


def test_exported_weights_make_the_members_and_the_scores_are_their_mean(members, folders, images):
    keras.utils.set_random_seed(5)
    ensemble = table.create(_config(members))
    weights = [w for folder in folders for w in warm_start.exported_weights(folder)]
    warm_start.assign(ensemble, weights)
    expected = _mean(members, images)
    answers = [member.scores(member(images)).numpy().argmax(axis=1) for member in members]
    assert np.any(answers[0] != answers[1])
    np.testing.assert_array_equal(ensemble.scores(ensemble(images)), expected)
    with pytest.raises(TrainingError, match='MEMBERS: the weights of a member do not fit'):
        warm_start.assign(ensemble, weights[1:])


def test_nothing_is_trained_and_nothing_is_lost(members, folders, images, capsys):
    """Whatever the settings of a training say, and with fewer images than in one batch."""
    weights = [w for folder in folders for w in warm_start.exported_weights(folder)]
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
    members, folders, images, transform_output, tmp_path
):
    copies = [shutil.copytree(folder, tmp_path / f'{n}') for n, folder in enumerate(folders)]
    request = dataclasses.replace(
        training_request.write(tmp_path),
        network=_config(members),
        weights_from=[str(copy) for copy in copies],
    )
    checkpoints = launcher.train(request, 'default')
    for copy in copies:
        shutil.rmtree(copy)
    ensemble = table.create(request.network.exported)
    load_best(ensemble, checkpoints)
    expected = _mean(members, images)
    np.testing.assert_array_equal(ensemble.scores(ensemble(images)), expected)

    directory = tmp_path / 'ensemble'
    thresholds = guard.thresholds(ensemble, images, false_alarms=0.1)
    assert thresholds.shape == (3,)
    exported = (transform_output, str(directory), images[:2], thresholds)
    signatures.export(ensemble, *exported, NAMES, 'strokes')
    asked = {'pixels': {'pixels': images}}
    answer = plain_tensorflow.answers(directory, asked, tmp_path)['pixels']
    np.testing.assert_allclose(answer['scores'], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answer['label'], expected.argmax(axis=1))
    assert 0.9 <= np.mean(answer['known']) < 1
