"""Squashing and routing by agreement: the two operations that turn plain vectors into capsules.

`reference_routing.py` has the routing as the paper writes it; here it takes less memory and time.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.networks.choices import check_routing_options

# Shorter vectors count as zero. The square of the reciprocal is still a finite float32.
_SHORTEST = 1e-18

# `squash` clips components to this, so that the sum of their squares is finite in float32.
_LONGEST = 1e17

# On a CPU, children are routed in parts. W_ij^T v_j has about this many floats for each part.
CACHED_FLOATS = 2**20


def norm(x: tf.Tensor, axis: int = -1, keepdims: bool = False) -> tf.Tensor:
    """Euclidean length along `axis`, finite in value and gradient at 0 and at any float32 length.

    Vectors without a component of at least 1e-18 have length 0 and gradient 0.

    Args:
        x: any shape and float type.
        axis: the axis that is summed over.
        keepdims: whether that axis stays, with size 1.

    Returns:
        float64 where `x` is float64, float32 otherwise.
    """
    x = at_least_float32(x)
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(x), axis, keepdims=True))
    scale = tf.maximum(largest, _SHORTEST)
    # At least 1 for all vectors that are not taken for zero, so the root's gradient is finite.
    sum_of_squares = tf.reduce_sum(tf.square(x / scale), axis, keepdims=True)
    length = scale * tf.sqrt(tf.maximum(sum_of_squares, 1))
    length = tf.where(largest < _SHORTEST, tf.zeros_like(length), length)
    return length if keepdims else tf.squeeze(length, axis)


def squash(s: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Shrinks vectors to a length below 1 and keeps their direction.

    v = |s|^2 / (1 + |s|^2) * s / |s|  (Eq. 1 of Sabour, Frosst, Hinton 2017). The length stays
    eight rounding steps below 1, so that the length of the rounded result is below 1, too.
    Components beyond +-1e17 are clipped to +-1e17; NaN stays NaN.

    Args:
        s: any shape and float type.
        axis: the axis along which the vectors lie.

    Returns:
        The shape of `s`; float64 where `s` is float64, float32 otherwise.
    """
    s = at_least_float32(s)
    longest = 1 - 8 * np.finfo(s.dtype.as_numpy_dtype).eps

    # This gradient takes a third of the time of TensorFlow's own. For n = |s| and v = k s with
    # k = 1 / (n + 1 / n), it is dv = k (ds + (1 - 2 n k) (s . ds) s / n^2).
    @tf.custom_gradient
    def squashed(s: tf.Tensor) -> Any:
        s = tf.clip_by_value(s, -_LONGEST, _LONGEST)
        norm_s = tf.sqrt(tf.reduce_sum(tf.square(s), axis, keepdims=True))
        norm_s = tf.maximum(norm_s, _SHORTEST)
        # k s instead of |s|^2 / (1 + |s|^2) s / |s|: the square of |s|^2 would overflow float32.
        k = 1 / (norm_s + 1 / norm_s)

        def gradient(dv: tf.Tensor) -> tf.Tensor:
            along_s = tf.reduce_sum(dv * s, axis, keepdims=True) / norm_s
            return k * dv + k * (1 - 2 * norm_s * k) * along_s / norm_s * s

        return tf.minimum(k, longest / norm_s) * s, gradient

    return squashed(s)


