"""EM routing (Hinton, Sabour, Frosst 2018, "Matrix capsules with EM routing", Procedure 1).

Indices are the paper's: i is a child, j a type of parent, h one of the numbers of a pose. Parents
stand at positions p. A parent sees the same number of children, its window, at each position, and a
child may be in several windows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

# The authors' schedule of the inverse temperature: lambda_i = 0.01 (1 - 0.95^(i + 1)).
_LAST_LAMBDA, _LAMBDA_BASE = 0.01, 0.95
# Added to each variance: votes that agree completely would have the log of 0.
VARIANCE_FLOOR = 5e-4
# Added to the children that a parent has, which may be none.
_LEAST_MASS = 1e-7
# The log of the share of a parent that is not there.
_NO_PARENT = -1e30


@dataclasses.dataclass(frozen=True)
class Windows:
    """Which children the parents at each position see, on a grid of children without padding.

    Attributes:
        grid: Rows and columns of children.
        size: Rows and columns of a window.
        stride: By which windows step.
    """

    grid: tuple[int, int]
    size: tuple[int, int]
    stride: int

    @property
    def rows(self) -> int:
        """Rows of parents."""
        return (self.grid[0] - self.size[0]) // self.stride + 1

    @property
    def columns(self) -> int:
        """Columns of parents."""
        return (self.grid[1] - self.size[1]) // self.stride + 1

    @functools.cached_property
    def cells(self) -> np.ndarray:
        """int [positions, places]: the cell, row * columns + column, of each place in a window."""
        row, column = (
            self.stride * np.arange(count)[:, np.newaxis] + np.arange(size)
            for count, size in zip((self.rows, self.columns), self.size, strict=True)
        )
        cells = row[:, np.newaxis, :, np.newaxis] * self.grid[1] + column[:, np.newaxis]
        return cells.reshape(len(row) * len(column), -1)

    @functools.cached_property
    def places(self) -> np.ndarray:
        """int [cells, most]: the places of `cells`, flat, that each cell is in.

        Where there are fewer than the most, the rest is the number of places, which is none.
        """
        flat = self.cells.ravel()
        found = [np.flatnonzero(flat == cell) for cell in range(self.grid[0] * self.grid[1])]
        most = max(map(len, found))
        return np.array([[*each, *[len(flat)] * (most - len(each))] for each in found])


def inverse_temperature(iteration: int) -> float:
    """lambda of an iteration, which is counted from 0."""
    return _LAST_LAMBDA * (1 - _LAMBDA_BASE ** (iteration + 1))


def em_routing(
    votes: tf.Tensor,
    activations: tf.Tensor,
    beta_u: tf.Tensor,
    beta_a: tf.Tensor,
    windows: Windows,
    iterations: int,
    data_scale: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Routes capsules with poses and activations to parents, which are Gaussians over their votes.

    From R_ij = 1 / (number of parents that see i), each iteration computes for each parent, with
    r_ij = R_ij a_i and the sums over its children i,

        mu_h = sum r_i V_ih / sum r_i,   sigma_h^2 = sum r_i (V_ih - mu_h)^2 / sum r_i + floor,
        cost = sum over h of (beta_u + log sigma_h) * data_scale * sum r_i,
        a = logistic(lambda (beta_a - cost))                                          (M-step)

    and, except the last one, R_ij = a_j p_j(V_ij) / (the sum of the same over all parents that see
    i, of all types at all positions), p_j being the density of the Gaussian           (E-step).

    Densities stay logarithms until the quotient: with 16 dimensions and sigma^2 = 5e-4, a density
    may be 1e46, and float32 ends at 3e38.

    Sums of squares are computed of the votes less their mean, as sums of V^2 and V: these are
    matrix products. The error of a variance is about 1e-7 times the square of the distance between
    the parent's mean and that of all votes. The gradient is exact: of each iteration's results for
    V, all iterations' outer products are one matrix product.

    Args:
        votes: V, float32 or float64 [n, positions, parents, children, dim]; n may be unknown.
            Child i of a window is place i // types, type i % types.
        activations: of the children of each window [n, positions, children], 0 to 1.
        beta_u: [parents].
        beta_a: [parents].
        windows: which children the parents see.
        iterations: at least 1.
        data_scale: factor on the amount of data, sum r_i; 1 is the paper's procedure.

    Returns:
        Poses [n, positions, parents, dim] and activations [n, positions, parents] of the parents.

    Raises:
        ValueError: Parents have a single child, with which they agree whatever it votes.
    """
    if votes.shape[3] < 2:
        raise ValueError(
            'a parent must have at least 2 children: with a single one it agrees always'
        )
    center = tf.stop_gradient(tf.reduce_mean(votes, axis=3, keepdims=True))
    centered = votes - center

    @tf.custom_gradient
    def routed(v: tf.Tensor, a: tf.Tensor, beta_u: tf.Tensor, beta_a: tf.Tensor) -> Any:
        squares = tf.square(v)
        inputs = (a, beta_u, beta_a)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            trace = _Trace(v, squares, tape)
            outputs = _iterate(trace, *inputs, windows, iterations, data_scale)

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            sources = [*inputs, *trace.sums, *trace.densities]
            found = tape.gradient(
                outputs, sources, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            return trace.votes_gradient(found[len(inputs) :]), *found[: len(inputs)]

        return outputs, gradient

    poses, logits = routed(centered, activations, beta_u, beta_a)
    return poses + center[:, :, :, 0], tf.sigmoid(logits)


class _Trace:
    """Products with the votes, whose gradients for the votes are computed at once in the end.

    Args:
        v: The votes [n, positions, parents, children, dim].
        squares: Their squares.
        tape: Records the gradients of all but the votes.
    """

    def __init__(self, v: tf.Tensor, squares: tf.Tensor, tape: tf.GradientTape) -> None:
        self._v, self._squares, self._tape = v, squares, tape
        # Each product's left factors: of sums [.., children], of densities two of [.., dim].
        self._weights: list[tf.Tensor] = []
        self._factors: list[tuple[tf.Tensor, tf.Tensor]] = []
        self.sums: list[tuple[tf.Tensor, tf.Tensor]] = []
        self.densities: list[tf.Tensor] = []

    def sum_of(self, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The sums over the children of weight * v and of weight * v^2 [..., dim]."""
        pair = (_sum_over(weights, self._v), _sum_over(weights, self._squares))
        self._tape.watch(pair)
        self._weights.append(weights)
        self.sums.append(pair)
        return pair

    def density(self, linear: tf.Tensor, quadratic: tf.Tensor) -> tf.Tensor:
        """The sums over dim of linear * v + quadratic * v^2 [..., children]."""
        total = tf.linalg.matvec(self._v, linear) + tf.linalg.matvec(self._squares, quadratic)
        self._tape.watch(total)
        self._factors.append((linear, quadratic))
        self.densities.append(total)
        return total

    def votes_gradient(self, gradients: list[Any]) -> tf.Tensor:
        """The gradient for the votes, from those of `sums` and `densities` in this order."""
        of_sums, of_densities = gradients[: len(self.sums)], gradients[len(self.sums) :]
        children = tf.stack([*self._weights, *of_densities], axis=-1)
        linear = [pair[0] for pair in (*of_sums, *self._factors)]
        quadratic = [pair[1] for pair in (*of_sums, *self._factors)]
        of_v = tf.matmul(children, tf.stack(linear, axis=-2))
        return of_v + 2 * self._v * tf.matmul(children, tf.stack(quadratic, axis=-2))


def _sum_over(weights: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matvec(votes, weights, transpose_a=True)


def _iterate(
    trace: _Trace,
    activations: tf.Tensor,
    beta_u: tf.Tensor,
    beta_a: tf.Tensor,
    windows: Windows,
    iterations: int,
    data_scale: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Poses, less the center, and logits of the activations of the parents."""
    parents = beta_u.shape[0]
    a = activations[:, :, tf.newaxis]
    share = _first_shares(windows, parents, activations.shape[2], a.dtype)
    for iteration in range(iterations):
        r = share * a
        mass = tf.reduce_sum(r, axis=-1, keepdims=True) + _LEAST_MASS
        mean, mean_square = trace.sum_of(r / mass)
        variance = tf.nn.relu(mean_square - tf.square(mean)) + VARIANCE_FLOOR
        log_variance = tf.math.log(variance)
        dim = log_variance.shape[-1]
        cost = (dim * beta_u + tf.reduce_sum(log_variance, axis=-1) / 2) * mass[..., 0]
        logits = inverse_temperature(iteration) * (beta_a - data_scale * cost)
        if iteration < iterations - 1:
            # log(a p(V)) but for the terms of V, and for dim log(2 pi) / 2, which all parents have.
            constant = tf.math.log_sigmoid(logits)
            constant -= tf.reduce_sum(tf.square(mean) / variance + log_variance, axis=-1) / 2
            log_p = trace.density(mean / variance, -0.5 / variance) + constant[..., tf.newaxis]
            share = tf.exp(log_p - _log_total(log_p, windows))
    return mean, logits


def _first_shares(windows: Windows, parents: int, children: int, dtype: tf.DType) -> tf.Tensor:
    """R of the first iteration [1, positions, parents, children]."""
    windows_of_cell = np.sum(windows.places < windows.cells.size, axis=1)
    share = 1 / (parents * windows_of_cell[windows.cells])
    types = children // windows.cells.shape[1]
    share = np.repeat(share, types, axis=1)[np.newaxis, :, np.newaxis]
    return tf.constant(np.repeat(share, parents, axis=2), dtype)


def _log_total(log_p: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The log of the sum over all parents that see a child [n, positions, 1, children].

    Args:
        log_p: [n, positions, parents, children].
        windows: Which children the parents see.
    """
    positions, size = windows.cells.shape
    types = log_p.shape[3] // size
    over_types = tf.reduce_logsumexp(log_p, axis=2)
    at_places = tf.reshape(over_types, [-1, positions * size, types])
    at_places = tf.pad(at_places, [[0, 0], [0, 1], [0, 0]], constant_values=_NO_PARENT)
    total = tf.reduce_logsumexp(tf.gather(at_places, windows.places, axis=1), axis=2)
    total = tf.gather(total, windows.cells, axis=1)
    return tf.reshape(total, [-1, positions, 1, size * types])
