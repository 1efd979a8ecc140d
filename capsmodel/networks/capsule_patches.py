"""Which capsules of a map feed which of the next one, as in a convolution without padding."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Patches:
    """Which positions of a map of capsules feed which positions of the next one.

    Attributes:
        size: Rows and columns of the children's map.
        kernel: Rows and columns of children that a position of parents sees; 0: there is one
            position of parents, which sees all.
        stride: Rows and columns of children from one position of parents to the next.
    """

    size: tuple[int, int]
    kernel: int = 0
    stride: int = 1

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns of children that a position of parents sees."""
        return (self.kernel, self.kernel) if self.kernel else self.size

    @property
    def parents(self) -> tuple[int, int]:
        """Rows and columns of the parents' map."""
        (height, width), (down, right) = self.size, self.seen
        return (height - down) // self.stride + 1, (width - right) // self.stride + 1

    def of(self, x: tf.Tensor) -> tf.Tensor:
        """What each position of parents sees.

        Args:
            x: [n, *size, ...].

        Returns:
            [n, positions of parents, positions that each sees, ...].
        """
        (rows, columns), (down, right) = self.parents, self.seen
        height, width = (1 + self.stride * (count - 1) for count in (rows, columns))
        pieces = [
            x[:, y : y + height : self.stride, left : left + width : self.stride]
            for y in range(down)
            for left in range(right)
        ]
        shape = [tf.shape(x)[0], rows * columns, *x.shape[3:]]
        return tf.stack([tf.reshape(piece, shape) for piece in pieces], axis=2)

    @functools.cached_property
    def _children(self) -> np.ndarray:
        """The child's position in each pair: int [positions of parents, positions seen]."""
        (rows, columns), (down, right) = self.parents, self.seen
        y = self.stride * np.arange(rows)[:, None, None, None] + np.arange(down)[:, None]
        x = self.stride * np.arange(columns)[:, None, None] + np.arange(right)
        return (self.size[1] * y + x).reshape(rows * columns, down * right)

    def counts(self) -> np.ndarray:
        """How many positions of parents a child feeds: int [positions of parents, seen]."""
        return np.bincount(self._children.ravel())[self._children]

    def over_parents(self, x: tf.Tensor, reduce: Any, nothing: float) -> tf.Tensor:
        """Reduces over the positions of parents that a child feeds, and gives the result to each.

        Args:
            x: [n, positions of parents, positions seen, ...].
            reduce: Takes a tensor and `axis`, such as tf.reduce_sum.
            nothing: What changes no result of `reduce`, such as 0.

        Returns:
            The shape of `x`.
        """
        if math.prod(self.parents) == 1:
            return x
        table, row_of = self._table
        sizes = x.shape[3:]
        flat = tf.reshape(x, [-1, row_of.size, *sizes])
        flat = tf.pad(flat, [[0, 0], [0, 1], *[[0, 0]] * len(sizes)], constant_values=nothing)
        reduced = reduce(tf.gather(flat, table, axis=1), axis=2)
        return tf.reshape(tf.gather(reduced, row_of, axis=1), [-1, *x.shape[1:]])

    @functools.cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of each child that has any, filled up by a pair too many, and each's row."""
        fed, row_of = np.unique(self._children.ravel(), return_inverse=True)
        table = np.full([len(fed), self.counts().max()], row_of.size)
        filled = np.zeros(len(fed), int)
        for pair, row in enumerate(row_of):
            table[row, filled[row]] = pair
            filled[row] += 1
        return table, row_of
