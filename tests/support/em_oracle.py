"""EM routing of Hinton, Sabour, Frosst 2018, Procedure 1, in plain numpy, one loop an index."""

import numpy as np

VARIANCE_FLOOR = 5e-4


def route_one(
    votes: dict[tuple[int, tuple[int, int]], np.ndarray],
    activations: np.ndarray,
    beta_u: np.ndarray,
    beta_a: np.ndarray,
    iterations: int,
    data_scale: float = 1.0,
) -> tuple[dict, dict, dict]:
    """Procedure 1 for one image.

    Args:
        votes: V_ij [dim] for each child i and each parent j, (position, type), that sees it.
        activations: a_i [children].
        beta_u: [types].
        beta_a: [types].
        iterations: at least 1.
        data_scale: factor on the amount of data.

    Returns:
        mu_j [dim] and a_j for each parent, and R_ij of the last M-step.
    """
    children = sorted({i for i, _ in votes})
    parents = sorted({j for _, j in votes})
    parents_of = {i: [j for j in parents if (i, j) in votes] for i in children}
    children_of = {j: [i for i in children if (i, j) in votes] for j in parents}
    shares = {(i, j): 1 / len(parents_of[i]) for i, j in votes}
    for iteration in range(iterations):
        inverse_temperature = 0.01 * (1 - 0.95 ** (iteration + 1))
        mean, variance, activation = {}, {}, {}
        for j in parents:  # M-step
            r = {i: shares[i, j] * activations[i] for i in children_of[j]}
            mass = sum(r.values())
            mean[j] = sum(r[i] * votes[i, j] for i in r) / mass
            variance[j] = sum(r[i] * (votes[i, j] - mean[j]) ** 2 for i in r) / mass
            variance[j] += VARIANCE_FLOOR
            cost = (beta_u[j[1]] + np.log(np.sqrt(variance[j]))) * data_scale * mass
            logit = inverse_temperature * (beta_a[j[1]] - np.sum(cost))
            activation[j] = 1 / (1 + np.exp(-logit))
        if iteration == iterations - 1:
            return mean, activation, shares
        for i in children:  # E-step
            weight = {}
            for j in parents_of[i]:
                distance = np.sum((votes[i, j] - mean[j]) ** 2 / (2 * variance[j]))
                density = np.exp(-distance) / np.sqrt(np.prod(2 * np.pi * variance[j]))
                weight[j] = activation[j] * density
            total = sum(weight.values())
            for j in parents_of[i]:
                shares[i, j] = weight[j] / total
    raise AssertionError('there is at least one iteration')


def spread_loss_one(label: int, activations: np.ndarray, margin: float) -> float:
    """Eq. 3 for one image: activations [classes]."""
    total = 0.0
    for i, activation in enumerate(activations):
        if i != label:
            total += max(0.0, margin - (activations[label] - activation)) ** 2
    return total
