"""Evaluations: what they measure, and that it does not depend on how many images a step takes."""

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from small_training import NETWORK

from capsmodel.networks import capsnet, memory
from capsmodel.training.evaluation import Evaluator


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()[1]


@pytest.fixture(scope='module')
def model():
    tf.keras.utils.set_random_seed(0)
    return capsnet.CapsNet(NETWORK)


def _evaluator(model, digits, batch_size=0):
    return Evaluator(model, digits, tf.distribute.get_strategy(), batch_size)


def test_evaluation_gives_the_lengths_of_all_images(model, digits):
    evaluation, lengths = _evaluator(model, digits).run()
    np.testing.assert_allclose(lengths, capsnet.lengths(model(digits.images)), atol=1e-5)
    assert evaluation.accuracy == np.mean(np.argmax(lengths, axis=1) == digits.labels)


@pytest.mark.parametrize('batch_size', [1, 7, 64, 1000])
def test_results_do_not_depend_on_the_images_a_step(model, digits, batch_size):
    digits = digits._replace(images=digits.images[:30], labels=digits.labels[:30])
    expected, expected_lengths = _evaluator(model, digits).run()
    evaluation, lengths = _evaluator(model, digits, batch_size).run()
    np.testing.assert_allclose(lengths, expected_lengths, atol=1e-6)
    assert evaluation.scalars() == pytest.approx(expected.scalars())


@pytest.mark.parametrize(
    ('asked', 'free', 'expected'),
    [(0, 2**40, 100), (0, 0, 1), (30, 0, 30), (1000, 0, 100)],
)
def test_images_a_step(model, digits, monkeypatch, asked, free, expected):
    monkeypatch.setattr(memory, 'available', lambda: free)
    assert _evaluator(model, digits, asked).batch_size == expected


def test_images_a_step_are_those_that_half_of_the_memory_is_enough_for(model, digits, monkeypatch):
    once, each = model.bytes_to_evaluate()
    monkeypatch.setattr(memory, 'available', lambda: 2 * (once + 20 * each))
    assert _evaluator(model, digits).batch_size == 20
