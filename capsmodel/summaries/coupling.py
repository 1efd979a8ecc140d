"""Coupling coefficients: how much of its output each capsule sends to each parent."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.reference_routing import predictions, procedure_1


def of_network(model: CapsNet, images: np.ndarray) -> tf.Tensor:
    """The coupling coefficients of every iteration of a network's routing, for a few images.

    The network's own routing may not keep them, so `reference_routing` computes them again, with
    children * parents * dim numbers for each image.

    Args:
        model: A network that routes by agreement, see `choices.is_by_agreement`.
        images: uint8 [n, height, width].

    Returns:
        float32 [iterations, n, parents, children]; the sum over the parents is 1, or less
        with "none of the above".
    """
    layer = model.digit_caps
    u_hat = predictions(model.primary_capsules(images), tf.convert_to_tensor(layer.kernel))
    return procedure_1(u_hat, layer.iterations, none_of_the_above=layer.none_of_the_above)[1]


def entropy(coefficients: tf.Tensor) -> tf.Tensor:
    """The entropy of each child's coupling coefficients, in bits: how undecided the child is.

    It is -sum over j of c_ij log2 c_ij. It goes from 0, where a child sends everything to one
    parent, to log2(parents), where it sends the same to all of them.

    Args:
        coefficients: float [..., parents, children]; the sum over the parents is at most 1.

    Returns:
        [..., children] of the same dtype.
    """
    return -tf.reduce_sum(tf.math.xlogy(coefficients, coefficients), axis=-2) / math.log(2)
