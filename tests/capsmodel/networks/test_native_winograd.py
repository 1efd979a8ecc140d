"""The transforms in C++ against those of TensorFlow, with each instruction set of this machine."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import native_build, native_library, native_winograd, winograd
from capsmodel.networks.layers import PrimaryCaps

pytestmark = pytest.mark.skipif(
    bool(native_library.why_not()), reason=f'native transforms: {native_library.why_not()}'
)
# r, a, s, b, c: the paper's matrices, sizes that are no multiples of anything, more numbers than
# one block, one number and none.
SHAPES = [
    (10, 5, 10, 5, 17),
    (10, 10, 10, 10, 40),
    (6, 10, 6, 10, 1024),
    (13, 4, 23, 2, 2063),
    (1, 11, 3, 1, 1),
    (2, 3, 4, 5, 0),
]


@pytest.fixture(params=native_build.INSTRUCTIONS)
def transform(request):
    """The raw operation with an instruction set."""

    def transform(rows, columns, x, **phases):
        return native_library.operations().capsnet_transform(
            rows, columns, x, instructions=request.param, **phases
        )

    try:
        transform(tf.ones([1, 1]), tf.ones([1, 1]), tf.ones([1, 1, 1]))
    except tf.errors.InvalidArgumentError:
        pytest.skip(f'this machine has no {request.param}')
    return transform


def _case(r, a, s, b, c, seed=3):
    rng = np.random.default_rng(seed)
    shapes = (r, a), (s, b), (a, b, c), (r, s, c)
    return [np.float32(rng.normal(size=shape)) for shape in shapes]


def _with_gradient(function, rows, columns, x, weights):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(rows, columns, x)
    return y, tape.gradient(y, x, output_gradients=weights)


@pytest.mark.parametrize('shape', SHAPES)
def test_transforms_and_gradients_are_those_of_the_matrix_products(transform, shape):
    rows, columns, x, weights = _case(*shape)
    exact = [tf.constant(numbers, tf.float64) for numbers in (x, weights)]
    expected = _with_gradient(winograd.matmul_transform, rows, columns, *exact)
    actual = _with_gradient(transform, rows, columns, tf.constant(x), tf.constant(weights))
    for result, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-4, atol=1e-5)


def _in_phases(x, phases):
    """[i * a + p, j * b + q, c] -> [p, q, i * phases * c + j * c + ...] for phases i and j."""
    height, width, _ = x.shape
    x = x.reshape(phases, height // phases, phases, width // phases, -1)
    return x.transpose(1, 3, 0, 2, 4).reshape(height // phases, width // phases, -1)


@pytest.mark.parametrize(('x_phases', 'y_phases'), [(1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize('shape', [(20, 6, 22, 12, 1100), (2, 6, 4, 6, 0)])
def test_input_and_output_may_lie_in_phases(transform, shape, x_phases, y_phases):
    rows, columns, x, weights = _case(*shape)
    expected = _with_gradient(
        winograd.matmul_transform, rows, columns, tf.constant(x), tf.constant(weights)
    )
    expected = [
        _in_phases(numbers.numpy(), phases)
        for numbers, phases in zip(expected, (y_phases, x_phases), strict=True)
    ]
    actual = _with_gradient(
        functools.partial(transform, x_phases=x_phases, y_phases=y_phases),
        rows,
        columns,
        tf.constant(_in_phases(x, x_phases)),
        tf.constant(_in_phases(weights, y_phases)),
    )
    for result, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('size', 'stride'), [((20, 22), 2), ((9, 30), 1), ((31, 29), 3)])
def test_kernels_are_transformed_as_by_tensorflow(size, stride):
    kernel = tf.constant(np.random.default_rng(0).normal(size=(9, 9, 3, 5)), tf.float32)
    results = []

    def filters_last(*arguments):
        return tf.linalg.matrix_transpose(winograd.transform_kernel(*arguments))

    for transform_kernel in (native_winograd.transform_kernel, filters_last):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            transformed = transform_kernel(kernel, size, stride)
            loss = tf.reduce_sum(transformed**2)
        results.append((transformed, tape.gradient(loss, kernel)))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_gradient_is_the_numerical_one(transform):
    rows, columns, x, weights = _case(3, 2, 4, 3, 2)
    _, gradient = _with_gradient(transform, rows, columns, tf.constant(x), tf.constant(weights))
    # The transform is linear: any step will do.
    units = np.eye(x.size, dtype=np.float32).reshape(-1, *x.shape)
    steps = [np.sum(weights * transform(rows, columns, unit)) for unit in units]
    np.testing.assert_allclose(np.reshape(gradient, -1), steps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_place_of_the_last_axis(transform, bad):
    rows, columns, x, weights = _case(3, 2, 5, 4, 1061)
    places = [0, 7, 1023, 1060]
    others = np.delete(np.arange(1061), places)
    expected = _with_gradient(transform, rows, columns, tf.constant(x), tf.constant(weights))
    for numbers in (x, weights):
        numbers[1, 2, places] = bad
    actual = _with_gradient(transform, rows, columns, tf.constant(x), tf.constant(weights))
    for result, other in zip(actual, expected, strict=True):
        assert not np.isfinite(result.numpy()[..., places]).any()
        np.testing.assert_array_equal(result.numpy()[..., others], other.numpy()[..., others])


def test_transform_of_any_length_in_a_function():
    rows, columns, x, weights = _case(3, 2, 5, 4, 33)
    spec = tf.TensorSpec([2, 4, None]), tf.TensorSpec([3, 5, None])

    @tf.function(input_signature=spec)
    def run(x, weights):
        results = _with_gradient(native_winograd.native_transform, rows, columns, x, weights)
        assert [result.shape.as_list() for result in results] == [[3, 5, None], [2, 4, None]]
        return results

    for c in (0, 1, 33):
        given = x[..., :c], weights[..., :c]
        expected = _with_gradient(
            winograd.matmul_transform, rows, columns, *map(tf.constant, given)
        )
        for result, other in zip(run(*given), expected, strict=True):
            np.testing.assert_allclose(result, other, rtol=1e-4, atol=1e-5)


def test_matrices_have_no_gradient():
    rows, columns, x, _ = map(tf.constant, _case(3, 2, 5, 4, 7))
    with tf.GradientTape() as tape:
        tape.watch([rows, columns])
        y = native_library.operations().capsnet_transform(rows, columns, x)
    assert tape.gradient(y, [rows, columns]) == [None, None]


@pytest.mark.parametrize(
    ('rows', 'columns', 'x'),
    [
        ([3, 2], [3, 4], [3, 4, 5]),
        ([3, 2], [3, 4], [2, 3, 5]),
        ([3, 2], [12], [2, 4, 5]),
        ([3, 2], [3, 4], [2, 20]),
        ([6], [3, 4], [2, 4, 5]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(rows, columns, x):
    with pytest.raises(tf.errors.InvalidArgumentError, match='cannot transform'):
        native_library.operations().capsnet_transform(*map(tf.ones, (rows, columns, x)))


@pytest.mark.parametrize(('x_phases', 'y_phases'), [(2, 1), (1, 3), (3, 1)])
def test_phases_that_do_not_fit_are_refused(x_phases, y_phases):
    matrices = tf.ones([4, 4]), tf.ones([4, 4])
    with pytest.raises(tf.errors.InvalidArgumentError, match='cannot transform'):
        native_library.operations().capsnet_transform(
            *matrices,
            tf.ones([4 // x_phases, 4 // x_phases, 7]),
            x_phases=x_phases,
            y_phases=y_phases,
        )


def test_instructions_that_no_machine_has_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match='This machine has no sse9'):
        native_library.operations().capsnet_transform(
            *map(tf.ones, ([1, 1], [1, 1], [1, 1, 1])), instructions='sse9'
        )


def test_primary_capsules_and_their_gradients_are_those_of_tensorflow_alone():
    shape = (16, 20, 22, 3)
    rng = np.random.default_rng(0)
    layers = [
        PrimaryCaps(channels=2, dim=4, kernel_size=9, strides=2, algorithm=algorithm)
        for algorithm in ('auto', 'winograd')
    ]
    phases = tf.constant(rng.normal(size=[10, 12, 16, 12]), tf.float32)
    assert layers[0].phase_size(shape) == (10, 12)
    weights = rng.normal(size=(16, 6 * 7 * 2, 4))
    results = []
    for layer in layers:
        layer.build(shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            tape.watch(phases)
            capsules = layer.of_phases(phases, shape)
            loss = tf.reduce_sum(weights * tf.cast(capsules, tf.float64))
        results.append([capsules, *tape.gradient(loss, [phases, *layer.trainable_variables])])
    for actual, expected in zip(*results, strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actual / largest, expected / largest, atol=1e-4)

    def operations(layer):
        function = tf.function(lambda: layer.of_phases(phases, shape), autograph=False)
        graph = function.get_concrete_function().graph
        return {operation.type for operation in graph.get_operations()}

    assert ['CapsnetTransform' in operations(layer) for layer in layers] == [True, False]
