"""Weights in the files of an exported model, whole and damaged."""

import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.training import warm_start
from capsmodel.training.errors import TrainingError


@pytest.fixture
def exported(tmp_path):
    """A SavedModel that keeps its weights where `signatures.export` has them."""
    module = tf.Module()
    module._variables = [tf.Variable(np.arange(500.0) + number) for number in range(12)]
    tf.saved_model.save(module, str(tmp_path / 'model'))
    return tmp_path / 'model'


def test_weights_have_the_order_of_the_variables(exported):
    first = [weight[0] for weight in warm_start.exported_weights(str(exported))]
    assert first == list(range(12))


def _shorten(file):
    os.truncate(file, file.stat().st_size // 10)


def _change(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize('damage', [_shorten, _change, os.remove])
@pytest.mark.parametrize('name', ['variables.data-00000-of-00001', 'variables.index'])
def test_weights_that_cannot_be_read_are_named(exported, name, damage):
    damage(exported / 'variables' / name)
    said = f'^The weights of the model in {re.escape(str(exported))} cannot be read: .+'
    with pytest.raises(TrainingError, match=said):
        warm_start.exported_weights(str(exported))


def test_a_model_that_is_gone_is_named(exported):
    shutil.rmtree(exported)
    with pytest.raises(TrainingError, match='cannot be read'):
        warm_start.exported_weights(str(exported))
