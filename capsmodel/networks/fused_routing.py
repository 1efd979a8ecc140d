"""Routing by agreement as sums that XLA fuses: for GPUs, where routing waits for memory."""

from __future__ import annotations

import itertools
from typing import Any

import tensorflow as tf

from capsmodel.networks.choices import check_routing_options
from capsmodel.networks.routing import at_least_float32, squash

# All tensors in this module have these axes: parents j, images n, dim k, child_dim d, children i. A
# tensor that does not depend on one of them has size 1 there.
_PARENTS, _IMAGES, _DIM, _CHILD_DIM, _CHILDREN = range(5)


def fused_routing(
    u: tf.Tensor,
    kernel: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """`capsmodel.networks.routing.routing_by_agreement`, compiled by XLA, forward and backward.

    Arguments and errors are the same, and results differ in rounding only. Let c_t, s_t, v_t belong
    to iteration t, and let x_t be the sum of the v before it, which its logits are made with. Each
    step is a sum of products of three factors:

    - logits b_ij = sum over k, d of (W_ijdk x_jk) u_id, and the same with ds_jk instead of x_jk
      for the gradient dc_ij; db_ij = c_ij (dc_ij - sum over j of c_ij dc_ij);
    - s_jk = bias_jk + sum over d, i of (u_id W_ijdk) c_ij; the gradient of x_jk is this sum without
      the bias, with db_ij instead of c_ij;
    - du_id = sum over j, k of sum over t of (c_t W) ds_t + (db_t W) x_t, and dW_ijdk = sum over the
      images of sum over t of (c_t ds_t) u + (db_t x_t) u, each for all iterations at once.

    XLA computes such a product where it is summed and does not store it, unless two sums share a
    product. So the sums multiply different factors first: W x in the first sum, u W in the second,
    c W and c x in the others. Matrix products (`routing_by_agreement`) would need one factor
    stored: c_ij u_id or W_ij^T x_j, parents * child_dim numbers for each child.

    By XLA's count for a GPU, this reads and writes a quarter of the bytes that stored predictions
    need (docs/performance.md). XLA for CPUs stores the products: parents * dim * child_dim numbers
    for each child of each image.
    """
    check_routing_options(iterations, gradient)
    u = at_least_float32(u)
    w = tf.transpose(tf.cast(kernel, u.dtype), [1, 3, 2, 0])[:, tf.newaxis]
    u = tf.transpose(u, [0, 2, 1])[tf.newaxis, :, tf.newaxis]
    if bias is None:
        _, parents, _, dim = kernel.shape
        bias = tf.zeros([parents, dim])
    bias = tf.cast(bias, u.dtype)[:, tf.newaxis, :, tf.newaxis, tf.newaxis]

    @tf.custom_gradient
    def route(u: tf.Tensor, w: tf.Tensor, bias: tf.Tensor) -> Any:
        v, s, c = _forward(u, w, bias, iterations, none_of_the_above)
        return v, lambda dv: _backward(u, w, s, c, dv, gradient, none_of_the_above)

    return tf.transpose(tf.squeeze(route(u, w, bias), [_CHILD_DIM, _CHILDREN]), [1, 0, 2])


@tf.function(jit_compile=True, autograph=False)
def _forward(
    u: tf.Tensor, w: tf.Tensor, bias: tf.Tensor, iterations: int, none_of_the_above: bool
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    """v, the s of every iteration, and the c of all but the first one, whose c are all equal."""
    # In the first iteration a matrix product stores nothing, since the coefficients are constant.
    options = w.shape[_PARENTS] + none_of_the_above
    s = [tf.einsum('anbdi,jckdi->jnk', u, w)[..., tf.newaxis, tf.newaxis] / options + bias]
    c: list[tf.Tensor] = []
    x = tf.zeros_like(s[0])
    for _ in range(iterations - 1):
        x += squash(s[-1], _DIM)
        c.append(_softmax(_agreement(u, w, x), none_of_the_above))
        s.append(_routed_sum(u, w, c[-1]) + bias)
    return squash(s[-1], _DIM), s, c


@tf.function(jit_compile=True, autograph=False)
def _backward(
    u: tf.Tensor,
    w: tf.Tensor,
    s: list[tf.Tensor],
    c: list[tf.Tensor],
    dv: tf.Tensor,
    gradient: str,
    none_of_the_above: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients of u, w and the bias."""
    x = list(itertools.accumulate(squash(s_t, _DIM) for s_t in s))
    ds = _squash_gradient(s[-1], dv)
    dx = tf.zeros_like(ds)
    # Coefficients and vectors: v is a function of sums over coefficient_ij (W_ij u_i) vector_j.
    terms: list[tuple[Any, tf.Tensor]] = []
    dbias = ds
    for t in reversed(range(len(c))):
        terms.append((c[t], ds))
        if gradient == 'last':
            break
        dc = _agreement(u, w, ds)
        db = c[t] * (dc - tf.reduce_sum(c[t] * dc, _PARENTS, keepdims=True))
        terms.append((db, x[t]))
        # x_t holds every v before iteration t: the gradients of later ones add up.
        dx += _routed_sum(u, w, db)
        ds = _squash_gradient(s[t], dx)
        dbias += ds
    if gradient == 'all' or not c:
        terms.append((1 / (w.shape[_PARENTS] + none_of_the_above), ds))
    du = _sum([(a * w) * vector for a, vector in terms], _PARENTS, _DIM)
    dw = _sum([(a * vector) * u for a, vector in terms], _IMAGES)
    return du, dw, _sum([dbias], _IMAGES)


def _agreement(u: tf.Tensor, w: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """u_i . (W_ij^T x_j)."""
    return _sum([(w * x) * u], _DIM, _CHILD_DIM)


def _routed_sum(u: tf.Tensor, w: tf.Tensor, coefficients: tf.Tensor) -> tf.Tensor:
    """Sum over i of coefficient_ij W_ij u_i."""
    return _sum([(u * w) * coefficients], _CHILD_DIM, _CHILDREN)


def _sum(products: list[tf.Tensor], *axes: int) -> tf.Tensor:
    return tf.reduce_sum(tf.add_n(products), axes, keepdims=True)


def _softmax(logits: tf.Tensor, none_of_the_above: bool) -> tf.Tensor:
    largest = tf.reduce_max(logits, _PARENTS, keepdims=True)
    if none_of_the_above:
        largest = tf.maximum(largest, 0)
    exponentials = tf.exp(logits - largest)
    total = tf.reduce_sum(exponentials, _PARENTS, keepdims=True)
    return exponentials / (total + tf.exp(-largest) if none_of_the_above else total)


def _squash_gradient(s: tf.Tensor, dv: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(s)
        v = squash(s, _DIM)
    return tape.gradient(v, s, dv)
