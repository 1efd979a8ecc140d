"""Routing by self-attention against its equations in numpy."""

import numpy as np
import pytest
import tensorflow as tf
from tape import gradient_of

from capsmodel.networks.self_attention_routing import (
    AttentionCaps,
    exponential_squash,
    self_attention_routing,
)


def _squash_one(s):
    length = np.sqrt(np.sum(s**2))
    return (1 - np.exp(-length)) * s / length


def _route_one(u, kernel, bias):
    """Eq. 5 to 8 for one image, one loop an index: u [children, child_dim] -> [parents, dim]."""
    parents, children, _, dim = kernel.shape
    u_hat = np.array([[u[i] @ kernel[j, i] for i in range(children)] for j in range(parents)])
    logits = np.zeros((parents, children))
    for j in range(parents):
        for i in range(children):
            for k in range(children):
                logits[j, i] += u_hat[j, i] @ u_hat[j, k] / np.sqrt(dim)
    c = np.exp(logits) / np.exp(logits).sum(axis=0)
    return np.stack(
        [
            _squash_one(sum((c[j, i] + bias[j, i]) * u_hat[j, i] for i in range(children)))
            for j in range(parents)
        ]
    )


def _inputs(n=3):
    rng = np.random.default_rng(0)
    shapes = ((n, 5, 4), (3, 5, 4, 6), (3, 5))
    return [rng.normal(size=shape) for shape in shapes]


def test_it_is_the_papers_equations():
    u, kernel, bias = _inputs()
    expected = np.stack([_route_one(one, kernel, bias) for one in u])
    np.testing.assert_allclose(self_attention_routing(u, kernel, bias), expected, rtol=1e-10)
    single = self_attention_routing(*(np.float32(x) for x in (u, kernel, bias)))
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_gradients_are_those_of_numerical_differentiation():
    inputs = _inputs()
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3, 3, 6))
    for number in range(3):

        def value(x, number=number):
            changed = [*inputs[:number], x, *inputs[number + 1 :]]
            return tf.reduce_sum(weights * self_attention_routing(*changed))

        exact = gradient_of(value, inputs[number])
        for direction in rng.normal(size=(3, *inputs[number].shape)):
            step = 1e-5 * direction
            expected = float(value(inputs[number] + step) - value(inputs[number] - step)) / 2e-5
            assert np.sum(exact * direction) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_squash_worked_by_hand():
    squashed = exponential_squash(tf.constant([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0], [1e30, 0.0]]))
    short = 1 - np.exp(-5.0)
    expected = [[0.6 * short, 0.8 * short], [0, 0], [1e-9, 0], [1, 0]]
    np.testing.assert_allclose(squashed, expected, rtol=1e-6)
    assert np.all(np.linalg.norm(squashed, axis=1) < 1)


@pytest.mark.parametrize('length', [0.0, 1e-30, 1e-7, 0.3, 50.0, 1e30])
def test_the_gradient_of_squash_is_finite(length):
    s = np.array([[length, 0]], np.float32)
    gradient = gradient_of(lambda x: tf.reduce_sum(exponential_squash(x)), s)
    assert np.all(np.isfinite(gradient))
    # Along the vector the slope is exp(-|s|), across it (1 - exp(-|s|)) / |s|.
    across = 1 if length < 1e-6 else -np.expm1(-length) / length
    np.testing.assert_allclose(gradient, [[np.exp(-length), across]], rtol=1e-5, atol=1e-6)


def test_the_layer_has_a_matrix_and_a_bias_for_each_pair():
    layer = AttentionCaps(10, 16)
    layer.build((None, 16, 8))
    assert layer.count_params() == 10 * 16 * 8 * 16 + 10 * 16
    copy = AttentionCaps.from_config(layer.get_config())
    copy.build((None, 16, 8))
    assert copy(np.zeros([0, 16, 8], np.float32)).shape == (0, 10, 16)
