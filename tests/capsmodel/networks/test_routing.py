"""Tests of squash, norm and routing by agreement against the numpy oracle."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tape import gradient_of

from capsmodel.networks.routing import norm, routing_by_agreement, squash


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1)
)
def test_squash_is_equation_1(components):
    s = np.array(components)
    np.testing.assert_allclose(squash(tf.constant(s)), oracle.squash(s), rtol=1e-12)
    np.testing.assert_allclose(
        squash(tf.constant(s, tf.float32)), oracle.squash(s), rtol=1e-5, atol=1e-30
    )


def test_squash_worked_by_hand():
    # |(3, 4)| = 5, so the length becomes 25/26 and the direction stays (0.6, 0.8).
    np.testing.assert_allclose(squash(tf.constant([3.0, 4.0])), [15 / 26, 20 / 26], rtol=1e-6)


def test_squash_takes_any_axis():
    s = np.random.default_rng(0).normal(size=(3, 4, 5))
    along_last = squash(tf.constant(np.moveaxis(s, 1, -1)))
    np.testing.assert_allclose(squash(tf.constant(s), axis=1), np.moveaxis(along_last, -1, 1))


def test_squash_and_its_gradient_are_zero_at_zero():
    zero = np.zeros((2, 4), np.float32)
    np.testing.assert_array_equal(squash(tf.constant(zero)), zero)
    np.testing.assert_allclose(gradient_of(squash, zero), zero, atol=1e-17)


@pytest.mark.parametrize('size', [1e-30, 1e-18, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e20, 1e37])
def test_squash_of_any_float32_length(size):
    direction = np.array([0.48, -0.6, 0.64])
    s = np.float32(size * direction)
    v = squash(tf.constant(s)).numpy().astype(np.float64)
    expected = size**2 / (1 + size**2)
    assert np.sqrt(np.sum(v**2)) < 1
    assert np.sqrt(np.sum(v**2)) == pytest.approx(expected, rel=2e-6, abs=1e-35)
    assert norm(tf.constant(v, tf.float32)) < 1

    # Along s the length changes by 2|s| / (1 + |s|^2)^2; across s the direction turns.
    length_gradient = gradient_of(lambda x: tf.reduce_sum(squash(x) * np.float32(direction)), s)
    slope = 2 * size / (1 + size**2) ** 2
    np.testing.assert_allclose(length_gradient, slope * direction, rtol=1e-5, atol=3e-7)
    across = np.float32([0.8, 0.64, 0.0])
    across_gradient = gradient_of(lambda x: tf.reduce_sum(squash(x) * across), s)
    turn = size / (1 + size**2)
    np.testing.assert_allclose(across_gradient, turn * across, rtol=1e-5, atol=3e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 20))
def test_squashed_lengths_stay_below_1_in_float32(seed, exponent):
    s = np.random.default_rng(seed).normal(size=(500, 16)) * 10**exponent
    v = squash(tf.constant(s, tf.float32))
    assert np.max(np.linalg.norm(v.numpy(), axis=-1)) < 1
    assert np.max(norm(v)) < 1


def test_squash_gradient_is_the_numerical_one():
    rng = np.random.default_rng(1)
    s, weights = rng.normal(size=(2, 5))
    expected = oracle.numerical_gradient(lambda x: np.sum(weights * oracle.squash(x)), s)
    actual = gradient_of(lambda x: tf.reduce_sum(weights * squash(x)), s)
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-9)


def test_norm_worked_by_hand():
    x = np.float32([[3, 4], [0, 0], [3e30, 4e30]])
    np.testing.assert_allclose(norm(tf.constant(x)), [5, 0, 5e30], rtol=1e-6)
    assert norm(tf.constant(x), axis=0, keepdims=True).shape == (1, 2)
    gradient = gradient_of(lambda x: tf.reduce_sum(norm(x)), x)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)


def _u_and_kernel(shape, scale=1.0, seed=5):
    n, children, parents, child_dim, dim = shape
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, children, child_dim))
    return u, rng.normal(scale=scale, size=(children, parents, child_dim, dim))


def _predictions(u, kernel):
    return np.einsum('nid,ijdk->nijk', u, kernel)


U, KERNEL = _u_and_kernel((2, 5, 3, 2, 4))


@settings(max_examples=25, deadline=None)
@given(
    iterations=st.integers(1, 5),
    shape=st.tuples(*(st.integers(1, size) for size in (3, 6, 5, 3, 4))),
    scale=st.floats(0.01, 3),
    gradient=st.sampled_from(['all', 'last']),
    seed=st.integers(0, 2**32 - 1),
)
def test_routing_is_procedure_1(iterations, shape, scale, gradient, seed):
    u, kernel = _u_and_kernel(shape, scale, seed)
    expected, _ = oracle.route(_predictions(u, kernel), iterations)
    v = routing_by_agreement(tf.constant(u), tf.constant(kernel), iterations, gradient)
    np.testing.assert_allclose(v, expected, rtol=1e-8, atol=1e-11)

    v = routing_by_agreement(
        tf.constant(u, tf.float32), tf.constant(kernel, tf.float32), iterations, gradient
    )
    assert v.dtype == tf.float32
    np.testing.assert_allclose(v, expected, atol=3e-3)


@pytest.mark.parametrize('iterations', [1, 3])
@pytest.mark.parametrize('shape', [(2, 12, 4), (2, 3, 4), (2, 6, 8), (2, 4, 6), (2, 12, 2)])
def test_other_children_than_the_kernels_are_no_other_batch(shape, iterations):
    kernel = tf.ones([6, 3, 4, 5])
    assert routing_by_agreement(tf.ones([2, 6, 4]), kernel, iterations).shape == (2, 3, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match='compatible with expected shape'):
        routing_by_agreement(tf.ones(shape), kernel, iterations)


def test_children_share_their_vote_among_the_parents():
    # One child and two parents: a softmax over the children would give c = 1 for both parents.
    # u_hat = ((2, 0), (0, 0)); c = (1/2, 1/2); s = ((1, 0), (0, 0)); v_1 = (1/2, 0);
    # b = (2 * 1/2, 0) = (1, 0).
    u = tf.constant([[[2.0]]])
    kernel = tf.constant([[[[1.0, 0.0]], [[0.0, 0.0]]]])
    np.testing.assert_allclose(routing_by_agreement(u, kernel, 1), [[[0.5, 0], [0, 0]]], rtol=1e-6)

    share = np.e / (np.e + 1)
    length = (2 * share) ** 2 / (1 + (2 * share) ** 2)
    v = routing_by_agreement(u, kernel, 2)
    np.testing.assert_allclose(v, [[[length, 0], [0, 0]]], rtol=1e-6)


def _routing_gradients(u, kernel, weights, iterations, gradient):
    u, kernel = tf.constant(u), tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch([u, kernel])
        v = routing_by_agreement(u, kernel, iterations, gradient)
        loss = tf.reduce_sum(weights * v)
    return tape.gradient(loss, [u, kernel])


def _numerical_gradients(function):
    return [
        oracle.numerical_gradient(lambda u: function(_predictions(u, KERNEL)), U),
        oracle.numerical_gradient(lambda kernel: function(_predictions(U, kernel)), KERNEL),
    ]


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_all_iterations_is_the_numerical_one(iterations):
    weights = np.random.default_rng(6).normal(size=(2, 3, 4))
    expected = _numerical_gradients(
        lambda u_hat: np.sum(weights * oracle.route(u_hat, iterations)[0])
    )
    actual = _routing_gradients(U, KERNEL, weights, iterations, 'all')
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('iterations', [1, 2, 3, 4])
def test_gradient_through_the_last_iteration_takes_coupling_for_constant(iterations):
    weights = np.random.default_rng(6).normal(size=(2, 3, 4))
    coupling = oracle.route(_predictions(U, KERNEL), iterations)[1]

    def with_constant_coupling(u_hat):
        s = np.einsum('nij,nijd->njd', coupling, u_hat)
        return np.sum(weights * np.apply_along_axis(oracle.squash, -1, s))

    expected = _numerical_gradients(with_constant_coupling)
    actual = _routing_gradients(U, KERNEL, weights, iterations, 'last')
    through_all = _routing_gradients(U, KERNEL, weights, iterations, 'all')
    for a, e, every in zip(actual, expected, through_all, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-7)
        assert np.allclose(a, every) == (iterations == 1)


@pytest.mark.parametrize('size', [0.0, 1e9])
def test_routing_is_finite_at_extreme_capsules(size):
    u, kernel = np.float32(U * size), np.float32(KERNEL)
    assert np.all(np.isfinite(routing_by_agreement(tf.constant(u), tf.constant(kernel), 3)))
    for gradient in _routing_gradients(u, kernel, np.float32(1), 3, 'all'):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize('gradient', ['all', 'last'])
@pytest.mark.parametrize('jit_compile', [False, True])
def test_routing_of_any_batch_size_in_a_function(jit_compile, gradient):
    @tf.function(input_signature=[tf.TensorSpec([None, 5, 2])], jit_compile=jit_compile)
    def run(u):
        kernel = tf.constant(KERNEL, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch([u, kernel])
            v = routing_by_agreement(u, kernel, 3, gradient)
        return v, tape.gradient(v, [u, kernel])

    for n in (0, 1, 2):
        v, gradients = run(U[:n])
        predictions = _predictions(U[:n], KERNEL)
        expected = oracle.route(predictions, 3)[0] if n else np.zeros((0, 3, 4))
        np.testing.assert_allclose(v, expected, atol=1e-5)
        eager = _routing_gradients(np.float32(U[:n]), np.float32(KERNEL), 1.0, 3, gradient)
        for a, e in zip(gradients, eager, strict=True):
            np.testing.assert_allclose(a, e, atol=1e-4)


def test_predictions_are_never_made():
    u, kernel = _u_and_kernel((32, 200, 10, 8, 16))

    @tf.function(input_signature=[tf.TensorSpec(u.shape), tf.TensorSpec(kernel.shape)])
    def run(u, kernel):
        with tf.GradientTape() as tape:
            tape.watch([u, kernel])
            v = routing_by_agreement(u, kernel, 3)
        return tape.gradient(v, [u, kernel])

    operations = run.get_concrete_function().graph.get_operations()
    largest = max(out.shape.num_elements() or 0 for op in operations for out in op.outputs)
    # W_ij^T v_j and c_ij u_i have child_dim numbers for each child and parent, u_hat has dim.
    assert largest == 32 * 200 * 10 * 8


def test_low_precision_capsules_are_routed_in_float32():
    u, kernel = tf.cast(U, tf.bfloat16), tf.cast(KERNEL, tf.bfloat16)
    v = routing_by_agreement(u, kernel, 3)
    assert v.dtype == squash(u).dtype == tf.float32
    predictions = _predictions(*(tf.cast(x, tf.float64).numpy() for x in (u, kernel)))
    np.testing.assert_allclose(v, oracle.route(predictions, 3)[0], atol=1e-5)


@pytest.mark.parametrize('iterations', [0, -1, 2.5, True])
def test_iterations_must_be_at_least_1(iterations):
    with pytest.raises(ValueError, match='iterations must be a whole number of at least 1'):
        routing_by_agreement(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), iterations)


def test_gradient_modes_are_named():
    with pytest.raises(ValueError, match="'all' or 'last', not 'first'"):
        routing_by_agreement(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), 3, 'first')
