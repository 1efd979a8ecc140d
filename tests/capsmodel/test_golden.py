"""What an earlier version of this code wrote is read, gone on from, and written again the same."""

import hashlib
import shutil
import tarfile
from typing import Any

import golden
import numpy as np
import plain_tensorflow
import pytest
import tensorflow as tf
from project_paths import DATA
from tensorflow.core.protobuf import saved_model_pb2

from capsmodel.networks import capsnet
from capsmodel.training import evaluation, warm_start
from capsmodel.training.checkpoints import Checkpoints, Progress
from capsmodel.training.state import load_best
from serving.models.model import LoadedModel

# Versions of TensorFlow add up in other orders.
_ROUNDING: dict[str, Any] = {'rtol': 1e-3, 'atol': 1e-4}
# Accuracy and negative margin loss of the best epoch that the checkpoint knows, and its weights.
_BEST = (0.7, -0.27472946383059027)
_BEST_WEIGHTS = 'f0fe0cf8c9a8726e3b2554760d40de0a9dad7e6a57bb7fd643cdeee5e3d313cd'


def _unpacked(name, folder):
    with tarfile.open(DATA / name) as archive:
        archive.extractall(folder, filter='data')
    return folder


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    return Checkpoints(_unpacked('golden_checkpoint.tar.xz', tmp_path_factory.mktemp('training')))


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The SavedModel's folder."""
    return _unpacked('golden_model.tar.xz', tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def archive():
    with np.load(DATA / 'golden.npz') as archive:
        yield archive


def _sum(weights):
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def test_the_best_epoch_is_read_to_the_bit(checkpoints):
    network = capsnet.CapsNet(golden.NETWORK)
    assert load_best(network, checkpoints) == Progress(golden.STOPPED_AT, _BEST)
    assert _sum(network.get_weights()) == _BEST_WEIGHTS
    judged = evaluation.evaluate(network, golden.images(40, seed=2))
    assert (judged.accuracy, -judged.loss) == pytest.approx(_BEST, rel=1e-4)


def test_the_training_goes_on_and_comes_to_the_same_end(checkpoints, archive, tmp_path, capfd):
    shutil.copytree(checkpoints.folder, tmp_path / 'training')
    network = golden.train(Checkpoints(tmp_path / 'training'))
    said = f'  resuming from the checkpoint of step {golden.STOPPED_AT} of {golden.STEPS}\n'
    assert said in capfd.readouterr().err
    for number, weight in enumerate(network.get_weights()):
        np.testing.assert_allclose(weight, archive[f'end/{number}'], **_ROUNDING)


def _assert_same(answers, archive):
    expected = golden.read(archive, 'answered')
    assert answers.keys() == expected.keys()
    for name, outputs in expected.items():
        # Later models may answer more.
        assert answers[name].keys() >= outputs.keys()
        for key, value in outputs.items():
            assert answers[name][key].dtype == value.dtype
            np.testing.assert_allclose(answers[name][key], value, **_ROUNDING, err_msg=name)


def test_plain_tensorflow_gets_the_same_answers(model, archive, tmp_path):
    asked = golden.read(archive, 'asked')
    _assert_same(plain_tensorflow.answers(model, asked, tmp_path), archive)


@pytest.mark.slow
def test_the_server_gets_the_same_answers(model, archive):
    loaded = LoadedModel(str(model))
    asked = golden.read(archive, 'asked')
    _assert_same({name: loaded.run(name, inputs) for name, inputs in asked.items()}, archive)


def test_the_server_reads_it(model, archive, tmp_path):
    # Without warm-up requests, which take longer than all else, as pictures do.
    shutil.copytree(model, tmp_path / 'model', ignore=shutil.ignore_patterns('assets.extra'))
    loaded = LoadedModel(str(tmp_path / 'model'))
    for name in ('pixels', 'decode'):
        for key, value in loaded.run(name, golden.read(archive, 'asked')[name]).items():
            expected = golden.read(archive, 'answered')[name][key]
            np.testing.assert_allclose(value, expected, **_ROUNDING)


def test_training_can_start_from_its_weights(model):
    assert _sum(warm_start.exported_weights(str(model))) == _BEST_WEIGHTS


def _signatures(folder):
    """Inputs and outputs of a SavedModel's signatures: types and shapes by name."""
    content = (folder / 'saved_model.pb').read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return {
        name: {
            side: {
                key: (info.dtype, [size.size for size in info.tensor_shape.dim])
                for key, info in getattr(signature, side).items()
            }
            for side in ('inputs', 'outputs')
        }
        for name, signature in graph.signature_def.items()
    }


@pytest.mark.slow
def test_what_is_exported_today_is_the_same_model(model, checkpoints, archive, tmp_path):
    golden.export(golden.best(checkpoints), tmp_path / 'model')
    exported = _signatures(tmp_path / 'model')
    for name, signature in _signatures(model).items():
        assert exported[name]['inputs'] == signature['inputs']
        assert exported[name]['outputs'].items() >= signature['outputs'].items()
    today = tf.saved_model.load(str(tmp_path / 'model'))
    answers = {
        name: {
            key: value.numpy()
            for key, value in today.signatures[name](
                **{key: tf.constant(value) for key, value in inputs.items()}
            ).items()
        }
        for name, inputs in golden.read(archive, 'asked').items()
    }
    _assert_same(answers, archive)
