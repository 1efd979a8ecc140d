"""A function in pieces: the results and gradients of the whole, for any number of images."""

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.pieces import in_pieces


def _function(x, a, b):
    return tf.tanh(x @ a) @ b, tf.reduce_sum(x * x, axis=1)


@pytest.mark.parametrize('graph', [True, False])
@pytest.mark.parametrize('n', [1, 3, 4, 11])
def test_results_and_gradients_are_those_of_the_whole(n, graph):
    rng = np.random.default_rng(0)
    x, a, b = (tf.constant(rng.normal(size=shape)) for shape in ((n, 3), (3, 5), (5, 2)))
    weights = rng.normal(size=(n, 2)), rng.normal(size=n)

    def value_and_gradients(function, x, a, b):
        with tf.GradientTape() as tape:
            tape.watch([x, a, b])
            results = function(x, a, b)
            value = sum(tf.reduce_sum(w * r) for w, r in zip(weights, results, strict=True))
        return [*results, *tape.gradient(value, [x, a, b])]

    def pieces(x, a, b):
        return value_and_gradients(lambda x, *w: in_pieces(_function, x, w, 4), x, a, b)

    if graph:
        unknown = [
            tf.TensorSpec([None, 3], tf.float64),
            *(tf.TensorSpec(w.shape, w.dtype) for w in (a, b)),
        ]
        pieces = tf.function(pieces, input_signature=unknown, autograph=False)
    expected = value_and_gradients(_function, x, a, b)
    for actual, wanted in zip(pieces(x, a, b), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-12)


def test_no_piece_has_more_images_than_it_may():
    sizes = []

    def function(x):
        sizes.append(len(x))
        return (x,)

    (result,) = in_pieces(function, tf.range(10.0), [], 4)
    np.testing.assert_array_equal(result, np.arange(10))
    assert sizes == [4, 4, 2]
