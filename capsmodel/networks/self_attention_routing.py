"""Routing by self-attention, in one pass (Mazzia, Salvetti, Chiaberge 2021, arXiv:2101.12491)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.routing import at_least_float32, norm

# The factor of shorter vectors in `exponential_squash` is 1 to float32's rounding.
_SHORTEST = 1e-6


def exponential_squash(s: tf.Tensor) -> tf.Tensor:
    """Shrinks vectors along the last axis to a length below 1 and keeps their direction.

    v = (1 - exp(-|s|)) s / |s|  (Eq. 3 of Mazzia, Salvetti, Chiaberge 2021). The length stays eight
    rounding steps below 1. A vector of zeros stays zero, and its gradient is the identity.

    Args:
        s: any shape and float type.

    Returns:
        The shape of `s`; float64 where `s` is float64, float32 otherwise.
    """
    s = at_least_float32(s)
    longest = 1 - 8 * np.finfo(s.dtype.as_numpy_dtype).eps
    length = norm(s, keepdims=True)
    is_short = length < _SHORTEST
    divisor = tf.where(is_short, tf.ones_like(length), length)
    # expm1: 1 - exp(-x) has no correct digit for small x.
    factor = tf.minimum(-tf.math.expm1(-length), longest) / divisor
    return tf.where(is_short, tf.ones_like(length), factor) * s


def self_attention_routing(u: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Routes capsules in one pass: predictions that agree with the others count more.

    The predictions are u_hat_j|i = W_ij u_i (Eq. 5). Their agreement is the matrix
    A_j = U_hat_j U_hat_j^T / sqrt(dim) (Eq. 7), and the coupling coefficients are a softmax over
    the parents of its sums, c_ij = softmax_j(sum over k of A_jik) (Eq. 8). Then
    v_j = squash(sum over i of (c_ij + b_ij) u_hat_j|i) (Eq. 6), with `exponential_squash`.

    Args:
        u: the children's capsules [n, children, child_dim] of any float type; n may be unknown
            or 0.
        kernel: W [parents, children, child_dim, dim].
        bias: b [parents, children].

    Returns:
        The parents' capsules v [n, parents, dim]; float64 where `u` is float64, float32 otherwise.
    """
    u = at_least_float32(u)
    kernel, bias = tf.cast(kernel, u.dtype), tf.cast(bias, u.dtype)
    parents, children, child_dim, dim = kernel.shape
    # einsum('nid,jidk->njik') in its fastest form on a CPU: a matrix product for each child.
    w = tf.reshape(tf.transpose(kernel, [1, 2, 0, 3]), [children, child_dim, parents * dim])
    u_hat = tf.matmul(tf.transpose(u, [1, 0, 2]), w)
    u_hat = tf.transpose(tf.reshape(u_hat, [children, -1, parents, dim]), [1, 2, 0, 3])
    # The sum over k of u_i . u_k is u_i times the sum of the u_k.
    logits = tf.linalg.matvec(u_hat, tf.reduce_sum(u_hat, axis=2)) / np.sqrt(dim)
    coupling = tf.nn.softmax(logits, axis=1) + bias
    return exponential_squash(tf.linalg.matvec(u_hat, coupling, transpose_a=True))


class AttentionCaps(keras.layers.Layer):
    """One capsule for each class, by `self_attention_routing`.

    float [n, children, child_dim] -> float32 [n, parents, dim].

    Args:
        parents: number of capsules.
        dim: components of a capsule.
    """

    def __init__(self, parents: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parents = parents
        self.dim = dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        _, children, child_dim = input_shape
        self.kernel = self.add_weight(
            name='kernel',
            shape=(self.parents, children, child_dim, self.dim),
            initializer='he_normal',
        )
        self.bias = self.add_weight(
            name='bias', shape=(self.parents, children), initializer='zeros'
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        return self_attention_routing(inputs, kernel, bias)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return input_shape[0], self.parents, self.dim

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'parents': self.parents, 'dim': self.dim}
