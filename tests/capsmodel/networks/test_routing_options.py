"""The "none of the above" of section 7, and a bias: routings by agreement do as the oracle does."""

import importlib

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.choices import ROUTINGS, is_by_agreement
from capsmodel.networks.reference_routing import procedure_1

_RANDOM = np.random.default_rng(3)
# [n, children, child_dim] and [children, parents, child_dim, dim]
U, KERNEL = _RANDOM.normal(size=(2, 4, 3)), _RANDOM.normal(size=(4, 3, 3, 2))
WEIGHTS = _RANDOM.normal(size=(2, 3, 2))
BIAS = _RANDOM.normal(size=(3, 2))

_each_by_agreement = pytest.mark.parametrize(
    'name', [name for name in ROUTINGS if is_by_agreement(name)]
)


def _route(name, *arguments):
    module, _, function = ROUTINGS[name].function.rpartition('.')
    return getattr(importlib.import_module(module), function)(*arguments)


def _expected(u, kernel, iterations, none_of_the_above, bias):
    u_hat = np.einsum('nic,ijcd->nijd', u, kernel)
    return oracle.route(u_hat, iterations, none_of_the_above, bias)


def test_a_child_keeps_what_it_sends_to_no_parent():
    # b = (0, 0), and 0 for none: c = (1/3, 1/3); s = ((1, 0), (0, 0)); v = ((1/2, 0), (0, 0));
    # b = (3/2, 0): c = (e, 1) / (e + 2) with e = exp(3/2).
    u_hat = tf.constant([[[[3.0, 0.0]], [[0.0, 0.0]]]])
    _, c = procedure_1(u_hat, 2, none_of_the_above=True)
    e = np.exp(1.5)
    np.testing.assert_allclose(
        c[:, 0, :, 0], [[1 / 3, 1 / 3], [e / (e + 2), 1 / (e + 2)]], rtol=1e-6
    )


@_each_by_agreement
@pytest.mark.parametrize('iterations', [1, 3])
@pytest.mark.parametrize('options', [(True, None), (False, BIAS), (True, BIAS)])
def test_every_routing_is_the_oracles(name, iterations, options):
    none_of_the_above, bias = options
    bias = np.zeros_like(BIAS) if bias is None else bias
    with tf.GradientTape() as tape:
        u, kernel, b = map(tf.constant, (U, KERNEL, bias))
        tape.watch([u, kernel, b])
        v = _route(name, u, kernel, iterations, 'all', none_of_the_above, b)
        loss = tf.reduce_sum(WEIGHTS * v)
    expected, _ = _expected(U, KERNEL, iterations, *options)
    np.testing.assert_allclose(v, expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(v, _route(name, U, KERNEL, iterations), rtol=1e-3)

    def loss_of(u, kernel, bias):
        v, _ = _expected(u, kernel, iterations, none_of_the_above, bias)
        return np.sum(WEIGHTS * v)

    values = [U, KERNEL, bias]
    for number, actual in enumerate(tape.gradient(loss, [u, kernel, b])):

        def of_one(x, number=number):
            return loss_of(*(x if at == number else value for at, value in enumerate(values)))

        numerical = oracle.numerical_gradient(of_one, values[number])
        np.testing.assert_allclose(actual, numerical, rtol=1e-5, atol=1e-8)


@_each_by_agreement
def test_the_last_iterations_gradient_takes_coupling_for_constant(name):
    _, coupling = _expected(U, KERNEL, 3, True, BIAS)

    def with_constant_coupling(u, bias):
        s = np.einsum('nij,nic,ijcd->njd', coupling, u, KERNEL) + bias
        return np.sum(WEIGHTS * np.apply_along_axis(oracle.squash, -1, s))

    with tf.GradientTape() as tape:
        u, bias = tf.constant(U), tf.constant(BIAS)
        tape.watch([u, bias])
        v = _route(name, u, tf.constant(KERNEL), 3, 'last', True, bias)
        loss = tf.reduce_sum(WEIGHTS * v)
    du, dbias = tape.gradient(loss, [u, bias])
    numerical = oracle.numerical_gradient(lambda u: with_constant_coupling(u, BIAS), U)
    np.testing.assert_allclose(du, numerical, rtol=1e-5, atol=1e-8)
    numerical = oracle.numerical_gradient(lambda bias: with_constant_coupling(U, bias), BIAS)
    np.testing.assert_allclose(dbias, numerical, rtol=1e-5, atol=1e-8)


@_each_by_agreement
def test_logits_far_below_and_above_zero_are_finite(name):
    u = tf.constant([[[300.0]] * 2, [[-300.0]] * 2])
    kernel = tf.ones([2, 3, 1, 2])
    v = _route(name, u, kernel, 3, 'all', True)
    assert np.all(np.isfinite(v))
    np.testing.assert_allclose(np.abs(v), np.sqrt(0.5), rtol=1e-3)
