"""EM routing against the paper's Procedure 1 in numpy, and the three mistakes of rebuildings."""

import em_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from tape import gradient_of

from capsmodel.networks.em_routing import Windows, em_routing

# 4x5 places of two types of children; 2x2 positions whose windows share places; and one position.
_SHARED = Windows((4, 5), (3, 3), 1)
_APART = Windows((5, 5), (3, 3), 2)
_ALL = Windows((2, 3), (2, 3), 1)
_TYPES, _PARENTS, _DIM = 2, 3, 4


def _inputs(windows, seed=0, size=1.0):
    """Votes, and activations of all children of the grid, for two images."""
    rng = np.random.default_rng(seed)
    positions, places = windows.cells.shape
    votes = size * rng.normal(size=(2, positions, _PARENTS, places * _TYPES, _DIM))
    activations = rng.uniform(0.05, 1, (2, windows.grid[0] * windows.grid[1], _TYPES))
    beta_u, beta_a = rng.normal(size=_PARENTS), 100 * rng.normal(size=_PARENTS)
    return votes, activations, beta_u, beta_a


def _seen(activations, windows):
    return activations[:, windows.cells].reshape(2, len(windows.cells), -1)


def _em(arrays, windows, iterations=3, data_scale=1.0):
    """`em_routing` of votes, the activations in the windows, beta_u and beta_a."""
    votes, seen, beta_u, beta_a = map(tf.convert_to_tensor, arrays)
    return em_routing(votes, seen, beta_u, beta_a, windows, iterations, data_scale)


def _routed(inputs, windows, iterations=3, data_scale=1.0):
    votes, activations, *betas = inputs
    return _em((votes, _seen(activations, windows), *betas), windows, iterations, data_scale)


def _oracle(inputs, windows, iterations, data_scale):
    """Poses and activations of the oracle, in the form of `em_routing`."""
    votes, activations, beta_u, beta_a = inputs
    poses, ons = np.zeros((*votes.shape[:3], _DIM)), np.zeros(votes.shape[:3])
    for n, one in enumerate(votes):
        by_pair = {
            (cell * _TYPES + kind, (p, j)): one[p, j, place * _TYPES + kind]
            for p, cells in enumerate(windows.cells)
            for place, cell in enumerate(cells)
            for kind in range(_TYPES)
            for j in range(_PARENTS)
        }
        mean, on, _ = oracle.route_one(
            by_pair, activations[n].ravel(), beta_u, beta_a, iterations, data_scale
        )
        for p, j in mean:
            poses[n, p, j], ons[n, p, j] = mean[p, j], on[p, j]
    return poses, ons


def test_windows_are_the_cells_that_a_convolution_sees():
    grid = np.arange(20).reshape(4, 5)
    assert (_SHARED.rows, _SHARED.columns) == (2, 3)
    for position, cells in enumerate(_SHARED.cells):
        y, x = divmod(position, 3)
        np.testing.assert_array_equal(cells.reshape(3, 3), grid[y : y + 3, x : x + 3])
    # The corner is in one window, the middle in all that fit.
    assert [np.sum(row < 54) for row in _SHARED.places][:8] == [1, 2, 3, 2, 1, 2, 4, 6]
    assert _APART.cells.shape == (4, 9)
    assert _APART.cells[3][0] == 12


