"""Coupling coefficients: those of Procedure 1, and those that the network's own capsules are of."""

import capsnet_oracle as oracle
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.routing import routing_by_agreement
from capsmodel.networks.settings import NetworkConfig
from capsmodel.summaries.coupling import coupling_coefficients, entropy, of_network


@settings(max_examples=25, deadline=None)
@given(
    iterations=st.integers(1, 4),
    shape=st.tuples(
        *(st.integers(1, largest) for largest in (3, 6, 4, 5, 4))
    ),  # n, children, parents, child_dim, dim
    scale=st.floats(0.01, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_they_are_those_of_procedure_1_in_every_iteration(iterations, shape, scale, seed):
    n, children, parents, child_dim, dim = shape
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, children, child_dim))
    kernel = rng.normal(scale=scale, size=(children, parents, child_dim, dim))
    u_hat = np.einsum('nic,ijcd->nijd', u, kernel)
    coefficients = coupling_coefficients(tf.constant(u), tf.constant(kernel), iterations)
    assert coefficients.shape == (iterations, n, children, parents)
    for done in range(1, iterations + 1):
        expected = oracle.route(u_hat, done)[1]
        np.testing.assert_allclose(coefficients[done - 1], expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize('iterations', [1, 2, 3])
def test_the_networks_routing_has_the_same(iterations):
    rng = np.random.default_rng(3)
    u = tf.constant(rng.normal(size=(2, 30, 4)), tf.float32)
    kernel = tf.constant(rng.normal(size=(30, 5, 4, 6)), tf.float32)
    last = coupling_coefficients(u, kernel, iterations)[-1].numpy()
    s = np.einsum('nij,nic,ijcd->njd', last, u, kernel)
    capsules = np.apply_along_axis(oracle.squash, -1, s)
    np.testing.assert_allclose(routing_by_agreement(u, kernel, iterations), capsules, atol=1e-5)


def test_the_networks_capsules_are_made_with_them():
    keras.utils.set_random_seed(0)
    model = CapsNet(NetworkConfig(20, 20, 3, conv1_filters=8, primary_channels=2, digit_dim=4))
    # Far from the first weights, so that the children take sides.
    model.digit_caps.kernel.assign(model.digit_caps.kernel * 300)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
    coefficients = of_network(model, images)
    assert coefficients.shape == (3, 5, 8, 3)
    assert np.max(coefficients[-1]) > 0.5
    u = model.primary_caps(model.conv1(images[..., np.newaxis] / np.float32(255)))
    s = np.einsum('nij,nic,ijcd->njd', coefficients[-1], u, model.digit_caps.kernel.numpy())
    capsules = np.apply_along_axis(oracle.squash, -1, s)
    np.testing.assert_allclose(model(images), capsules, atol=1e-5)


def test_entropy_in_bits():
    coefficients = tf.constant([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(entropy(coefficients), [2, 1, 0], atol=1e-6)
