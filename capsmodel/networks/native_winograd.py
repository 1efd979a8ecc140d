"""The transforms of `winograd` as an operation of this project's own, in C++: in training on a CPU.

`native_winograd.cc` has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.networks import winograd
from capsmodel.networks.native_library import operations, why_not


def conv2d_of_phases(
    phases: tf.Tensor, kernel: tf.Tensor, size: tuple[int, int], stride: int
) -> tf.Tensor:
    """`winograd.conv2d_of_phases` of a kernel that is not transformed, with transforms in C++.

    Where the operation cannot be loaded, they are TensorFlow's matrix products; results differ in
    rounding only.

    Args:
        phases: float32, see `winograd.conv2d_of_phases`.
        kernel: float32 [kernel_size, kernel_size, channels, filters].
        size: rows and columns of the input.
        stride: of the convolution.

    Returns:
        float32 [n, rows, columns, filters].
    """
    kernel_size = kernel.shape[0]
    if why_not():
        transformed = winograd.transform_kernel(kernel, size, stride)
        return winograd.conv2d_of_phases(phases, transformed, size, kernel_size, stride)
    transformed = transform_kernel(kernel, size, stride)
    return winograd.conv2d_of_phases(
        phases, transformed, size, kernel_size, stride, native_transform, multiply=tf.matmul
    )


def transform_kernel(kernel: tf.Tensor, size: tuple[int, int], stride: int) -> tf.Tensor:
    """`winograd.transform_kernel` in one pass over memory, with the filters in the last axis.

    So it is the second factor of `tf.matmul`: in training, what `winograd.kernel_first` gains is
    lost again in the product that makes its gradient. Results differ in rounding only.

    The operation takes the phases out of the kernel as it reads it: its matrices have the points of
    all phases, and zeros for the taps of others.
    """
    kernel_size, _, channels, filters = kernel.shape
    matrices = [
        tf.constant(matrix, tf.float32)
        for matrix in winograd.kernel_matrices(size, kernel_size, stride)
    ]
    x = tf.reshape(kernel, [kernel_size, kernel_size, channels * filters])
    y = operations().capsnet_transform(*matrices, x, y_phases=stride)
    return tf.reshape(y, [*y.shape[:2], stride * stride * channels, filters])


def native_transform(rows: np.ndarray, columns: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """`winograd.matmul_transform` in one pass over memory; results differ in rounding only.

    They do not depend on the number of threads. XLA does not know it.

    Args:
        rows: [r, a].
        columns: [s, b].
        x: float32 [a, b, c]; c may be unknown or 0.

    Returns:
        float32 [r, s, c].

    Raises:
        RuntimeError: The operation is not compiled, see `native_library.why_not`.
    """
    matrices = (tf.constant(matrix, tf.float32) for matrix in (rows, columns))
    return operations().capsnet_transform(*matrices, x)


@tf.RegisterGradient('CapsnetTransform')
def _gradient(operation: Any, dy: tf.Tensor) -> Any:
    rows, columns, _ = operation.inputs
    dx = operations().capsnet_transform(
        tf.transpose(rows),
        tf.transpose(columns),
        dy,
        x_phases=operation.get_attr('y_phases'),
        y_phases=operation.get_attr('x_phases'),
        instructions=operation.get_attr('instructions'),
    )
    return None, None, dx  # the matrices are constants
