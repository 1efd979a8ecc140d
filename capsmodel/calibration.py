"""How well the highest score of a network tells how often it is right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BINS = 15


class Reliability(NamedTuple):
    """Images by their highest score, in BINS equal parts of 0 to 1; sums of two are a sum of both.

    Attributes:
        images: int64 [BINS], how many there are.
        scores: float64 [BINS], the sum of their highest scores.
        hits: int64 [BINS], how many of them have the highest score for their label.
    """

    images: np.ndarray
    scores: np.ndarray
    hits: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> Reliability:
        """Counts images.

        Args:
            labels: integers [n].
            scores: float [n, classes], 0 to 1.
        """
        highest = np.nan_to_num(scores.max(axis=1))
        bins = np.clip(np.ceil(highest * BINS).astype(int) - 1, 0, BINS - 1)
        hits = bins[scores.argmax(axis=1) == labels]
        return cls(
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, highest, minlength=BINS),
            np.bincount(hits, minlength=BINS),
        )

    @property
    def expected_error(self) -> float:
        """The expected calibration error; NaN if there are no images.

        It is the mean over the images of |accuracy - mean highest score| of their bin
        (Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, Eq. 5).
        """
        count = self.images.sum()
        return float(np.abs(self.hits - self.scores).sum() / count) if count else float('nan')
