"""EM routing against Procedure 1 in numpy, and the three mistakes that rebuildings make of it.

The mistakes are those of Gritzman 2019 (arXiv:1907.00652).
"""

import math

import em_oracle
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.capsule_patches import Patches
from capsmodel.networks.em_routing import VARIANCE_FLOOR, EmRouting

_TYPES, _CHILD_TYPES, _DIM = 3, 2, 4
_LAMBDAS = (0.3, 0.5, 0.9)
_CASES = {
    'stride 2': Patches((5, 5), 3, 2),
    'overlapping, a row that feeds none': Patches((4, 6), 2, 1),
    'gaps': Patches((7, 5), 2, 3),
    'one parent position': Patches((3, 2)),
}
each_case = pytest.mark.parametrize('patches', _CASES.values(), ids=_CASES)
each_sharpness = pytest.mark.parametrize('sharpness', [1.0, 0.0625])


def _inputs(patches, n=2, seed=0):
    """Votes, the map of the children's log activations, beta_u and beta_a."""
    rng = np.random.default_rng(seed)
    positions, seen = math.prod(patches.parents), math.prod(patches.seen)
    votes = rng.normal(size=(n, positions, _TYPES, seen * _CHILD_TYPES, _DIM))
    activations = rng.uniform(0.1, 1, size=(n, *patches.size, _CHILD_TYPES))
    return votes, np.log(activations), rng.normal(size=_TYPES), rng.normal(size=_TYPES)


def _flat(patches, x):
    """What parents see of a map, with one axis for the children."""
    x = patches.of(tf.convert_to_tensor(x))
    return tf.reshape(x, [x.shape[0], x.shape[1], x.shape[2] * x.shape[3]])


def _routed(routing, votes, log_map, *betas):
    return routing(tf.convert_to_tensor(votes), _flat(routing.patches, log_map), *betas)


