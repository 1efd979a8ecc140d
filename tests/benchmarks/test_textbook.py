"""Tests of the textbook network: its routing is Procedure 1, and the network is the model's."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tape import gradient_of

from benchmarks.textbook import TextbookCapsNet, routing_of_predictions
from capsmodel.networks.capsnet import CapsNet, lengths
from capsmodel.networks.losses import margin_loss
from capsmodel.networks.settings import NetworkConfig

PREDICTIONS = np.random.default_rng(5).normal(size=(2, 6, 3, 4))
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


@pytest.mark.parametrize('gradient', ['all', 'last'])
def test_the_textbook_network_equals_the_models(gradient):
    config = NetworkConfig(**SMALL, routing_gradient=gradient)
    textbook, ours = TextbookCapsNet(config), CapsNet(config)
    rng = np.random.default_rng(0)
    # Larger than the first weights, so that the coupling coefficients are far from equal.
    weights = [rng.normal(scale=0.3, size=w.shape) for w in ours.weights]
    images = rng.integers(0, 256, (3, 13, 12)).astype(np.uint8)
    results = []
    for network in (textbook, ours):
        network.set_weights(weights)
        with tf.GradientTape() as tape:
            capsules = network(images)
            loss = tf.reduce_sum(margin_loss([2, 0, 1], lengths(capsules)))
        results.append([capsules, *tape.gradient(loss, network.trainable_variables)])
    for expected, actual in zip(*results, strict=True):
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(actual, expected, atol=2e-5 * scale)


@settings(max_examples=25, deadline=None)
@given(
    iterations=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)),
    scale=st.floats(0.01, 3),
    gradient=st.sampled_from(['all', 'last']),
    seed=st.integers(0, 2**32 - 1),
)
def test_routing_is_procedure_1(iterations, shape, scale, gradient, seed):
    u_hat = np.random.default_rng(seed).normal(scale=scale, size=shape)
    expected_v, expected_c = oracle.route(u_hat, iterations)
    v, c = routing_of_predictions(tf.constant(u_hat), iterations, gradient)
    np.testing.assert_allclose(v, expected_v, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(c, expected_c, rtol=1e-9, atol=1e-12)


def test_children_share_their_vote_among_the_parents():
    # One child and two parents: a softmax over the children would give c = 1 for both parents.
    # c = (1/2, 1/2); s = ((1, 0), (0, 0)); v_1 = (1/2, 0); b = (2 * 1/2, 0) = (1, 0).
    u_hat = tf.constant([[[[2.0, 0.0], [0.0, 0.0]]]])
    v, c = routing_of_predictions(u_hat, 1)
    np.testing.assert_allclose(c, [[[0.5, 0.5]]], rtol=1e-6)
    np.testing.assert_allclose(v, [[[0.5, 0], [0, 0]]], rtol=1e-6)

    v, c = routing_of_predictions(u_hat, 2)
    share = np.e / (np.e + 1)
    np.testing.assert_allclose(c, [[[share, 1 - share]]], rtol=1e-6)
    length = (2 * share) ** 2 / (1 + (2 * share) ** 2)
    np.testing.assert_allclose(v, [[[length, 0], [0, 0]]], rtol=1e-6)


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_all_iterations_is_the_numerical_one(iterations):
    weights = np.random.default_rng(6).normal(size=(2, 3, 4))
    expected = oracle.numerical_gradient(
        lambda u_hat: np.sum(weights * oracle.route(u_hat, iterations)[0]), PREDICTIONS
    )
    actual = gradient_of(
        lambda u_hat: tf.reduce_sum(weights * routing_of_predictions(u_hat, iterations)[0]),
        PREDICTIONS,
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_the_last_iteration_takes_coupling_for_constant(iterations):
    weights = np.random.default_rng(6).normal(size=(2, 3, 4))
    coupling = oracle.route(PREDICTIONS, iterations)[1]

    def with_constant_coupling(u_hat):
        s = np.einsum('nij,nijd->njd', coupling, u_hat)
        return np.sum(weights * np.apply_along_axis(oracle.squash, -1, s))

    expected = oracle.numerical_gradient(with_constant_coupling, PREDICTIONS)
    actual = gradient_of(
        lambda u_hat: tf.reduce_sum(weights * routing_of_predictions(u_hat, iterations, 'last')[0]),
        PREDICTIONS,
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)
    through_all = gradient_of(
        lambda u_hat: tf.reduce_sum(weights * routing_of_predictions(u_hat, iterations)[0]),
        PREDICTIONS,
    )
    assert np.allclose(actual, through_all) == (iterations == 1)
