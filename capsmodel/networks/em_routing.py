"""EM routing between matrix capsules: Procedure 1 of Hinton, Sabour, Frosst 2018, in log space.

The paper is "Matrix capsules with EM routing" (openreview.net/forum?id=HJWLfGWRb).

Shapes: n images; P positions of parents; J types of parents; K children that a position of parents
sees, position by position and at each of them type by type; H numbers in a pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.networks.capsule_patches import Patches

# Added to each variance, so that a parent whose votes agree completely has a finite cost.
VARIANCE_FLOOR = 5e-4


class EmRouting:
    """EM routing from one layer of capsules to the next.

    Each parent is a Gaussian with a diagonal covariance, and the votes V_ij of the children are the
    points that it explains. From R_ij = 1 / (the parents that child i feeds), each iteration has an
    M-step and, except the last one, an E-step:

    - M: w_ij = R_ij a_i; mu_j and sigma_j^2 are the mean and the variance of V_ij weighted by w_ij;
      cost_j = sum over h of (beta_u + log sigma_jh) times sum over i of w_ij;
      a_j = logistic(lambda (beta_a - cost_j)).
    - E: R_ij is (a_j p_j(V_ij))^sharpness, divided by its sum over all the parents that child i
      feeds, those at other positions, too.

    With a sharpness of 1 this is the paper's procedure, with smaller ones deterministic annealing
    (Ueda, Nakano 1998, "Deterministic annealing EM algorithm"). A Gaussian in 16
    dimensions that explains a few votes tells them apart so sharply that the gradients of two
    batches have nothing in common.

    R, a and w are kept as logarithms, so no sum overflows and none is divided by 0.

    Args:
        types: J.
        patches: Which positions feed which.
        inverse_temperatures: lambda in each iteration.
        sharpness: The exponent in the E-step.
        floor: What is added to each variance.
    """

    def __init__(
        self,
        types: int,
        patches: Patches,
        inverse_temperatures: Sequence[float],
        sharpness: float = 1.0,
        floor: float = VARIANCE_FLOOR,
    ) -> None:
        self.types = types
        self.patches = patches
        self.inverse_temperatures = tuple(inverse_temperatures)
        self.sharpness = sharpness
        self.floor = floor

    def __call__(
        self, votes: tf.Tensor, log_a: tf.Tensor, beta_u: tf.Tensor, beta_a: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The parents of all images.

        Args:
            votes: V, float32 or float64 [n, P, J, K, H]; n may be unknown or 0.
            log_a: the logarithms of the children's activations [n, P, K].
            beta_u: [J].
            beta_a: [J].

        Returns:
            The poses mu [n, P, J, H], and the logits of the activations [n, P, J].
        """

        @tf.custom_gradient
        def routed(*inputs: tf.Tensor) -> Any:
            votes, *others = inputs
            # The procedure commutes with shifts, so that the gradient is the same: around one of
            # them the votes' squares are small, and the variance is not lost in rounding.
            origin = votes[..., :1, :]
            votes -= origin
            mean, logits, kept = self._forward(votes, *others)

            def gradient(d_mean: tf.Tensor, d_logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return self._backward(votes, others[1:], kept, [d_mean, d_logits])

            return (mean + origin[..., 0, :], logits), gradient

        return routed(votes, log_a, beta_u, beta_a)

    def assignments(
        self, votes: tf.Tensor, log_a: tf.Tensor, beta_u: tf.Tensor, beta_a: tf.Tensor
    ) -> tf.Tensor:
        """R before the M-step of each iteration [iterations, n, P, J, K], for the same arguments.

        Its sum over the parents that a child feeds is 1.
        """
        kept = self._forward(votes - votes[..., :1, :], log_a, beta_u, beta_a)[2]
        return tf.exp(tf.stack([log_r for log_r, *_ in kept]))

    def _forward(
        self, votes: tf.Tensor, log_a: tf.Tensor, beta_u: tf.Tensor, beta_a: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[Any]]:
        """Mean, logits, and log R, shares, moments and coefficients of each iteration."""
        squares = tf.square(votes)
        fed = np.repeat(self.patches.counts(), self._types_of_children(votes), axis=1)
        log_r = tf.cast(-np.log(self.types * fed), votes.dtype)[:, tf.newaxis]
        log_r = tf.broadcast_to(log_r, tf.shape(votes)[:-1])
        kept: list[Any] = []
        for inverse_temperature in self.inverse_temperatures:
            if kept:
                a, b, c = kept[-1][3]
                logits = _products(squares, a) + _products(votes, b) + c[..., tf.newaxis]
                log_r = logits - self._over_parents(logits, tf.reduce_logsumexp, -np.inf)
            log_w = log_r + log_a[:, :, tf.newaxis]
            log_sum = tf.reduce_logsumexp(log_w, axis=-1)
            shares = tf.exp(log_w - log_sum[..., tf.newaxis])
            moments = [log_sum, _sums(shares, votes), _sums(shares, squares)]
            sources = [*moments, beta_u, beta_a]
            mean, logit, *coefficients = self._parents(sources, inverse_temperature)
            kept.append((log_r, shares, moments, coefficients))
        return mean, logit, kept

    def _parents(
        self, sources: Sequence[tf.Tensor], inverse_temperature: float
    ) -> tuple[tf.Tensor, ...]:
        """The M-step for the sums over the children.

        Args:
            sources: log of the sum of w [n, P, J]; means of the votes and of their squares,
                weighted by w [n, P, J, H]; beta_u and beta_a [J].
            inverse_temperature: lambda.

        Returns:
            Mean [n, P, J, H] and logits [n, P, J]; and a, b [n, P, J, H] and c [n, P, J], with
            which a V^2 + b V, summed over H, and c are sharpness log(a_j p_j(V)) but for a
            constant.
        """
        log_sum, mean, mean_square, beta_u, beta_a = sources
        variance = tf.nn.relu(mean_square - tf.square(mean)) + self.floor
        log_variance = tf.math.log(variance)
        cost = tf.reduce_sum(beta_u[:, tf.newaxis] + log_variance / 2, axis=-1) * tf.exp(log_sum)
        logit = inverse_temperature * (beta_a - cost)
        c = -tf.reduce_sum(tf.square(mean) / variance + log_variance, axis=-1) / 2
        c = self.sharpness * (c + tf.math.log_sigmoid(logit))
        a = -self.sharpness / 2 / variance
        return mean, logit, a, -2 * a * mean, c

    def _types_of_children(self, votes: tf.Tensor) -> int:
        return votes.shape[3] // self.patches.counts().shape[1]

    def _over_parents(self, x: tf.Tensor, reduce: Any, nothing: float) -> tf.Tensor:
        """[n, P, J, K] -> [n, P, 1, K]: reduces over all the parents that each child feeds."""
        x = reduce(x, axis=2)
        seen = self.patches.counts().shape[1]
        by_position = tf.reshape(x, [-1, x.shape[1], seen, x.shape[2] // seen])
        by_position = self.patches.over_parents(by_position, reduce, nothing)
        return tf.reshape(by_position, [-1, 1, *x.shape[1:]])[:, 0, :, tf.newaxis]

    def _backward(
        self,
        votes: tf.Tensor,
        betas: Sequence[tf.Tensor],
        kept: Sequence[Any],
        upstream: list[tf.Tensor],
    ) -> tuple[tf.Tensor, ...]:
        """The gradients of the arguments of `_forward`, from those of mean and logits.

        The votes are in sums only, of which the gradient is an outer product. All of those are
        added up in one matrix product, so that one tensor has the size of the votes, not ten.
        """
        squares = tf.square(votes)
        d_log_a, d_betas = tf.constant(0, votes.dtype), [tf.zeros_like(each) for each in betas]
        weights, d_votes, d_squares = [], [], []
        for i in reversed(range(len(kept))):
            log_r, shares, moments, _ = kept[i]
            sources = [*moments, *betas]
            is_last = i == len(kept) - 1
            with tf.GradientTape() as tape:
                tape.watch(sources)
                results = self._parents(sources, self.inverse_temperatures[i])
                results = results[:2] if is_last else results[2:]
            d_log_sum, d_mean, d_mean_square, *d_more = tape.gradient(
                results, sources, upstream, unconnected_gradients='zero'
            )
            d_betas = [d + more for d, more in zip(d_betas, d_more, strict=True)]
            weights.append(shares)
            d_votes.append(d_mean)
            d_squares.append(d_mean_square)
            d_shares = _products(votes, d_mean) + _products(squares, d_mean_square)
            d_shares -= tf.reduce_sum(shares * d_shares, axis=-1, keepdims=True)
            d_log_w = shares * (d_shares + d_log_sum[..., tf.newaxis])
            d_log_a += tf.reduce_sum(d_log_w, axis=2)
            if i:
                total = self._over_parents(d_log_w, tf.reduce_sum, 0)
                d_logits = d_log_w - tf.exp(log_r) * total
                a, b, _ = kept[i - 1][3]
                weights.append(d_logits)
                d_votes.append(b)
                d_squares.append(a)
                sums = [_sums(d_logits, squares), _sums(d_logits, votes)]
                upstream = [*sums, tf.reduce_sum(d_logits, axis=-1)]
        by_child = tf.stack(weights, axis=-1)
        d_of_votes = tf.matmul(by_child, tf.stack(d_votes, axis=-2))
        d_of_votes += 2 * votes * tf.matmul(by_child, tf.stack(d_squares, axis=-2))
        return d_of_votes, d_log_a, *d_betas


def _sums(weights: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The sum over k of weights[..., k] x[..., k, :]."""
    return tf.squeeze(tf.matmul(weights[..., tf.newaxis, :], x), axis=-2)


def _products(x: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """x[..., k, :] . vector[..., :] for each k: on a CPU this is the fastest of its forms."""
    return tf.squeeze(tf.matmul(vector[..., tf.newaxis, :], x, transpose_b=True), axis=-2)