def _children_of(patches):
    """For each parent's position its children's positions, in the order of `Patches.of`."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for child, parent in em_oracle.connected(patches.size, patches.kernel, patches.stride):
        found.setdefault(parent, []).append(child)
    return found


@each_sharpness
@each_case
def test_it_is_the_papers_procedure(patches, sharpness):
    votes, log_map, beta_u, beta_a = _inputs(patches)
    routing = EmRouting(_TYPES, patches, _LAMBDAS, sharpness)
    poses, logits = _routed(routing, votes, log_map, beta_u, beta_a)
    assigned = routing.assignments(votes, _flat(patches, log_map), beta_u, beta_a)
    for image in range(2):
        pairs, places = {}, {}
        for place, (position, children) in enumerate(_children_of(patches).items()):
            for j in range(_TYPES):
                parent = (*position, j)
                places[parent] = place, j
                for k in range(len(children) * _CHILD_TYPES):
                    child = (*children[k // _CHILD_TYPES], k % _CHILD_TYPES)
                    pairs[child, parent] = place, j, k
        expected_poses, expected_a, history = em_oracle.em_routing(
            {pair: votes[image][at] for pair, at in pairs.items()},
            {child: np.exp(log_map[image][child]) for child, _ in pairs},
            {parent: beta_u[parent[-1]] for parent in places},
            {parent: beta_a[parent[-1]] for parent in places},
            _LAMBDAS,
            VARIANCE_FLOOR,
            sharpness,
        )
        for capsule, at in places.items():
            np.testing.assert_allclose(poses[image][at], expected_poses[capsule], rtol=1e-8)
            a = tf.sigmoid(logits[image][at])
            np.testing.assert_allclose(a, expected_a[capsule], rtol=1e-8)
        for r, expected in zip(assigned, history, strict=True):
            for pair, indices in pairs.items():
                np.testing.assert_allclose(r[image][indices], expected[pair], rtol=1e-7)


@each_sharpness
@each_case
def test_gradients_are_those_of_numerical_differentiation(patches, sharpness):
    inputs = [tf.constant(each) for each in _inputs(patches)]
    routing = EmRouting(_TYPES, patches, _LAMBDAS, sharpness)
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=x.shape) for x in _routed(routing, *inputs)]

    def value(*inputs):
        results = _routed(routing, *inputs)
        return sum(tf.reduce_sum(w * x) for w, x in zip(weights, results, strict=True))

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = value(*inputs)
    for number, gradient in enumerate(tape.gradient(result, inputs)):
        direction = rng.normal(size=inputs[number].shape)

        def moved(by, number=number, direction=direction):
            changed = [*inputs]
            changed[number] = inputs[number] + by * direction
            return float(value(*changed))

        expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_mistake_1_a_parent_with_a_single_child_stays_finite():
    """Its variance is 0, and without a floor its cost minus infinity."""
    routing = EmRouting(1, Patches((1, 1)), _LAMBDAS)
    vote, log_a = np.full([1, 1, 1, 1, _DIM], 7.0), np.log([[[0.5]]])
    betas = tf.constant([0.25], tf.float64), tf.constant([2.0], tf.float64)
    inputs = [tf.constant(vote), tf.constant(log_a), *betas]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        pose, logit = routing(*inputs)
    np.testing.assert_allclose(pose, vote[..., 0, :])
    cost = 0.5 * _DIM * (0.25 + np.log(VARIANCE_FLOOR) / 2)
    np.testing.assert_allclose(logit, [[[_LAMBDAS[-1] * (2 - cost)]]])
    assert all(np.all(np.isfinite(each)) for each in tape.gradient([pose, logit], inputs))


def test_mistake_2_parents_at_all_positions_compete_for_a_child():
    """Not those at one position only: a child in the middle of 4x4 feeds 2x2 positions."""
    patches = Patches((4, 4), 3, 1)
    votes, log_map, *betas = _inputs(patches)
    routing = EmRouting(_TYPES, patches, _LAMBDAS)
    r = routing.assignments(votes, _flat(patches, log_map), *betas).numpy()
    total: dict[tuple[int, int], np.ndarray] = {}
    for place, children in enumerate(_children_of(patches).values()):
        for number, child in enumerate(children):
            part = r[:, :, place, :, _CHILD_TYPES * number :][..., :_CHILD_TYPES].sum(axis=2)
            total[child] = total.get(child, 0) + part
    assert len(total) == 16
    for part in total.values():
        np.testing.assert_allclose(part, 1)
    # At a single position they do not add up to 1: all four have a part.
    at_one_position = r[-1, :, 0].sum(axis=1)
    assert np.any(at_one_position < 0.9)


def test_float32_is_near_float64_where_votes_are_far_from_0():
    patches = _CASES['stride 2']
    votes, *others = _inputs(patches)
    inputs = [100 + 0.1 * votes, *others]
    routing = EmRouting(_TYPES, patches, _LAMBDAS)
    exact = _routed(routing, *inputs)
    single = _routed(routing, *(np.float32(each) for each in inputs))
    for one, other in zip(single, exact, strict=True):
        assert one.dtype == tf.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('size', [0.0, 1e-20, 1e4])
@pytest.mark.parametrize('log_a', [0.0, -80.0, -200.0])
def test_float32_neither_overflows_nor_divides_by_0(size, log_a):
    """exp(-200) is 0 in float32, and densities at votes so far apart are, too."""
    patches = _CASES['stride 2']
    votes, log_map, *betas = _inputs(patches)
    inputs = [size * votes, log_map + log_a, *betas]
    inputs = [tf.constant(each, tf.float32) for each in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = _routed(EmRouting(_TYPES, patches, _LAMBDAS), *inputs)
    for each in (*results, *tape.gradient(results, inputs)):
        assert np.all(np.isfinite(each))


def test_no_images_and_unknown_numbers_of_them():
    patches = _CASES['stride 2']
    votes, log_map, *betas = _inputs(patches)
    routing = EmRouting(_TYPES, patches, _LAMBDAS)
    log_a = _flat(patches, log_map)
    specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in (tf.constant(votes), log_a)]
    traced = tf.function(lambda v, a: routing(v, a, *betas), input_signature=specs)
    for n in (2, 0):
        for one, other in zip(traced(votes[:n], log_a[:n]), (5, 4), strict=True):
            assert len(one.shape) == other - 1
            assert one.shape[:3] == (n, 4, _TYPES)


def test_patches_worked_by_hand():
    patches = Patches((4, 5), 2, 2)
    assert patches.parents == (2, 2)
    x = np.arange(20.0).reshape(1, 4, 5)
    seen = [[0, 1, 5, 6], [2, 3, 7, 8], [10, 11, 15, 16], [12, 13, 17, 18]]
    np.testing.assert_array_equal(patches.of(tf.constant(x)), [seen])
    np.testing.assert_array_equal(patches.counts(), np.ones([4, 4]))
    row = Patches((1, 3), 1, 1)
    np.testing.assert_array_equal(row.of(tf.constant(x[:, :1, :3]))[0, :, 0], [0, 1, 2])
    overlapping = Patches((2, 3), 2, 1)
    np.testing.assert_array_equal(overlapping.counts(), [[1, 2, 1, 2], [2, 1, 2, 1]])
    pairs = tf.constant([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])[..., tf.newaxis]
    sums = overlapping.over_parents(pairs, tf.reduce_sum, 0)[0, ..., 0]
    np.testing.assert_array_equal(sums, [[1, 7, 3, 11], [7, 6, 11, 8]])
