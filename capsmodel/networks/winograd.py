"""Strided convolutions by Toom-Cook (Winograd) transforms: fewer multiplications, for the CPU.

A convolution with stride s is the sum of s^2 convolutions with stride 1, one for each phase
(y mod s, x mod s): the rows and columns of a phase of the input meet only those of the same phase
of the kernel. A 9x9 kernel with stride 2 has four phases with at most 5x5 taps. Along an axis, m
outputs of such a convolution need m + taps - 1 multiplications instead of m * taps (see
`toom_cook`). In two dimensions the gain is squared: for a map of 6x6 outputs, 100 products for each
phase instead of 900. The products of all channels, phases and images are matrix products, one for
each pair of points:

    Y = A^T [(G g G^T) . (B^T d B)] A        (Lavin, Gray 2016, Eq. 8)
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from capsmodel.networks.toom_cook import MOST_POINTS, toom_cook

# With more taps in a phase, a tile would have no output.
_MOST_TAPS = MOST_POINTS
# Such as `matmul_transform` and `kernel_first`.
Transform = Callable[[np.ndarray, np.ndarray, tf.Tensor], tf.Tensor]
Multiply = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """How one axis is cut into tiles of equal numbers of outputs.

    Attributes:
        stride: of the convolution; also the number of phases.
        outputs: of the convolution without padding.
        tiles: number of tiles.
        tile: outputs of a tile.
        taps: of the longest phase.
    """

    stride: int
    outputs: int
    tiles: int
    tile: int
    taps: int

    @classmethod
    def of(cls, size: int, kernel_size: int, stride: int) -> '_Axis':
        outputs = (size - kernel_size) // stride + 1
        taps = -(-kernel_size // stride)
        tiles = -(-outputs // (_MOST_TAPS + 1 - taps))
        return cls(stride, outputs, tiles, -(-outputs // tiles), taps)

    @property
    def points(self) -> int:
        return self.tile + self.taps - 1

    @property
    def phase_size(self) -> int:
        """Rows, or columns, of a phase of the input."""
        return self.tiles * self.tile + self.taps - 1

    @functools.cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A^T [outputs, points * tiles], G [points, taps], B^T [points * tiles, phase_size].

        Points are the outer order and tiles the inner one.
        """
        a, g, b = (np.array(x, np.float64) for x in toom_cook(self.tile, self.taps))
        all_a = np.zeros([self.points, self.tiles, self.tiles * self.tile])
        all_b = np.zeros([self.points, self.tiles, self.phase_size])
        for number in range(self.tiles):
            start = number * self.tile
            all_a[:, number, start : start + self.tile] = a
            all_b[:, number, start : start + self.points] = b.T
        all_a = all_a[..., : self.outputs].reshape(-1, self.outputs)
        return all_a.T, g, all_b.reshape(-1, self.phase_size)


def check_kernel_size(kernel_size: int, stride: int) -> None:
    """Raises ValueError if a phase of the kernel has more taps than there are points."""
    if kernel_size > _MOST_TAPS * stride:
        raise ValueError(
            f"'winograd' takes kernels of up to {_MOST_TAPS} times the stride, here "
            f"{_MOST_TAPS * stride}, not {kernel_size}: use 'conv2d'"
        )


def gain(size: tuple[int, int], kernel_size: int, stride: int) -> float:
    """How many times fewer multiplications `conv2d` makes than a direct convolution.

    Args:
        size: rows and columns of the input.
        kernel_size: rows, and columns, of the kernel.
        stride: of the convolution.

    Raises:
        ValueError: see `check_kernel_size`.
    """
    check_kernel_size(kernel_size, stride)
    axes = [_Axis.of(x, kernel_size, stride) for x in size]
    direct = math.prod(axis.outputs * kernel_size for axis in axes)
    return direct / products(size, kernel_size, stride)


def products(size: tuple[int, int], kernel_size: int, stride: int) -> int:
    """Multiplications of `conv2d` for each image, channel and filter; arguments as for `gain`."""
    axes = [_Axis.of(x, kernel_size, stride) for x in size]
    return math.prod(axis.tiles * axis.points * stride for axis in axes)


