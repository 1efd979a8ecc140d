"""A first convolution whose outputs lie as `winograd.conv2d_of_phases` reads them, for the CPU.

The outputs of the first convolution are the largest tensor of a training step. Here they come out
of one matrix product in the order in which the next convolution, with stride s, transforms them,
so that nobody brings them into another order, forward or backward. A row of the product makes all
s x s outputs that lie together: it reads k + s - 1 rows and columns of pixels for kernels of k x k.
That is 1.23 times the multiplications for k = 9 and s = 2, but the patches of pixels are 3.2 times
fewer numbers.
"""

from typing import Any

import numpy as np
import tensorflow as tf


def first_convolution(
    pixels: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, stride: int, size: tuple[int, int]
) -> tf.Tensor:
    """relu(conv2d(pixels, kernel, stride 1) + bias), ordered for a convolution with a stride.

    The pixels get no gradient.

    Args:
        pixels: float32 [n, height, width, channels], n known; zeros are read beyond their ends.
        kernel: float32 [kernel_size, kernel_size, channels, filters].
        bias: float32 [filters].
        stride: of the next convolution.
        size: rows and columns of each phase of the outputs, see `winograd.phase_size`.

    Returns:
        float32 [rows, columns, n, stride * stride * filters]. The last axis holds the outputs at
        (stride * row + i, stride * column + j) for all i, and all j for each i.
    """
    kernel_size, _, channels, filters = kernel.shape
    side = kernel_size + stride - 1
    reach = [stride * (length - 1) + side for length in size]
    rows = tf.transpose(pixels, [1, 2, 3, 0])[: reach[0], : reach[1]]
    missing = [length - have for length, have in zip(reach, rows.shape[:2], strict=True)]
    rows = tf.pad(rows, [[0, missing[0]], [0, missing[1]], [0, 0], [0, 0]])
    rows = tf.reshape(rows, [reach[0] * reach[1] * channels, -1])
    # Behind the pixels there is a row of ones, whose products are the gradient of the bias.
    ones_and_rows = tf.concat([rows, tf.ones_like(rows[:1])], axis=0)
    places = _places(side, stride, size, reach[1], channels)
    patches_and_ones = tf.reshape(tf.gather(ones_and_rows, places), [len(places), -1])
    patches = patches_and_ones[:-1]

    moved = [
        tf.pad(kernel, [[i, stride - 1 - i], [j, stride - 1 - j], [0, 0], [0, 0]])
        for i in range(stride)
        for j in range(stride)
    ]
    weights = tf.reshape(tf.stack(moved, axis=3), [side * side * channels, -1])

    @tf.custom_gradient
    def convolve(weights: tf.Tensor, biases: tf.Tensor) -> Any:
        # TensorFlow makes one operation of these three.
        product = tf.matmul(patches, weights, transpose_a=True)
        outputs = tf.nn.relu(tf.nn.bias_add(product, biases))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            before = tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
            of_both = tf.matmul(patches_and_ones, before)
            return of_both[:-1], of_both[-1]

        return outputs, gradient

    outputs = convolve(weights, tf.tile(bias, [stride * stride]))
    return tf.reshape(outputs, [*size, -1, stride * stride * filters])


def _places(side: int, stride: int, size: tuple[int, int], width: int, channels: int) -> np.ndarray:
    """Which pixel each number of each patch is, and last the row of ones, for every patch.

    Returns:
        int32 [side * side * channels + 1, rows * columns].
    """
    y, x = (stride * np.arange(length) for length in size)
    patches = (y[:, np.newaxis] * width + x).reshape(-1) * channels
    i, j = np.indices([side, side])
    numbers = (((i * width + j) * channels)[..., np.newaxis] + np.arange(channels)).reshape(-1)
    ones = (stride * (size[0] - 1) + side) * width * channels
    places = numbers[:, np.newaxis] + patches
    return np.concatenate([places, np.full_like(places[:1], ones)]).astype(np.int32)