def routing_by_agreement(
    u: tf.Tensor,
    kernel: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """Routing between two layers of capsules (Procedure 1 of Sabour, Frosst, Hinton 2017).

    The predictions are u_hat_j|i = W_ij u_i (Eq. 2). From b_ij = 0, each iteration computes
    c_i = softmax over the parents j of b_i (Eq. 3), s_j = sum_i c_ij u_hat_j|i (Eq. 2),
    v_j = squash(s_j) (Eq. 1), and, except the last one, b_ij += u_hat_j|i . v_j.

    The predictions, parents * dim numbers for each child, are never stored, forward or backward:

    - s_j = sum_i W_ij (c_ij u_i);
    - b_ij = u_i . (W_ij^T v_sum_j), where v_sum_j is the sum of the v_j of all earlier iterations,
      so that no iteration needs the logits of another one.

    Args:
        u: the children's capsules [n, children, child_dim] of any float type; n may be unknown
            or 0.
        kernel: W [children, parents, child_dim, dim], with u_hat[k] = sum over d of u[d] W[d, k].
        iterations: how often the coupling coefficients are computed, at least 1.
        gradient: 'all' differentiates through every iteration; 'last' treats the coupling
            coefficients of the last iteration as constants.
        none_of_the_above: Whether the softmax has one more logit, which is always 0: a child that
            agrees with no parent then keeps its output to itself (section 7).
        bias: float [parents, dim], added to each s_j; None, as in the paper: nothing is.

    Returns:
        The parents' capsules v [n, parents, dim]. Everything is computed in float64 where `u` is
        float64, in float32 otherwise.

    Raises:
        ValueError: `iterations` or `gradient` is not as above.
        tf.errors.InvalidArgumentError: `u` does not have the kernel's children and child_dim.
    """
    check_routing_options(iterations, gradient)
    w = by_parents(tf.cast(kernel, at_least_float32(u).dtype))
    return route_by_parents(u, w, iterations, gradient, none_of_the_above, bias)


def by_parents(kernel: tf.Tensor) -> tf.Tensor:
    """W as `route_by_parents` takes it: [parents, dim, child_dim, children].

    Children come last: on a CPU, sums and products along short last axes take twice as long.
    """
    return tf.transpose(kernel, [1, 3, 2, 0])


def route_by_parents(
    u: tf.Tensor,
    w: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """`routing_by_agreement` with a W from `by_parents`, of the type that all is computed in."""
    u = tf.transpose(tf.cast(u, w.dtype), [0, 2, 1])
    u = tf.ensure_shape(u, [None, *w.shape[2:]])

    def capsules(s: tf.Tensor) -> tf.Tensor:
        if bias is not None:
            s += tf.cast(bias, s.dtype)[:, tf.newaxis]
        return squash(s)

    s = _even_sum(u, w, none_of_the_above)
    if iterations > 1:
        v_sum = capsules(s)
        for _ in range(iterations - 2):
            v_sum += capsules(_sum_over_parts(u, w, v_sum, none_of_the_above, _part_gradients))
        gradients = _part_gradients
        if gradient == 'last':
            v_sum, gradients = tf.stop_gradient(v_sum), _part_gradients_of_coupled
        s = _sum_over_parts(u, w, v_sum, none_of_the_above, gradients)
    return tf.transpose(capsules(s), [1, 0, 2])


# From here on, u is [n, child_dim, children], w is [parents, dim, child_dim, children], s, v and
# v_sum are [parents, n, dim]; logits, coupling coefficients and agreements are
# [parents, n, children].


def _even_sum(u: tf.Tensor, w: tf.Tensor, none_of_the_above: bool) -> tf.Tensor:
    """The s of the first iteration, all of whose coupling coefficients are equal."""
    parents, dim, child_dim, children = w.shape
    s = tf.matmul(
        tf.reshape(w, [parents * dim, child_dim * children]),
        tf.reshape(u, [tf.shape(u)[0], child_dim * children]),
        transpose_b=True,
    )
    return tf.transpose(
        tf.reshape(s / (parents + none_of_the_above), [parents, dim, -1]), [0, 2, 1]
    )


def _sum_over_parts(
    u: tf.Tensor, w: tf.Tensor, v_sum: tf.Tensor, none_of_the_above: bool, gradients: Any
) -> tf.Tensor:
    """The s of an iteration: logits, coupling coefficients and the sum over the children.

    It is computed part by part of the children. The backward pass, `gradients` of a part, needs
    only the coupling coefficients.
    """
    sizes = _part_sizes(u, w)

    @tf.custom_gradient
    def routed_sum(u: tf.Tensor, w: tf.Tensor, v_sum: tf.Tensor) -> Any:
        u_parts, w_parts = tf.split(u, sizes, axis=-1), tf.split(w, sizes, axis=-1)
        s, couplings = _in_turn(
            lambda u, w: _part_sum(u, w, v_sum, none_of_the_above), (u_parts, w_parts), after=v_sum
        )

        def gradient(ds: tf.Tensor) -> tuple[tf.Tensor, ...]:
            du, dw, dv_sum = _in_turn(
                lambda u, w, coupling: gradients(u, w, v_sum, coupling, ds),
                (u_parts, w_parts, couplings),
                after=ds,
            )
            return tf.concat(du, axis=-1), tf.concat(dw, axis=-1), tf.add_n(dv_sum)

        return tf.add_n(s), gradient

    return routed_sum(u, w, v_sum)


def _part_sum(
    u: tf.Tensor, w: tf.Tensor, v_sum: tf.Tensor, none_of_the_above: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    coupling = _softmax(_agreement(u, _back_projected(w, v_sum)), none_of_the_above)
    return _projected(_weighted(u, coupling), w), coupling


def _part_gradients(
    u: tf.Tensor, w: tf.Tensor, v_sum: tf.Tensor, coupling: tf.Tensor, ds: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    ds_back = _back_projected(w, ds)
    dc = _agreement(u, ds_back)
    db = coupling * (dc - tf.reduce_sum(coupling * dc, axis=0))
    # s and the logits are both sums over coefficient_ij (u_i . W_ij^T x_j), the first with
    # coefficients c and x = ds, the second with db and x = v_sum.
    dw = _outer(_weighted(u, coupling), ds, w)
    weighted = _weighted(u, db)
    dw += _outer(weighted, v_sum, w)
    du = _over_parents(coupling, ds_back) + _over_parents(db, _back_projected(w, v_sum))
    return du, dw, _projected(weighted, w)


def _part_gradients_of_coupled(
    u: tf.Tensor, w: tf.Tensor, v_sum: tf.Tensor, coupling: tf.Tensor, ds: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_part_gradients` with coupling coefficients that have no gradient."""
    du = _over_parents(coupling, _back_projected(w, ds))
    return du, _outer(_weighted(u, coupling), ds, w), tf.zeros_like(v_sum)


def _part_sizes(u: tf.Tensor, w: tf.Tensor) -> list[int]:
    """How many children each part has, so that its intermediate results fit a CPU's cache.

    On a GPU one part has all children. An unknown number of images counts as one image.
    """
    n, child_dim, children = u.shape
    if tf.config.list_logical_devices('GPU'):
        return [children]
    floats = (1 if n is None else n) * child_dim * children * w.shape[0]
    count = min(children, -(-floats // CACHED_FLOATS)) or 1
    return [len(part) for part in np.array_split(range(children), count)]


def _in_turn(function: Any, parts: tuple[list[tf.Tensor], ...], after: tf.Tensor) -> Any:
    """Calls function(*part) for each part, after `after` is computed and the part before is done.

    Without this order, TensorFlow computes the first operation for all parts, then the second one.
    It also notices that the backward pass repeats operations of the forward pass, and keeps their
    results in memory until then.

    Returns:
        For each result of the function, a list with one value for each part.
    """
    results: list[tuple[tf.Tensor, ...]] = []
    done = [after]
    for part in zip(*parts, strict=True):
        with tf.control_dependencies(done):
            tensors = [tf.identity(tensor) for tensor in part]
        results.append(function(*tensors))
        done = list(results[-1])
    return tuple(map(list, zip(*results, strict=True)))


def _back_projected(w: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """W_ij^T x_j for x like s: [parents, n, child_dim, children]."""
    parents, dim, child_dim, children = w.shape
    product = tf.matmul(x, tf.reshape(w, [parents, dim, child_dim * children]))
    return tf.reshape(product, [parents, -1, child_dim, children])


def _agreement(u: tf.Tensor, back_projected: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(u * back_projected, axis=2)


def _weighted(u: tf.Tensor, coefficients: tf.Tensor) -> tf.Tensor:
    """coefficient_ij u_i as [parents, n, child_dim * children]."""
    parents, (_, child_dim, children) = coefficients.shape[0], u.shape
    return tf.reshape(coefficients[:, :, tf.newaxis] * u, [parents, -1, child_dim * children])


def _projected(weighted: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """The sum over i of W_ij times the result of `_weighted`: a tensor like s."""
    parents, dim, child_dim, children = w.shape
    flat = tf.reshape(w, [parents, dim, child_dim * children])
    return tf.matmul(weighted, flat, transpose_b=True)


def _outer(weighted: tf.Tensor, x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """The gradient for w of the sum over n and j of x_j . `_projected(weighted, w)`_j."""
    return tf.reshape(tf.matmul(x, weighted, transpose_a=True), w.shape)


def _over_parents(coefficients: tf.Tensor, back_projected: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(coefficients[:, :, tf.newaxis] * back_projected, axis=0)


def _softmax(logits: tf.Tensor, none_of_the_above: bool) -> tf.Tensor:
    """Softmax over the parents. tf.nn.softmax would transpose, since they are not the last axis."""
    largest = tf.reduce_max(logits, axis=0)
    if none_of_the_above:
        largest = tf.maximum(largest, 0)
    exponentials = tf.exp(logits - largest)
    total = tf.reduce_sum(exponentials, axis=0)
    return exponentials / (total + tf.exp(-largest) if none_of_the_above else total)


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts to float32, unless it is float64: the type that routing computes in."""
    x = tf.convert_to_tensor(x)
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
