"""Tests of the reference routing: it is Procedure 1, and networks with it equal the others."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tape import gradient_of

from capsmodel.networks.capsnet import CapsNet, lengths
from capsmodel.networks.losses import margin_loss
from capsmodel.networks.reference_routing import predictions, procedure_1, reference_routing
from capsmodel.networks.settings import CapsNetConfig

# [n, parents, children, dim]
U_HAT = np.random.default_rng(5).normal(size=(2, 3, 6, 4))
WEIGHTS = np.random.default_rng(6).normal(size=(2, 3, 4))
SMALL = {
    'image_height': 13,
    'image_width': 12,
    'num_classes': 3,
    'conv1_filters': 8,
    'conv1_kernel_size': 5,
    'primary_channels': 4,
    'primary_dim': 4,
    'primary_kernel_size': 3,
    'digit_dim': 5,
    'decoder': False,
}


def _oracle(u_hat, iterations):
    """The oracle has children before parents: v [n, parents, dim], c [n, parents, children]."""
    v, c = oracle.route(np.swapaxes(u_hat, 1, 2), iterations)
    return v, np.swapaxes(c, 1, 2)


@settings(max_examples=25, deadline=None)
@given(
    iterations=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4)),
    scale=st.floats(0.01, 3),
    gradient=st.sampled_from(['all', 'last']),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_iteration_is_that_of_procedure_1(iterations, shape, scale, gradient, seed):
    u_hat = np.random.default_rng(seed).normal(scale=scale, size=shape)
    v, c = procedure_1(tf.constant(u_hat), iterations, gradient)
    n, parents, children, _ = shape
    assert c.shape == (iterations, n, parents, children)
    for done in range(1, iterations + 1):
        expected_v, expected_c = _oracle(u_hat, done)
        np.testing.assert_allclose(c[done - 1], expected_c, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(v, expected_v, rtol=1e-8, atol=1e-12)


def test_children_share_their_output_among_the_parents():
    # One child and two parents: a softmax over the children would give c = 1 for both parents.
    # c = (1/2, 1/2); s = ((1, 0), (0, 0)); v_1 = (1/2, 0); b = (2 * 1/2, 0) = (1, 0).
    u_hat = tf.constant([[[[2.0, 0.0]], [[0.0, 0.0]]]])
    v, c = procedure_1(u_hat, 2)
    share = np.e / (np.e + 1)
    np.testing.assert_allclose(c[:, 0, :, 0], [[0.5, 0.5], [share, 1 - share]], rtol=1e-6)
    length = (2 * share) ** 2 / (1 + (2 * share) ** 2)
    np.testing.assert_allclose(v, [[[length, 0], [0, 0]]], rtol=1e-6)


def test_predictions_are_equation_2():
    rng = np.random.default_rng(0)
    u, kernel = rng.normal(size=(2, 5, 3)), rng.normal(size=(5, 4, 3, 6))
    u_hat = predictions(tf.constant(u), tf.constant(kernel))
    for j in range(4):
        for i in range(5):
            np.testing.assert_allclose(u_hat[:, j, i], u[:, i] @ kernel[i, j], rtol=1e-12)


def test_routing_of_any_batch_size_is_in_float32():
    kernel = tf.random.stateless_normal([5, 3, 2, 4], [0, 1])
    u = tf.random.stateless_normal([2, 5, 2], [0, 2])

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 2], tf.bfloat16)])
    def route(u):
        return reference_routing(u, kernel, 3)

    assert route(tf.cast(u[:0], tf.bfloat16)).shape == (0, 3, 4)
    rounded = tf.cast(tf.cast(u, tf.bfloat16), tf.float32)
    expected, _ = _oracle(np.einsum('nic,ijcd->njid', rounded, kernel), 3)
    v = route(tf.cast(u, tf.bfloat16))
    assert v.dtype == tf.float32
    np.testing.assert_allclose(v, expected, atol=1e-5)


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_all_iterations_is_the_numerical_one(iterations):
    expected = oracle.numerical_gradient(
        lambda u_hat: np.sum(WEIGHTS * _oracle(u_hat, iterations)[0]), U_HAT
    )
    actual = gradient_of(
        lambda u_hat: tf.reduce_sum(WEIGHTS * procedure_1(u_hat, iterations)[0]), U_HAT
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_the_last_iteration_takes_coupling_for_constant(iterations):
    coupling = _oracle(U_HAT, iterations)[1]

    def with_constant_coupling(u_hat):
        s = np.einsum('nji,njid->njd', coupling, u_hat)
        return np.sum(WEIGHTS * np.apply_along_axis(oracle.squash, -1, s))

    expected = oracle.numerical_gradient(with_constant_coupling, U_HAT)

    def gradient(mode):
        return gradient_of(
            lambda u_hat: tf.reduce_sum(WEIGHTS * procedure_1(u_hat, iterations, mode)[0]), U_HAT
        )

    actual = gradient('last')
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)
    assert np.allclose(actual, gradient('all')) == (iterations == 1)


@pytest.mark.parametrize('gradient', ['all', 'last'])
def test_a_network_with_it_and_a_direct_convolution_equals_the_default_one(gradient):
    ours = CapsNet(CapsNetConfig(**SMALL, routing_gradient=gradient))
    reference = CapsNet(
        CapsNetConfig(
            **SMALL,
            routing_gradient=gradient,
            routing_algorithm='reference',
            primary_algorithm='conv2d',
        )
    )
    rng = np.random.default_rng(0)
    # Larger than the first weights, so that the coupling coefficients are far from equal.
    weights = [rng.normal(scale=0.3, size=w.shape) for w in ours.weights]
    images = rng.integers(0, 256, (3, 13, 12)).astype(np.uint8)
    results = []
    for network in (reference, ours):
        network.set_weights(weights)
        with tf.GradientTape() as tape:
            capsules = network(images)
            loss = tf.reduce_sum(margin_loss([2, 0, 1], lengths(capsules)))
        results.append([capsules, *tape.gradient(loss, network.trainable_variables)])
    for expected, actual in zip(*results, strict=True):
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(actual, expected, atol=2e-5 * scale)


def test_options_are_checked():
    with pytest.raises(ValueError, match='iterations must be a whole number of at least 1'):
        procedure_1(tf.constant(U_HAT), 0)
    with pytest.raises(ValueError, match="'all' or 'last', not 'first'"):
        procedure_1(tf.constant(U_HAT), 3, 'first')
