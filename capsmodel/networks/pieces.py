"""A part of a network for a few images at a time, in training too: memory for all is not needed."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def in_pieces(
    function: Callable[..., tuple[tf.Tensor, ...]],
    images: tf.Tensor,
    weights: Sequence[tf.Tensor],
    size: int,
) -> tuple[tf.Tensor, ...]:
    """Computes function(images, *weights) for at most `size` images at a time.

    The gradient computes each piece again rather than keep what it needs of all pieces.

    Args:
        function: Its results are tensors whose first axis is that of the images. It may use no
            other variables than `weights`.
        images: [n, ...]; n may be unknown, and must not be 0.
        weights: All that the results depend on besides.
        size: Images of a piece, at least 1.

    Returns:
        The function's results for all images.
    """

    @tf.custom_gradient
    def computed(images: tf.Tensor, *weights: tf.Tensor) -> Any:
        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            def step(begin: tf.Tensor) -> tuple[tf.Tensor, ...]:
                piece = images[begin : begin + size]
                of_results = [each[begin : begin + size] for each in upstream]
                with tf.GradientTape() as tape:
                    tape.watch([piece, *weights])
                    results = function(piece, *weights)
                return tuple(
                    tape.gradient(
                        results,
                        [piece, *weights],
                        of_results,
                        unconnected_gradients=tf.UnconnectedGradients.ZERO,
                    )
                )

            return _loop(step, images, size, joined=1)

        results = _loop(
            lambda begin: function(images[begin : begin + size], *weights), images, size
        )
        return results, gradient

    return computed(images, *weights)


def _loop(
    step: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    images: tf.Tensor,
    size: int,
    joined: int | None = None,
) -> tuple[tf.Tensor, ...]:
    """The results of all pieces: the first `joined` in a row, by default all; the others' sums."""
    first = step(tf.constant(0))
    joined = len(first) if joined is None else joined
    rows = tuple(_array(each).write(0, each) for each in first[:joined])

    def body(number: tf.Tensor, rows: Any, sums: Any) -> Any:
        results = step(number * size)
        rows = tuple(
            array.write(number, each) for array, each in zip(rows, results[:joined], strict=True)
        )
        sums = tuple(a + b for a, b in zip(sums, results[joined:], strict=True))
        return number + 1, rows, sums

    count = -(-tf.shape(images)[0] // size)
    _, rows, sums = tf.while_loop(
        lambda number, *_: number < count,
        body,
        (tf.constant(1), rows, tuple(first[joined:])),
        parallel_iterations=1,
    )
    return (*(array.concat() for array in rows), *sums)


def _array(first: tf.Tensor) -> tf.TensorArray:
    """An array of tensors like this one, whose first axes may have other sizes."""
    shape = [None, *first.shape[1:]]
    return tf.TensorArray(first.dtype, 0, dynamic_size=True, element_shape=shape, infer_shape=False)