def matmul_transform(rows: np.ndarray, columns: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """rows @ x @ columns^T for each of the last axis: [a, b, c] -> [len(rows), len(columns), c]."""
    height = x.shape[0]
    # One matrix for each row: the gradient of a broadcast matrix would need a sum.
    columns = np.broadcast_to(columns, [height, *columns.shape])
    x = tf.matmul(tf.constant(columns, x.dtype), x)
    x = tf.matmul(tf.constant(rows, x.dtype), tf.reshape(x, [height, -1]))
    return tf.reshape(x, [len(rows), columns.shape[1], -1])


def kernel_first(d: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """d @ transformed^T of each point: [..., tiles * n, depth] -> [..., tiles * n, filters].

    The kernel is the first factor, since oneDNN copies the second one into another order, and for
    few images the kernel has more numbers than `d`.

    Args:
        d: the transformed inputs.
        transformed: a kernel from `transform_kernel`.
    """
    return tf.linalg.matrix_transpose(tf.matmul(transformed, d, transpose_b=True))


def conv2d(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Computes tf.nn.conv2d(inputs, kernel, stride, 'VALID'), up to rounding.

    Args:
        inputs: float32 or float64 [n, height, width, channels]; n may be unknown or 0.
        kernel: of the same type, [kernel_size, kernel_size, channels, filters].
        stride: in both directions.

    Returns:
        [n, rows, columns, filters], of the same type.

    Raises:
        ValueError: see `check_kernel_size`.
    """
    _, height, width, _ = inputs.shape
    transformed = transform_kernel(kernel, (height, width), stride)
    return conv2d_with(inputs, transformed, kernel.shape[0], stride)


def kernel_matrices(
    size: tuple[int, int], kernel_size: int, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """The matrices that transform a whole kernel, phases and all; arguments as for `gain`.

    Returns:
        For the rows and for the columns, float64 [stride * points, kernel_size]: phases are the
        outer order of the first axis, and each has zeros for the taps of the others.
    """
    matrices = []
    for length in size:
        _, g, _ = _Axis.of(length, kernel_size, stride).matrices
        of_phases = np.zeros([stride, len(g), kernel_size])
        for phase in range(stride):
            taps = len(range(phase, kernel_size, stride))
            of_phases[phase, :, phase::stride] = g[:, :taps]
        matrices.append(of_phases.reshape(-1, kernel_size))
    return matrices[0], matrices[1]


def transform_kernel(kernel: tf.Tensor, size: tuple[int, int], stride: int) -> tf.Tensor:
    """The transform of a kernel, G g G^T, which `conv2d_with` takes.

    Args:
        kernel: float32 or float64 [kernel_size, kernel_size, channels, filters].
        size: rows and columns of the convolution's input.
        stride: of the convolution.

    Returns:
        [points of rows, points of columns, filters, stride * stride * channels], of the same type.

    Raises:
        ValueError: see `check_kernel_size`.
    """
    kernel_size, _, channels, filters = kernel.shape
    check_kernel_size(kernel_size, stride)
    y, x = (_Axis.of(length, kernel_size, stride) for length in size)
    (_, g_y, _), (_, g_x, _) = y.matrices, x.matrices
    depth = stride * stride * channels
    g = _fit(kernel, [stride * y.taps, stride * x.taps, None, None])
    g = tf.reshape(g, [y.taps, stride, x.taps, stride, channels, filters])
    g = tf.reshape(tf.transpose(g, [0, 2, 5, 1, 3, 4]), [y.taps, x.taps, filters * depth])
    return tf.reshape(matmul_transform(g_y, g_x, g), [y.points, x.points, filters, depth])


def conv2d_with(
    inputs: tf.Tensor, transformed: tf.Tensor, kernel_size: int, stride: int
) -> tf.Tensor:
    """`conv2d` with a kernel of this size that `transform_kernel` has transformed already."""
    _, height, width, channels = inputs.shape
    rows, columns = phase_size((height, width), kernel_size, stride)
    inputs = _fit(inputs, [None, stride * rows, stride * columns, None])
    n = tf.shape(inputs)[0]
    phases = tf.reshape(inputs, [n, rows, stride, columns, stride * channels])
    phases = tf.transpose(phases, [1, 3, 0, 2, 4])
    phases = tf.reshape(phases, [rows, columns, n, stride * stride * channels])
    return conv2d_of_phases(phases, transformed, (height, width), kernel_size, stride)


def phase_size(size: tuple[int, int], kernel_size: int, stride: int) -> tuple[int, int]:
    """Rows and columns of each phase of the input; arguments as for `gain`."""
    rows, columns = (_Axis.of(length, kernel_size, stride).phase_size for length in size)
    return rows, columns


def conv2d_of_phases(
    phases: tf.Tensor,
    transformed: tf.Tensor,
    size: tuple[int, int],
    kernel_size: int,
    stride: int,
    transform: Transform = matmul_transform,
    multiply: Multiply = kernel_first,
) -> tf.Tensor:
    """`conv2d_with` for inputs that lie in the order of their phases.

    Args:
        phases: [rows, columns, n, stride * stride * channels], with rows and columns of
            `phase_size`. The last axis holds the input at (stride * row + i, stride * column + j)
            for all i, and all j for each i. What lies beyond `size` may be any numbers.
        transformed: a transformed kernel, as `multiply` takes it.
        size: rows and columns of the input.
        kernel_size: rows, and columns, of the kernel.
        stride: of the convolution.
        transform: Computes what `matmul_transform` does.
        multiply: Computes what `kernel_first` does.

    Returns:
        [n, rows, columns, filters], of the same type.
    """
    depth = phases.shape[-1]
    y, x = (_Axis.of(length, kernel_size, stride) for length in size)
    (a_y, _, b_y), (a_x, _, b_x) = y.matrices, x.matrices
    d = transform(b_y, b_x, tf.reshape(phases, [y.phase_size, x.phase_size, -1]))
    # Tiles are more images: [points, points, tiles * n, phases * channels]
    d = tf.reshape(d, [y.points, y.tiles, x.points, x.tiles, -1, depth])
    d = tf.transpose(d, [0, 2, 1, 3, 4, 5])
    d = tf.reshape(d, [y.points, x.points, -1, depth])

    products = multiply(d, transformed)
    filters = products.shape[-1]
    products = tf.reshape(products, [y.points, x.points, y.tiles, x.tiles, -1, filters])
    products = tf.transpose(products, [0, 2, 1, 3, 4, 5])
    products = tf.reshape(products, [y.points * y.tiles, x.points * x.tiles, -1])
    outputs = tf.reshape(transform(a_y, a_x, products), [y.outputs, x.outputs, -1, filters])
    return tf.transpose(outputs, [2, 0, 1, 3])


def _fit(x: tf.Tensor, sizes: list[int | None]) -> tf.Tensor:
    """Cuts off or pads with zeros the end of each axis, unless its size is None."""
    if any(size is not None and size < have for size, have in zip(sizes, x.shape, strict=True)):
        x = x[tuple(slice(size) for size in sizes)]
    missing = [size and size - have for size, have in zip(sizes, x.shape, strict=True)]
    return tf.pad(x, [[0, count or 0] for count in missing]) if any(missing) else x
