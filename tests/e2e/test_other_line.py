"""What the other line of TFX wrote, read by this one; `make test-trixie` does it both ways.

OTHER_LINE is a folder that tests/support/line_results.py has written with the other line.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shutil

import line_results
import numpy as np
import pytest
import tensorflow as tf
from rest_server import request, rest_server
from tfx_project import COMPLETE, Project

from capsmodel.networks import capsnet
from capsmodel.training import launcher
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.request import TrainingRequest
from capsmodel.training.state import load_best

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif('OTHER_LINE' not in os.environ, reason='make test-trixie runs these'),
]

# Two versions of TensorFlow add up in another order.
_ROUNDING = 1e-4


@pytest.fixture(scope='module')
def other():
    return pathlib.Path(os.environ['OTHER_LINE'])


@pytest.fixture(scope='module')
def project(root, other):
    return Project(root, other / 'var')


@pytest.fixture(scope='module')
def pushed(project):
    """The first model that was pushed: a later one is this line's."""
    return f'{project.config.serving_model_dir}/{project.versions()[0]}'


def test_it_is_another_line(other):
    versions = json.loads((other / 'versions.json').read_text())
    assert {name: importlib.metadata.version(name) for name in versions} != versions


def test_pushed_model_answers_the_same(other, pushed, mnist_dir):
    images = line_results.images(mnist_dir)
    answers = line_results.answers(tf.saved_model.load(pushed), images)
    said = np.load(other / 'answers.npz')
    assert sorted(said) == sorted(answers)
    for name in said:
        np.testing.assert_allclose(answers[name], said[name], atol=_ROUNDING, err_msg=name)


def test_pushed_model_is_served(other, pushed, mnist_dir):
    images = line_results.images(mnist_dir)[:3]
    body = {'signature_name': 'pixels', 'instances': images.tolist()}
    with rest_server(f'--model_base_path={os.path.dirname(pushed)}') as url:
        status, _, text = request('POST', f'{url}:predict', json.dumps(body).encode())
    assert status == 200, text
    said = np.load(other / 'answers.npz')['pixels.label'][:3]
    assert [answer['label'] for answer in json.loads(text)['predictions']] == said.tolist()


def test_training_goes_on_from_the_checkpoint(other, tmp_path, capfd):
    asked = TrainingRequest.read(other / 'training' / 'request.json')
    shutil.copytree(asked.checkpoint_root, tmp_path / 'checkpoints')
    asked = dataclasses.replace(
        asked, checkpoint_root=str(tmp_path / 'checkpoints'), log_dir=str(tmp_path / 'log')
    )
    (folder,) = (path.parent for path in (tmp_path / 'checkpoints').glob('*/step-00000060'))
    shutil.rmtree(folder / 'step-00000060')
    model = capsnet.CapsNet(asked.network)
    assert load_best(model, Checkpoints(folder)).step == 55
    checkpoints = launcher.train(asked)
    assert 'resuming from the checkpoint of step 55 of 60' in capfd.readouterr().err
    said = np.load(other / 'weights.npz')
    weights = line_results.weights(checkpoints)
    assert sorted(said) == sorted(weights)
    for name in said:
        np.testing.assert_allclose(weights[name], said[name], atol=_ROUNDING, err_msg=name)


def test_the_next_run_goes_on_in_the_same_folder(project):
    """It reads ML Metadata, and starts from and is compared with the model that was blessed."""
    assert set(project.states().values()) == {COMPLETE}
    done = project.run(WARM_START='yes', EPOCHS='1')
    assert done.returncode == 0, done.stderr
    assert 'against the last blessed model' in done.stdout
    assert len(project.versions()) == 2
