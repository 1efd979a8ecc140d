"""Coupling coefficients: how much of its output each capsule sends to each parent."""

from __future__ import annotations

import math

import tensorflow as tf


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
