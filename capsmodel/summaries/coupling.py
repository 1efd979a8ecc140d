"""Whom each capsule sends its output to: the coupling coefficients, which routing does not keep."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.routing import squash


def coupling_coefficients(u: tf.Tensor, kernel: tf.Tensor, iterations: int) -> tf.Tensor:
    """The c_ij of every iteration of routing, for a few images.

    Procedure 1 of Sabour, Frosst, Hinton 2017, as it stands there: all predictions u_hat are made,
    which takes children * parents * dim numbers an image. `networks.routing` gives the same
    capsules without them.

    Args:
        u: the children's capsules, float [n, children, child_dim].
        kernel: W, float [children, parents, child_dim, dim].
        iterations: how often the coupling coefficients are computed, at least 1.

    Returns:
        [iterations, n, children, parents] of the dtype of `u`; the sum over the parents is 1. The
        parents' capsules are squash(sum over i of c_ij u_hat_j|i) with those of the last iteration.
    """
    u_hat = tf.einsum('nic,ijcd->nijd', u, tf.cast(kernel, u.dtype))
    b = tf.zeros_like(u_hat[..., 0])
    coefficients = []
    for _ in range(iterations):
        coefficients.append(tf.nn.softmax(b, axis=-1))
        v = squash(tf.einsum('nij,nijd->njd', coefficients[-1], u_hat))
        b += tf.einsum('nijd,njd->nij', u_hat, v)
    return tf.stack(coefficients)


def of_network(model: CapsNet, images: np.ndarray) -> tf.Tensor:
    """What `coupling_coefficients` gives for a network's digit capsules.

    Args:
        model: The network.
        images: uint8 [n, height, width].
    """
    u = model.primary_capsules(images)
    digit_caps = model.digit_caps
    return coupling_coefficients(u, tf.convert_to_tensor(digit_caps.kernel), digit_caps.iterations)


def entropy(coefficients: tf.Tensor) -> tf.Tensor:
    """How undecided each child is: the entropy of its coupling coefficients, in bits.

    -sum over j of c_ij log2 c_ij: from 0, where a child sends all to one parent, to log2(parents),
    where it sends the same to all of them.

    Args:
        coefficients: float [..., parents] that sum up to 1.

    Returns:
        [...] of the same dtype.
    """
    return -tf.reduce_sum(tf.math.xlogy(coefficients, coefficients), axis=-1) / math.log(2)
