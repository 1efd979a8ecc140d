"""Coupling coefficients: the network's own capsules are made with them."""

import capsnet_oracle as oracle
import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.summaries.coupling import entropy


@pytest.mark.parametrize('iterations', [1, 3])
def test_the_networks_capsules_are_made_with_them(iterations):
    keras.utils.set_random_seed(0)
    small = {'conv1_filters': 8, 'primary_channels': 2, 'digit_dim': 4}
    model = CapsNet(CapsNetConfig(20, 20, 3, **small, routing_iterations=iterations))
    # Far from the first weights, so that the children take sides.
    model.digit_caps.kernel.assign(model.digit_caps.kernel * 300)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
    coefficients = model.coupling_coefficients(images)
    assert coefficients.shape == (iterations, 5, 3, 8)
    np.testing.assert_allclose(coefficients[0], 1 / 3, rtol=1e-6)
    assert iterations == 1 or np.max(coefficients[-1]) > 0.5
    u = model.primary_caps(model.conv1(images[..., np.newaxis] / np.float32(255)))
    s = np.einsum('nji,nic,ijcd->njd', coefficients[-1], u, model.digit_caps.kernel.numpy())
    capsules = np.apply_along_axis(oracle.squash, -1, s)
    np.testing.assert_allclose(model(images), capsules, atol=1e-5)


def test_entropy_in_bits():
    coefficients = tf.constant([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0, 0, 1, 0]])
    # A column for each child.
    np.testing.assert_allclose(entropy(tf.transpose(coefficients)), [2, 1, 0], atol=1e-6)
