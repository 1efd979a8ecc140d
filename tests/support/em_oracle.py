"""Procedure 1 of Hinton, Sabour, Frosst 2018 in plain numpy, one loop an index: the oracle."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Capsule = tuple[int, ...]


def em_routing(
    votes: Mapping[tuple[Capsule, Capsule], np.ndarray],
    activations: Mapping[Capsule, float],
    beta_u: Mapping[Capsule, float],
    beta_a: Mapping[Capsule, float],
    inverse_temperatures: Iterable[float],
    floor: float,
    sharpness: float = 1,
) -> tuple[dict[Capsule, np.ndarray], dict[Capsule, float], list[dict]]:
    """Routes the capsules of one image.

    Args:
        votes: V_ij [dim] for each child i and parent j that are connected.
        activations: a_i of each child.
        beta_u, beta_a: of each parent.
        inverse_temperatures: lambda in each iteration.
        floor: is added to each variance; the paper's procedure has 0.
        sharpness: the exponent of a_j p_j; the paper's procedure has 1.

    Returns:
        Poses and activations of the parents, and the assignments R of each iteration, by (i, j).
    """
    children = sorted({i for i, _ in votes})
    parents = sorted({j for _, j in votes})
    fed = {i: [j for j in parents if (i, j) in votes] for i in children}
    r = {(i, j): 1 / len(fed[i]) for i, j in votes}
    pose: dict[Capsule, np.ndarray] = {}
    variance: dict[Capsule, np.ndarray] = {}
    a: dict[Capsule, float] = {}
    history = [r]
    rounds = list(inverse_temperatures)
    for number, inverse_temperature in enumerate(rounds):
        for j in parents:
            feeding = [i for i in children if (i, j) in votes]
            weights = {i: r[i, j] * activations[i] for i in feeding}
            total = sum(weights.values())
            pose[j] = np.sum([weights[i] * votes[i, j] for i in feeding], axis=0) / total
            squares = [weights[i] * (votes[i, j] - pose[j]) ** 2 for i in feeding]
            variance[j] = np.sum(squares, axis=0) / total + floor
            cost = sum((beta_u[j] + np.log(np.sqrt(variance[j]))) * total)
            a[j] = 1 / (1 + np.exp(-inverse_temperature * (beta_a[j] - cost)))
        if number + 1 == len(rounds):
            break
        density = {}
        for i, j in votes:
            distance = np.sum((votes[i, j] - pose[j]) ** 2 / (2 * variance[j]))
            p = np.exp(-distance) / np.sqrt(np.prod(2 * np.pi * variance[j]))
            density[i, j] = (a[j] * p) ** sharpness
        r = {(i, j): density[i, j] / sum(density[i, k] for k in fed[i]) for i, j in votes}
        history.append(r)
    return pose, a, history


def connected(
    size: Sequence[int], kernel: int, stride: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of positions (child's, parent's) that a convolution without padding connects.

    With a kernel of 0 all children feed the one parent at (0, 0).
    """
    rows, columns = size
    if not kernel:
        return [((y, x), (0, 0)) for y in range(rows) for x in range(columns)]
    return [
        ((stride * down + y, stride * right + x), (down, right))
        for down in range((rows - kernel) // stride + 1)
        for right in range((columns - kernel) // stride + 1)
        for y in range(kernel)
        for x in range(kernel)
    ]
