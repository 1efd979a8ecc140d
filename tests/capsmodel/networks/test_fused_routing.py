"""Tests of routing that XLA fuses: Procedure 1, with the gradients of the matrix products."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.fused_routing import fused_routing
from capsmodel.networks.routing import routing_by_agreement

RNG = np.random.default_rng(5)
U = RNG.normal(size=(2, 5, 2))
KERNEL = RNG.normal(size=(5, 3, 2, 4))
WEIGHTS = RNG.normal(size=(2, 3, 4))


def _with_gradients(function, u, kernel, *options):
    u, kernel = tf.constant(u), tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch([u, kernel])
        v = function(u, kernel, *options)
        loss = tf.reduce_sum(WEIGHTS[: u.shape[0]] * tf.cast(v, tf.float64))
    return v, *tape.gradient(loss, [u, kernel])


@pytest.mark.parametrize('gradient', ['all', 'last'])
@pytest.mark.parametrize('iterations', [1, 2, 3])
def test_routing_is_procedure_1_and_its_gradients_are_those_of_the_matrix_products(
    iterations, gradient
):
    actual = _with_gradients(fused_routing, U, KERNEL, iterations, gradient)
    predictions = np.einsum('nid,ijdk->nijk', U, KERNEL)
    np.testing.assert_allclose(actual[0], oracle.route(predictions, iterations)[0], rtol=1e-9)
    expected = _with_gradients(routing_by_agreement, U, KERNEL, iterations, gradient)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


def test_gradient_through_all_iterations_is_the_numerical_one():
    def loss(u, kernel):
        predictions = np.einsum('nid,ijdk->nijk', u, kernel)
        return np.sum(WEIGHTS * oracle.route(predictions, 3)[0])

    _, du, dkernel = _with_gradients(fused_routing, U, KERNEL, 3, 'all')
    expected = oracle.numerical_gradient(lambda u: loss(u, KERNEL), U)
    np.testing.assert_allclose(du, expected, rtol=1e-6, atol=1e-7)
    expected = oracle.numerical_gradient(lambda kernel: loss(U, kernel), KERNEL)
    np.testing.assert_allclose(dkernel, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_routing_of_any_batch_size_in_a_function(jit_compile):
    @tf.function(input_signature=[tf.TensorSpec([None, 5, 2])], jit_compile=jit_compile)
    def run(u):
        kernel = tf.constant(KERNEL, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch([u, kernel])
            v = fused_routing(u, kernel, 3)
        return v, tape.gradient(v, [u, kernel])

    for n in (0, 2):
        v, (du, dkernel) = run(np.float32(U[:n]))
        assert v.shape == (n, 3, 4)
        assert du.shape == (n, 5, 2)
        assert np.any(dkernel) == bool(n)
    predictions = np.einsum('nid,ijdk->nijk', U, KERNEL)
    np.testing.assert_allclose(v, oracle.route(predictions, 3)[0], atol=1e-5)


def test_low_precision_capsules_are_routed_in_float32():
    u, kernel = tf.cast(U, tf.bfloat16), tf.cast(KERNEL, tf.bfloat16)
    v, du, dkernel = _with_gradients(fused_routing, u, kernel, 2)
    assert v.dtype == tf.float32
    assert du.dtype == dkernel.dtype == tf.bfloat16
    np.testing.assert_allclose(v, routing_by_agreement(u, kernel, 2), atol=1e-5)


def test_options_are_checked():
    with pytest.raises(ValueError, match='iterations must be a whole number of at least 1'):
        fused_routing(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), 0)
    with pytest.raises(ValueError, match="'all' or 'last', not 'first'"):
        fused_routing(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), 3, 'first')
