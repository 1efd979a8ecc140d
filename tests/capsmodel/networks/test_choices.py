"""Choices: settings are read without TensorFlow; a new routing is one function and one entry."""

import dataclasses
import subprocess
import sys

import numpy as np
import planted_routing
import pytest
import tensorflow as tf
import transformed_examples
from project_paths import PROGRAMS
from small_training import NETWORK, TRAINING

from capsmodel.networks import choices
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.training import loop


def test_settings_need_no_tensorflow():
    command = [sys.executable, str(PROGRAMS / 'import_settings.py')]
    assert subprocess.check_output(command, text=True) == '[]\n'


def test_a_new_routing_is_a_function_and_an_entry(monkeypatch):
    with pytest.raises(ValueError, match='must be one of auto, native, matmul, fused, reference'):
        dataclasses.replace(NETWORK, routing_algorithm='planted')
    entry = choices.Routing('planted_routing.mean_of_predictions')
    monkeypatch.setitem(choices.ROUTINGS, 'planted', entry)
    config = dataclasses.replace(NETWORK, routing_algorithm='planted')
    assert CapsNetConfig(**dataclasses.asdict(config)) == config
    training, evaluation = transformed_examples.digits()
    one_step = dataclasses.replace(TRAINING, epochs=1, batch_size=len(training.labels))
    model = loop.train(config, one_step, training, evaluation, None)
    images = evaluation.images[:3]
    expected = planted_routing.mean_of_predictions(
        model.primary_capsules(images), tf.convert_to_tensor(model.digit_caps.kernel), 3
    )
    np.testing.assert_allclose(model(images), expected, atol=1e-6)


def test_routings_are_exported_as_matmul_or_as_themselves(monkeypatch):
    for name in ('auto', 'native', 'matmul', 'fused', 'reference'):
        assert choices.exported_routing(name) == 'matmul'
        assert choices.is_by_agreement(name)
    monkeypatch.setitem(choices.ROUTINGS, 'planted', choices.Routing('a.function'))
    assert choices.exported_routing('planted') == 'planted'
    assert not choices.is_by_agreement('planted')
