"""Digits as other viewpoints show them: a set like affNIST, which is not affNIST itself.

affNIST (www.cs.toronto.edu/~tijmen/affNIST) has images of 40x40 pixels, each made from one of
MNIST's by an affine transformation. Its files are not used here: the transformations are drawn
from the same ranges, but they are not the same ones, nor is the interpolation known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from study.sets import draws

SIDE = 40
MOST_DEGREES = 20.0
MOST_SHEAR = 0.2
SCALES = (0.8, 1.2)

# A digit of MNIST fits nearly always: see `affine`.
_ATTEMPTS = 100


class View(NamedTuple):
    """An affine transformation without the place.

    Attributes:
        degrees: By how much it turns, clockwise.
        shear: By how many pixels it moves each row to the right of the row below.
        vertical: By which factor it enlarges heights.
        horizontal: By which factor it enlarges widths.
    """

    degrees: float
    shear: float
    vertical: float
    horizontal: float

    @classmethod
    def drawn(cls, random: np.random.Generator) -> View:
        """Each number is uniform in its range, independent of the others."""
        return cls(
            random.uniform(-MOST_DEGREES, MOST_DEGREES),
            random.uniform(-MOST_SHEAR, MOST_SHEAR),
            random.uniform(*SCALES),
            random.uniform(*SCALES),
        )

    @property
    def matrix(self) -> np.ndarray:
        """float64 [2, 2]: offsets as (row, column) to offsets. It scales, shears and then turns."""
        angle = np.radians(self.degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        scaled = np.diag([self.vertical, self.horizontal])
        sheared = np.array([[1, 0], [-self.shear, 1]])
        turned = np.array([[cosine, sine], [-sine, cosine]])
        return turned @ sheared @ scaled


def affine(
    image: np.ndarray, label: int, identifier: str, settings: Mapping[str, Any]
) -> np.ndarray:
    """Transforms a digit and puts it at a random place of a larger image, where it is not cut.

    The place is uniform among all where each pixel of the digit stays inside, in fractions of
    pixels. If no place is left, the transformation is drawn again.

    Args:
        image: uint8 [height, width], light on black.
        label: Not used.
        identifier: The image's id.
        settings: `seed`.

    Returns:
        uint8 [SIDE, SIDE].

    Raises:
        ValueError: The digit is too large.
    """
    random = draws.generator('affine', settings['seed'], identifier)
    digit = np.stack(np.nonzero(image)).astype(np.float64)
    if not digit.size:
        return np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(_ATTEMPTS):
        matrix = View.drawn(random).matrix
        places = matrix @ digit
        # Interpolation spreads a pixel over less than the distance to its neighbours: the digit may
        # begin as early as the row above the first one.
        spread = np.abs(matrix).sum(axis=1)
        low, high = places.min(axis=1) - spread, places.max(axis=1) + spread
        free = SIDE + 1 - (high - low)
        if np.all(free >= 0):
            return warped(image, matrix, random.uniform(0, 1, 2) * free - low - 1)
    raise ValueError(f'The image {identifier} is too large to be turned in {SIDE}x{SIDE} pixels.')


def warped(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Transforms an image with bilinear interpolation; around it all is black.

    Args:
        image: uint8 [height, width].
        matrix: float [2, 2]. The pixel at p, as (row, column), goes to matrix p + offset.
        offset: float [2].

    Returns:
        uint8 [SIDE, SIDE].
    """
    grid = np.indices((SIDE, SIDE)).reshape(2, -1)
    # In the image with a black ring around it, which what lies further out is clipped to.
    source = np.linalg.inv(matrix) @ (grid - offset[:, np.newaxis]) + 1
    ringed = np.pad(image, 1).astype(np.float64)
    last = np.array(ringed.shape)[:, np.newaxis] - 1
    source = np.clip(source, 0, last)
    row, column = np.minimum(source.astype(int), last - 1)
    below, right = source - (row, column)
    above, left = 1 - below, 1 - right
    levels = above * (left * ringed[row, column] + right * ringed[row, column + 1]) + below * (
        left * ringed[row + 1, column] + right * ringed[row + 1, column + 1]
    )
    return np.rint(levels).astype(np.uint8).reshape(SIDE, SIDE)
