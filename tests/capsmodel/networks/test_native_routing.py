"""Routing in C++: Procedure 1 and its gradients with each instruction set of this machine."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import native_build, native_library, native_routing
from capsmodel.networks.routing import routing_by_agreement

pytestmark = pytest.mark.skipif(
    bool(native_library.why_not()), reason=f'native routing: {native_library.why_not()}'
)
# n, children, parents, child_dim, dim: the paper's sizes for a small grid, and sizes that are no
# multiples of any vector; more and fewer children than parts.
SHAPES = [(17, 37, 10, 8, 16), (1, 1, 2, 1, 1), (33, 19, 7, 5, 27), (16, 16, 2, 9, 3)]

# Iterations, and whether there is a "none of the above".
OPTIONS = [(1, True), (2, False), (3, True), (4, False)]


@pytest.fixture(params=native_build.INSTRUCTIONS)
def route(request):
    """The raw operation with an instruction set, as a function like `routing_by_agreement`."""

    def route(u, kernel, iterations, gradient='all', none_of_the_above=False, bias=None):
        return native_library.operations().capsnet_routing(
            u,
            kernel,
            tf.zeros(kernel.shape[1::2]) if bias is None else bias,
            iterations=iterations,
            gradient=gradient,
            none_of_the_above=none_of_the_above,
            instructions=request.param,
        )[0]

    try:
        route(tf.ones([1, 1, 1]), tf.ones([1, 1, 1, 1]), 1)
    except tf.errors.InvalidArgumentError:
        pytest.skip(f'this machine has no {request.param}')
    return route


def _case(shape, scale=1.0, seed=7):
    n, children, parents, child_dim, dim = shape
    rng = np.random.default_rng(seed)
    u = np.float32(rng.normal(size=(n, children, child_dim)))
    # Predictions are about 1 long, so that parents are neither all alike nor one of them alone.
    kernel = rng.normal(size=(children, parents, child_dim, dim)) * scale / np.sqrt(child_dim * dim)
    return u, np.float32(kernel), np.float32(rng.normal(size=(n, parents, dim)))


def _bias(shape):
    _, _, parents, _, dim = shape
    return np.float32(np.random.default_rng(8).normal(size=(parents, dim)) / np.sqrt(dim))


def _with_gradients(function, u, kernel, weights, *options, dtype=tf.float32, bias=None):
    bias = np.zeros(kernel.shape[1::2]) if bias is None else bias
    inputs = [tf.cast(x, dtype) for x in (u, kernel, bias)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        v = function(*inputs[:2], *options, bias=inputs[2])
        loss = tf.reduce_sum(tf.cast(weights, dtype) * v)
    return v, *tape.gradient(loss, inputs)


@pytest.mark.parametrize('shape', SHAPES)
def test_routing_is_procedure_1(route, shape):
    u, kernel, _ = _case(shape)
    predictions = np.einsum('nid,ijdk->nijk', u.astype(float), kernel.astype(float))
    for iterations, none_of_the_above in OPTIONS:
        bias = None if iterations == 3 else _bias(shape)
        expected, _ = oracle.route(predictions[-1:], iterations, none_of_the_above, bias)
        v = route(u, kernel, iterations, 'all', none_of_the_above, bias)
        np.testing.assert_allclose(v[-1:], expected, rtol=1e-4, atol=2e-6)
        assert v.shape == (shape[0], shape[2], shape[4])


@pytest.mark.parametrize('gradient', ['all', 'last'])
@pytest.mark.parametrize('shape', SHAPES)
def test_capsules_and_gradients_are_those_of_the_matrix_products(route, shape, gradient):
    case = _case(shape)
    for iterations, none_of_the_above in OPTIONS:
        options = (iterations, gradient, none_of_the_above)
        bias = _bias(shape)
        expected = _with_gradients(
            routing_by_agreement, *case, *options, dtype=tf.float64, bias=bias
        )
        actual = _with_gradients(route, *case, *options, bias=bias)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-5 * np.max(np.abs(e)))


def test_gradient_through_all_iterations_is_the_numerical_one(route):
    shape = (2, 5, 3, 2, 4)
    u, kernel, weights, bias = (np.float64(x) for x in (*_case(shape), _bias(shape)))

    def loss(u, kernel, bias):
        predictions = np.einsum('nid,ijdk->nijk', u, kernel)
        return np.sum(weights * oracle.route(predictions, 3, bias=bias)[0])

    _, du, dkernel, dbias = _with_gradients(route, u, kernel, weights, 3, bias=bias)
    expected = oracle.numerical_gradient(lambda u: loss(u, kernel, bias), u)
    np.testing.assert_allclose(du, expected, rtol=1e-4, atol=1e-5)
    expected = oracle.numerical_gradient(lambda kernel: loss(u, kernel, bias), kernel)
    np.testing.assert_allclose(dkernel, expected, rtol=1e-4, atol=1e-5)
    expected = oracle.numerical_gradient(lambda bias: loss(u, kernel, bias), bias)
    np.testing.assert_allclose(dbias, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('gradient', ['all', 'last'])
def test_routing_of_any_batch_size_in_a_function(gradient):
    u, kernel, weights = _case((17, 9, 3, 4, 5))

    @tf.function(input_signature=[tf.TensorSpec([None, 9, 4])])
    def run(u):
        count = tf.shape(u)[0]
        results = _with_gradients(
            native_routing.native_routing, u, kernel, tf.constant(weights)[:count], 3, gradient
        )
        assert results[0].shape.as_list() == [None, 3, 5]
        return results

    for n in (0, 1, 17):
        actual = run(u[:n])
        assert actual[0].shape == (n, 3, 5)
        assert np.any(actual[2]) == bool(n)
        expected = _with_gradients(routing_by_agreement, u[:n], kernel, weights[:n], 3, gradient)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-5)


def test_results_do_not_depend_on_the_images_beside(route):
    u, kernel, weights = _case((20, 37, 10, 8, 16))
    v, du, *_ = _with_gradients(route, u, kernel, weights, 3)
    for part in (slice(0, 1), slice(3, 20)):
        alone = _with_gradients(route, u[part], kernel, weights[part], 3)
        np.testing.assert_array_equal(alone[0], v[part])
        np.testing.assert_array_equal(alone[1], du[part])


@pytest.mark.parametrize('size', [0.0, 1e-20, 1e9, 1e18])
def test_routing_is_finite_at_extreme_capsules(route, size):
    u, kernel, weights = _case((3, 5, 3, 2, 4))
    results = _with_gradients(route, u * np.float32(size), kernel, weights, 3)
    assert all(np.all(np.isfinite(result)) for result in results)
    assert np.max(np.linalg.norm(results[0], axis=-1)) < 1


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_the_loss_of_its_image_alone(route, bad):
    u, kernel, weights = _case((18, 5, 3, 2, 4))
    expected = _with_gradients(route, u, kernel, weights, 3)
    u[17, 2, 1] = bad
    v, du, dkernel, _ = _with_gradients(route, u, kernel, weights, 3)
    for actual, same in ((v, expected[0]), (du, expected[1])):
        np.testing.assert_array_equal(actual[:17], same[:17])
        assert np.isnan(actual[17]).any()
    assert np.isnan(dkernel).any()
    kernel[2, 1, 0, 3] = bad
    assert np.isnan(route(u, kernel, 3)).any()


def test_other_types_are_those_of_the_matrix_products():
    u, kernel, weights = _case((2, 5, 3, 2, 4))

    def routed(function, dtype=tf.float32):
        return function(tf.cast(u, dtype), tf.cast(kernel, dtype), 2, 'all', True)

    native, matmul = native_routing.native_routing, routing_by_agreement
    assert routed(native, tf.bfloat16).dtype == tf.float32
    np.testing.assert_allclose(routed(native, tf.bfloat16), routed(matmul, tf.bfloat16), atol=1e-5)
    np.testing.assert_array_equal(routed(native, tf.float64), routed(matmul, tf.float64))
    np.testing.assert_array_equal(routed(native_routing.fastest_routing), routed(native))
    low = [tf.cast(x, tf.bfloat16) for x in (u, kernel)]
    assert _with_gradients(native, *low, weights, 3)[1].dtype == tf.float32


def test_bad_options_and_shapes_are_refused():
    route = native_routing.native_routing
    with pytest.raises(ValueError, match='iterations must be a whole number of at least 1'):
        route(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), 0)
    with pytest.raises(ValueError, match="'all' or 'last', not 'first'"):
        route(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), 3, 'first')
    with pytest.raises(tf.errors.InvalidArgumentError, match='compatible with expected shape'):
        route(tf.zeros([1, 4, 3]), tf.zeros([2, 3, 3, 4]), 3)
    raw = native_library.operations().capsnet_routing
    options = {'iterations': 3, 'gradient': 'all', 'none_of_the_above': False}
    with pytest.raises(tf.errors.InvalidArgumentError, match='cannot be routed by weights'):
        raw(tf.zeros([1, 4, 3]), tf.zeros([2, 3, 3, 4]), tf.zeros([3, 4]), **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'bias must have the shape \[3,4\]'):
        raw(tf.zeros([1, 2, 3]), tf.zeros([2, 3, 3, 4]), tf.zeros([4, 3]), **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match='This machine has no sse9'):
        raw(
            tf.zeros([1, 2, 3]),
            tf.zeros([2, 3, 3, 4]),
            tf.zeros([3, 4]),
            instructions='sse9',
            **options,
        )
