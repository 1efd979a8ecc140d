"""Tests of the convolution by Toom-Cook transforms."""

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import winograd


def _convolution(inputs, kernel, stride):
    """As tf.nn.conv2d defines it: [n, height, width, channels] and [k, k, channels, filters]."""
    size = len(kernel)
    n, height, width, _ = inputs.shape
    rows, columns = ((x - size) // stride + 1 for x in (height, width))
    outputs = np.zeros((n, rows, columns, kernel.shape[-1]))
    for y in range(rows):
        for x in range(columns):
            patch = inputs[:, stride * y : stride * y + size, stride * x : stride * x + size]
            outputs[:, y, x] = np.tensordot(patch, kernel, axes=3)
    return outputs


SHAPES = [
    # size, kernel size, stride
    ((20, 20), 9, 2),  # the paper's: one tile
    ((24, 21), 9, 2),  # two tiles of different use in both directions, and a row left over
    ((8, 7), 3, 2),
    ((12, 13), 5, 3),
    ((7, 11), 3, 1),
    ((5, 6), 1, 2),  # a stride that leaves inputs out
    ((9, 12), 9, 1),  # nothing shared
]


@pytest.mark.parametrize(('size', 'kernel_size', 'stride'), SHAPES)
def test_convolution_and_gradients(size, kernel_size, stride):
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(2, *size, 3)))
    kernel = tf.constant(rng.normal(size=(kernel_size, kernel_size, 3, 4)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([inputs, kernel])
        outputs = winograd.conv2d(inputs, kernel, stride)
        weights = rng.normal(size=outputs.shape)
        loss = tf.reduce_sum(weights * outputs)
        direct = tf.reduce_sum(weights * tf.nn.conv2d(inputs, kernel, stride, 'VALID'))
    expected = _convolution(inputs.numpy(), kernel.numpy(), stride)
    np.testing.assert_allclose(outputs, expected, atol=1e-11)
    gradients = tape.gradient(loss, [inputs, kernel])
    for actual, exact in zip(gradients, tape.gradient(direct, [inputs, kernel]), strict=True):
        np.testing.assert_allclose(actual, exact, atol=1e-10)


def test_float32_is_exact_to_a_few_hundred_thousandths():
    rng = np.random.default_rng(0)
    inputs = np.maximum(0, rng.normal(size=(4, 20, 20, 64)))
    kernel = rng.normal(size=(9, 9, 64, 32))
    weights = rng.normal(size=(4, 6, 6, 32))

    def values(dtype):
        x, k, w = (tf.constant(v, dtype) for v in (inputs, kernel, weights))
        with tf.GradientTape() as tape:
            tape.watch([x, k])
            outputs = winograd.conv2d(x, k, 2)
            loss = tf.reduce_sum(w * outputs)
        return [value.numpy() for value in (outputs, *tape.gradient(loss, [x, k]))]

    for rounded, exact in zip(values(tf.float32), values(tf.float64), strict=True):
        error = np.sqrt(np.mean((rounded - exact) ** 2) / np.mean(exact**2))
        assert error < 3e-5


@pytest.mark.parametrize('jit_compile', [False, True])
def test_any_batch_size_in_a_function(jit_compile):
    kernel = tf.random.stateless_normal([9, 9, 3, 4], [0, 1])
    convolve = tf.function(
        lambda x: winograd.conv2d(x, kernel, 2),
        input_signature=[tf.TensorSpec([None, 20, 20, 3])],
        jit_compile=jit_compile,
    )
    inputs = np.random.default_rng(1).normal(size=(3, 20, 20, 3))
    for n in (0, 1, 3):
        expected = _convolution(inputs[:n], kernel.numpy(), 2)
        np.testing.assert_allclose(convolve(inputs[:n]), expected, atol=5e-3)


def test_gain_counts_multiplications():
    # 6 * 6 outputs of 9 * 9 taps; 10 * 10 points of 2 * 2 phases.
    assert winograd.gain((20, 20), 9, 2) == 36 * 81 / (100 * 4)
    # Two tiles of 4 * 4 outputs with 8 * 8 points in each direction.
    assert winograd.gain((24, 24), 9, 2) == 64 * 81 / (4 * 64 * 4)


def test_kernels_that_are_too_large_are_refused():
    with pytest.raises(
        ValueError, match="up to 10 times the stride, here 20, not 21: use 'conv2d'"
    ):
        winograd.conv2d(tf.zeros([1, 30, 30, 1]), tf.zeros([21, 21, 1, 1]), 2)
    with pytest.raises(ValueError, match='here 10, not 11'):
        winograd.gain((30, 30), 11, 1)
