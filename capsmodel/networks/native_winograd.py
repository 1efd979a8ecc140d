"""The transforms of `winograd` as an operation of this project's own, in C++.

`native_winograd.cc` has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.networks.native_library import operations, why_not
from capsmodel.networks.winograd import matmul_transform


def fastest_transform(rows: np.ndarray, columns: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """`native_transform` where it can be loaded, else `matmul_transform`: for float32 on a CPU."""
    return (matmul_transform if why_not() else native_transform)(rows, columns, x)


def native_transform(rows: np.ndarray, columns: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """`matmul_transform` in one pass over memory; results differ in rounding only.

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
    instructions = operation.get_attr('instructions')
    transposed = tf.transpose(rows), tf.transpose(columns)
    # The matrices are constants.
    return None, None, operations().capsnet_transform(*transposed, dy, instructions=instructions)
