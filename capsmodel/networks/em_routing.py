"""EM routing between matrix capsules: Procedure 1 of Hinton, Sabour, Frosst 2018, in log space.

The paper is "Matrix capsules with EM routing" (openreview.net/forum?id=HJWLfGWRb).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Added to each variance, so that a parent whose votes are all equal has a finite cost.
VARIANCE_FLOOR = 5e-4


@dataclasses.dataclass(frozen=True)
class Patches:
    """Which positions of a map of capsules feed which positions of the next one.

    A parent's position sees kernel x kernel positions of children. With `kernel` 0 there is one
    parent position, which sees the whole map.

    Attributes:
        size: Rows and columns of the children's map.
        kernel: Rows and columns that a parent sees; 0: all.
        stride: Children's rows and columns between two parents.
    """

    size: tuple[int, int]
    kernel: int = 0
    stride: int = 1

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns that a parent sees."""
        return (self.kernel, self.kernel) if self.kernel else self.size

    @property
    def parents(self) -> tuple[int, int]:
        """Rows and columns of the parents' map."""
        rows, columns = ((s - k) // self.stride + 1 for s, k in zip(self.size, self.seen))
        return rows, columns

    def of(self, x: tf.Tensor) -> tf.Tensor:
        """[n, rows, columns, ...] -> [n, positions of parents, positions that each sees, ...]."""
        positions = int(np.prod(self.parents))
        pieces = []
        for y in range(self.seen[0]):
            for left in range(self.seen[1]):
                down, right = (1 + self.stride * (count - 1) for count in self.parents)
                piece = x[:, y : y + down : self.stride, left : left + right : self.stride]
                pieces.append(tf.reshape(piece, [-1, positions, *x.shape[3:]]))
        return tf.stack(pieces, axis=2)

    def _children(self) -> np.ndarray:
        """The child's position of each pair: int [positions of parents, positions seen]."""
        (rows, columns), (down, right) = self.parents, self.seen
        y = self.stride * np.arange(rows)[:, None, None, None] + np.arange(down)[:, None]
        x = self.stride * np.arange(columns)[:, None, None] + np.arange(right)
        return (self.size[1] * y + x).reshape(rows * columns, down * right)

    def counts(self) -> np.ndarray:
        """How many parents' positions each child feeds: int [positions of parents, seen]."""
        children = self._children()
        return np.bincount(children.ravel())[children]

    def over_parents(
        self, x: tf.Tensor, reduce: Callable[..., tf.Tensor], nothing: float
    ) -> tf.Tensor:
        """Reduces over all parents' positions that a child feeds, and gives each the result.

        Args:
            x: [n, positions of parents, positions seen, types].
            reduce: Takes a tensor and an axis, such as tf.reduce_sum.
            nothing: What changes no result of `reduce`.

        Returns:
            The shape of `x`.
        """
        children = self._children()
        most = np.bincount(children.ravel()).max()
        if most == 1:
            return x
        pairs = children.size
        # For each child that feeds any parent its pairs; the pair behind the last one is `nothing`.
        fed, row_of = np.unique(children.ravel(), return_inverse=True)
        table = np.full([len(fed), most], pairs)
        filled = np.zeros(len(fed), int)
        for pair, row in enumerate(row_of):
            table[row, filled[row]] = pair
            filled[row] += 1
        flat = tf.reshape(x, [-1, pairs, x.shape[-1]])
        flat = tf.pad(flat, [[0, 0], [0, 1], [0, 0]], constant_values=nothing)
        reduced = reduce(tf.gather(flat, table, axis=1), axis=2)
        return tf.reshape(tf.gather(reduced, row_of, axis=1), [-1, *x.shape[1:]])


def em_routing(
    votes: tf.Tensor,
    log_activations: tf.Tensor,
    beta_u: tf.Tensor,
    beta_a: tf.Tensor,
    inverse_temperatures: Sequence[float],
    patches: Patches,
    floor: float = VARIANCE_FLOOR,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    em = _Em(beta_u.shape[0], patches, inverse_temperatures, floor)

    @tf.custom_gradient
    def routed(*inputs: tf.Tensor) -> Any:
        *results, kept = em.forward(*inputs)

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return em.backward(inputs, kept, upstream)

        return results, gradient

    return routed(votes, log_activations, beta_u, beta_a)


class _Em:
    """Shapes: V [n, P, J, K, H]; log_a [n,P,K]; p, log_r [n,P,J,K]; mean etc [n,P,J,H]."""

    def __init__(self, types, patches, temperatures, floor):
        self.types, self.patches = types, patches
        self.temperatures, self.floor = temperatures, floor

    def forward(self, votes, log_a, beta_u, beta_a):
        squares = tf.square(votes)
        parts = votes.shape[3] // self.patches.counts().shape[1]
        counts = np.repeat(self.patches.counts(), parts, axis=1)[:, None]
        log_r = tf.cast(-np.log(self.types * counts), votes.dtype)
        log_r = tf.broadcast_to(log_r, tf.shape(votes)[:-1])
        kept = []
        for last, temperature in self._schedule():
            log_w = log_r + log_a[:, :, tf.newaxis]
            log_sum = tf.reduce_logsumexp(log_w, axis=-1)
            shares = tf.exp(log_w - log_sum[..., tf.newaxis])
            moments = [log_sum, _sums(shares, votes), _sums(shares, squares)]
            results = self._parents(*moments, beta_u, beta_a, temperature)
            kept.append((log_r, shares, moments, results))
            if not last:
                _, _, a, b, c = results
                e = _products(squares, a) + _products(votes, b) + c[..., tf.newaxis]
                log_r = e - self._over_parents(e, tf.reduce_logsumexp, -np.inf)
        mean, logit, *_ = results
        return mean, logit, kept

    def _schedule(self):
        last = len(self.temperatures) - 1
        return [(i == last, t) for i, t in enumerate(self.temperatures)]

    def _parents(self, log_sum, mean, mean_square, beta_u, beta_a, temperature):
        variance = tf.nn.relu(mean_square - tf.square(mean)) + self.floor
        log_variance = tf.math.log(variance)
        cost = tf.reduce_sum(beta_u[:, tf.newaxis] + log_variance / 2, axis=-1) * tf.exp(log_sum)
        logit = temperature * (beta_a - cost)
        c = -tf.reduce_sum(tf.square(mean) / variance + log_variance, axis=-1) / 2
        return mean, logit, -0.5 / variance, mean / variance, c + tf.math.log_sigmoid(logit)

    def _over_parents(self, x, reduce, nothing):
        """[n, P, J, K] -> [n, P, 1, K]."""
        x = reduce(x, axis=2)
        seen = self.patches.counts().shape[1]
        parts = tf.reshape(x, [-1, x.shape[1], seen, x.shape[2] // seen])
        parts = self.patches.over_parents(parts, reduce, nothing)
        return tf.reshape(parts, [-1, *x.shape[1:]])[:, :, tf.newaxis]

    def backward(self, inputs, kept, upstream):
        votes, log_a, beta_u, beta_a = inputs
        squares = tf.square(votes)
        d_mean, d_logit = upstream[0], upstream[1]
        d_abc = None
        d_log_a, d_beta_u, d_beta_a = 0, 0, 0
        rows, d_linear, d_quadratic = [], [], []
        for i in reversed(range(len(kept))):
            log_r, shares, moments, results = kept[i]
            with tf.GradientTape() as tape:
                sources = [*moments, beta_u, beta_a]
                tape.watch(sources)
                outputs = self._parents(*sources, self.temperatures[i])
                outputs = outputs[:2] if d_abc is None else outputs[2:]
            given = [d_mean, d_logit] if d_abc is None else d_abc
            d_log_sum, d_m1, d_m2, d_u, d_a = tape.gradient(
                outputs, sources, given, unconnected_gradients='zero'
            )
            d_beta_u, d_beta_a = d_beta_u + d_u, d_beta_a + d_a
            rows.append(shares)
            d_linear.append(d_m1)
            d_quadratic.append(d_m2)
            d_shares = _products(votes, d_m1) + _products(squares, d_m2)
            d_shares -= tf.reduce_sum(shares * d_shares, axis=-1, keepdims=True)
            d_log_w = shares * (d_shares + d_log_sum[..., tf.newaxis])
            d_log_a += tf.reduce_sum(d_log_w, axis=2)
            if i:
                d_e = d_log_w - tf.exp(log_r) * self._over_parents(d_log_w, tf.reduce_sum, 0)
                a, b = kept[i - 1][3][2:4]
                rows.append(d_e)
                d_linear.append(b)
                d_quadratic.append(a)
                d_abc = [_sums(d_e, squares), _sums(d_e, votes), tf.reduce_sum(d_e, axis=-1)]
        rows = tf.stack(rows, axis=-2)
        d_votes = tf.matmul(rows, tf.stack(d_linear, axis=-2), transpose_a=True)
        d_votes += 2 * votes * tf.matmul(rows, tf.stack(d_quadratic, axis=-2), transpose_a=True)
        return d_votes, d_log_a, d_beta_u, d_beta_a


def _sums(weights, x):
    """sum over k of weights[..., k] x[..., k, :]."""
    return tf.squeeze(tf.matmul(weights[..., tf.newaxis, :], x), axis=-2)


def _products(x, vector):
    """x[..., k, :] . vector."""
    return tf.squeeze(tf.matmul(x, vector[..., tf.newaxis]), axis=-1)
