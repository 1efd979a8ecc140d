"""The equations of Sabour, Frosst, Hinton 2017 in plain numpy, one loop an index: the oracle."""

from collections.abc import Callable

import numpy as np


def squash(s: np.ndarray) -> np.ndarray:
    """Eq. 1 for one vector."""
    length = np.sqrt(np.sum(s**2))
    if length == 0:
        return np.zeros_like(s)
    return length**2 / (1 + length**2) * s / length


def route_one(
    u_hat: np.ndarray,
    iterations: int,
    none_of_the_above: bool = False,
    bias: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Procedure 1 for one image: u_hat [children, parents, dim] -> v [parents, dim] and the last c.

    c is [children, parents]; in `reference_routing` parents come first. With `none_of_the_above`
    the softmax has one more logit, 0 (section 7). `bias` [parents, dim] is added to s.
    """
    children, parents, dim = u_hat.shape
    b = np.zeros((children, parents))
    for _ in range(iterations):
        c = np.zeros((children, parents))
        for i in range(children):
            c[i] = np.exp(b[i]) / (np.sum(np.exp(b[i])) + none_of_the_above)
        v = np.zeros((parents, dim))
        for j in range(parents):
            s = sum(c[i, j] * u_hat[i, j] for i in range(children))
            if bias is not None:
                s = s + bias[j]
            v[j] = squash(s)
        for i in range(children):
            for j in range(parents):
                b[i, j] += np.dot(u_hat[i, j], v[j])
    return v, c


def route(
    u_hat: np.ndarray,
    iterations: int,
    none_of_the_above: bool = False,
    bias: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`route_one` for [n, children, parents, dim]."""
    results = [route_one(one, iterations, none_of_the_above, bias) for one in u_hat]
    return np.stack([v for v, _ in results]), np.stack([c for _, c in results])


def margin_loss_one(label: int, lengths: np.ndarray) -> float:
    """Eq. 4 for one image: lengths [classes]."""
    total = 0.0
    for k, length in enumerate(lengths):
        if k == label:
            total += max(0, 0.9 - length) ** 2
        else:
            total += 0.5 * max(0, length - 0.1) ** 2
    return total


def primary_capsules_one(
    features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, dim: int
) -> np.ndarray:
    """One image's convolution [height, width, filters] and its squashed capsules [capsules, dim].

    Capsules are counted row by row, in a row column by column, at a position channel by channel.
    """
    size = kernel.shape[0]
    height, width, _ = features.shape
    capsules = []
    for y in range(0, height - size + 1, stride):
        for x in range(0, width - size + 1, stride):
            patch = features[y : y + size, x : x + size]
            outputs = np.tensordot(patch, kernel, axes=3) + bias
            capsules += [squash(outputs[k : k + dim]) for k in range(0, len(outputs), dim)]
    return np.stack(capsules)


def numerical_gradient(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """Central differences of a scalar function at a float64 x."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        gradient[index] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient
