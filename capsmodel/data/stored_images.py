"""Images in a file: as many as the disk holds, read like an array."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

# What is read or written at a time, in bytes.
PIECE = 2**24


class StoredImages:
    """Images of one shape in a temporary file, row after row.

    `images[rows]` reads them as it does with an array, where `rows` is a slice or an array of
    numbers. The file has no name: it is gone with the process, however that ends.

    Args:
        count: The number of images.
        image_shape: The shape of each image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, image_shape: Sequence[int]) -> None:
        self.shape = (count, *image_shape)
        self._size = math.prod(image_shape)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this object)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        numbers = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows.tolist()
        # Not through a map of the file: whatever is read through it counts as the process's memory.
        read = [os.pread(self._file.fileno(), self._size, row * self._size) for row in numbers]
        return np.frombuffer(b''.join(read), self.dtype).reshape(-1, *self.shape[1:])

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Reads images in a graph.

        A tensor that TensorFlow maps from a file (ImmutableConst) would be copied whole.

        Args:
            rows: integers [n], n known.

        Returns:
            uint8 [n, *image_shape].
        """
        images = tf.numpy_function(self.__getitem__, [rows], tf.uint8, stateful=False)
        return tf.ensure_shape(images, [rows.shape[0], *self.shape[1:]])

    def write(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Writes some of the images. All must be written before one is read.

        Args:
            rows: integers [n], the places of the images.
            images: uint8 [n, *image_shape].

        Raises:
            OSError: There is no space left for them.
        """
        for row, image in zip(rows.tolist(), images, strict=True):
            self._file.seek(row * self._size)
            self._file.write(image.tobytes())
        self._file.flush()


def pieces(array: np.ndarray | StoredImages) -> Iterator[np.ndarray]:
    """The rows of an array in order, some at a time: at most PIECE bytes, or one row."""
    rows = rows_in_piece(array.dtype.itemsize * math.prod(array.shape[1:]))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def rows_in_piece(row_bytes: int) -> int:
    """The number of rows that are read or written at a time, if each has `row_bytes` bytes."""
    return max(1, PIECE // max(1, row_bytes))