@pytest.mark.parametrize('windows', [_SHARED, _APART, _ALL])
@pytest.mark.parametrize('iterations', [1, 2, 3])
def test_it_is_procedure_1(windows, iterations):
    inputs = _inputs(windows, seed=iterations)
    expected = _oracle(inputs, windows, iterations, 2.5)
    for actual, wanted in zip(_routed(inputs, windows, iterations, 2.5), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=2e-5, atol=1e-6)
    single = [np.float32(x) for x in inputs]
    for actual, wanted in zip(_routed(single, windows, iterations, 2.5), expected, strict=True):
        assert actual.dtype == tf.float32
        np.testing.assert_allclose(actual, wanted, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize('windows', [_SHARED, _ALL])
def test_gradients_are_those_of_numerical_differentiation(windows):
    inputs = _inputs(windows)
    rng = np.random.default_rng(5)
    poses, ons = _routed(inputs, windows)
    weights = rng.normal(size=poses.shape), 100 * rng.normal(size=ons.shape)

    def value(number, x):
        changed = [*inputs[:number], x, *inputs[number + 1 :]]
        votes, activations, *betas = changed
        seen = tf.gather(activations, windows.cells, axis=1)
        seen = tf.reshape(seen, [2, len(windows.cells), -1])
        results = _em((votes, seen, *betas), windows)
        return sum(tf.reduce_sum(w * r) for w, r in zip(weights, results, strict=True))

    for number in range(4):
        exact = gradient_of(lambda x, number=number: value(number, x), inputs[number])
        # Along a few directions: there are hundreds of votes.
        for direction in rng.normal(size=(3, *inputs[number].shape)):
            step = 1e-5 * direction
            ahead, behind = (value(number, inputs[number] + sign * step) for sign in (1, -1))
            expected = float(ahead - behind) / 2e-5
            assert np.sum(exact * direction) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_mistake_1_children_compete_over_the_parents_at_all_positions():
    """A child that is in two windows goes to the one where the others agree with it."""
    windows = Windows((1, 4), (1, 3), 1)
    rng = np.random.default_rng(0)
    # All children of the left window agree; those of the right one scatter, but for type 0.
    votes = rng.normal(size=(1, 2, 1, 3, _DIM)) * np.array([0.01, 1.0])[None, :, None, None, None]
    activations, zero = np.ones((1, 2, 3)), np.zeros(1)
    poses, _ = _em((votes, activations, zero, zero), windows, 2)
    # Nothing is left for the right parent but its own child, the last one.
    np.testing.assert_allclose(poses[0, 1, 0], votes[0, 1, 0, 2], atol=0.01)
    # With a softmax over types alone, the single type would get all of each child.
    assert np.max(np.abs(poses[0, 1, 0] - votes[0, 1, 0].mean(axis=0))) > 0.1


def test_mistake_2_a_parent_with_a_single_child_is_refused():
    windows = Windows((2, 2), (1, 1), 1)
    votes, activations, zero = np.ones((1, 4, 3, 1, _DIM)), np.ones((1, 4, 1)), np.zeros(3)
    with pytest.raises(ValueError, match='at least 2 children'):
        _em((votes, activations, zero, zero), windows, 3)


def test_mistake_3_the_amount_of_data_does_not_depend_on_the_number_of_children():
    """With data_scale = parents / children, twice as many children give the same activations."""
    ons = []
    for height in (2, 4):
        windows = Windows((height, 3), (height, 3), 1)
        one = np.random.default_rng(0).normal(size=(1, 1, _PARENTS, 6, _DIM))
        votes = np.concatenate([one] * (height // 2), axis=3)
        children = votes.shape[3]
        inputs = (votes, np.ones((1, 1, children)), np.zeros(_PARENTS), np.zeros(_PARENTS))
        scale = 100 * _PARENTS / children
        ons.append(_em(inputs, windows, 3, scale)[1])
    np.testing.assert_allclose(ons[0], ons[1], rtol=1e-6)
    assert np.ptp(ons[0]) > 0.01


def test_densities_beyond_float32_are_still_shared_out():
    """16 numbers that agree have densities of about 1e20, and far ones of 0, in float32."""
    rng = np.random.default_rng(0)
    votes = 1e-4 * rng.normal(size=(1, 1, 2, 12, 16))
    votes[:, :, :, 6:] += 3  # two clusters, each type starts nearer to one
    votes[:, :, 0, :6] -= 0.5
    votes[:, :, 1, 6:] += 0.5
    inputs = [np.float32(x) for x in (votes, np.ones((1, 1, 12)), np.zeros(2), np.zeros(2))]
    windows = Windows((3, 4), (3, 4), 1)
    poses, ons = _em(inputs, windows, 3)
    double = [np.float64(x) for x in inputs]
    expected, expected_ons = _em(double, windows, 3)
    assert np.all(np.isfinite(poses))
    np.testing.assert_allclose(poses, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ons, expected_ons, rtol=1e-3)
    gradient = gradient_of(
        lambda x: tf.reduce_sum(_em((x, *inputs[1:]), windows)[0] ** 2),
        inputs[0],
    )
    assert np.all(np.isfinite(gradient))


def test_children_that_are_off_leave_finite_parents():
    votes, activations, *betas = map(np.float32, _inputs(_SHARED))
    poses, ons = _routed((votes, 0 * activations, *betas), _SHARED)
    assert np.all(np.isfinite(poses))
    assert np.all(np.isfinite(ons))
