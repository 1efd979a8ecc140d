"""A model that an earlier version of the pipeline pushed goes on being served as it was."""

import json
import os
import tarfile

import line_results
import numpy as np
import pytest
import tensorflow as tf
from project_paths import DATA
from rest_server import request, rest_server

from capsmodel.training import warm_start

_IMAGES = np.load(DATA / 'mnist_300.npz')['images'][::10]
_SAID = np.load(DATA / 'earlier_model_answers.npz')
_ROUNDING = 1e-4  # versions of TensorFlow add up in other orders


@pytest.fixture(scope='module')
def pushed(tmp_path_factory):
    """The version's folder."""
    folder = tmp_path_factory.mktemp('capsnet')
    with tarfile.open(DATA / 'earlier_model.tar.xz') as archive:
        archive.extractall(folder, filter='data')
    (version,) = folder.iterdir()
    return version


def test_it_loads_and_answers_the_same(pushed):
    answers = line_results.answers(tf.saved_model.load(str(pushed)), _IMAGES)
    for name in _SAID:
        np.testing.assert_allclose(answers[name], _SAID[name], atol=_ROUNDING, err_msg=name)


@pytest.mark.slow
def test_it_is_served(pushed):
    body = {'signature_name': 'pixels', 'instances': _IMAGES.tolist()}
    # Its shapes are not checked in its graph: the server does it.
    wrong = {'signature_name': 'pixels', 'instances': _IMAGES[:1, :14, :14].tolist()}
    with rest_server(f'--model_base_path={pushed.parent}', '--enable_batching=true') as url:
        status, _, text = request('POST', f'{url}:predict', json.dumps(body).encode())
        refused, _, reason = request('POST', f'{url}:predict', json.dumps(wrong).encode())
    assert status == 200, text
    labels = [answer['label'] for answer in json.loads(text)['predictions']]
    assert labels == _SAID['pixels.label'].tolist()
    assert refused == 400, reason


def test_training_can_start_from_it(pushed):
    weights = warm_start.exported_weights(os.fspath(pushed))
    assert [weight.shape for weight in weights][:2] == [(9, 9, 1, 16), (16,)]
    assert len(weights) == 9
