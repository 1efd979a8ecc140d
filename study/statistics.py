"""Intervals of means, and tests of differences between networks that share their seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean with its confidence interval.

    Attributes:
        mean: Of the values.
        low: The lower end of the interval; NaN for a single value.
        high: The upper end; NaN for a single value.
        n: How many values there are.
    """

    mean: float
    low: float
    high: float
    n: int

    def text(self, decimals: int) -> str:
        """As in '1.02 (0.99 to 1.05)'; without an interval if all values are equal."""
        mean, low, high = (f'{value:.{decimals}f}' for value in self[:3])
        return f'{mean} ({low} to {high})' if self.low < self.high else mean


class Difference(NamedTuple):
    """How much larger the values of one are than those of another, over the seeds of both.

    Attributes:
        estimate: Of the differences.
        p: Two-sided, of no difference; 1 where that cannot be tested: by a single seed, or by
            seeds that all differ by the same.
    """

    estimate: Estimate
    p: float


def mean(values: Collection[float]) -> Estimate:
    """The mean of one or more values, with Student's interval at LEVEL.

    The interval is that of Student 1908, "The probable error of a mean": the mean plus and minus
    t s / sqrt(n), with n - 1 degrees of freedom.
    """
    array = np.fromiter(values, np.float64)
    middle = float(array.mean())
    if len(array) < 2:
        return Estimate(middle, math.nan, math.nan, len(array))
    half = stats.t.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(middle, middle - float(half), middle + float(half), len(array))


def percentage(values: Collection[float]) -> Estimate:
    """The `mean` of percentages; where Student's interval goes past 0 or 100, it is cut there."""
    estimate = mean(values)
    low, high = np.clip((estimate.low, estimate.high), 0.0, 100.0)
    return estimate._replace(low=float(low), high=float(high))


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """`first` minus `second`, paired by seed, with Student's paired test.

    Args:
        first: Values by seed.
        second: Values by seed, of the same seeds or others; seeds without a partner are left out.

    Raises:
        ValueError: They share no seed.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError('there is no seed that both were trained with')
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    estimate = mean(differences.tolist())
    # Errors are shares of whole images: what is less than this comes from rounding.
    if np.ptp(differences) < 1e-9:
        return Difference(estimate, 1.0)
    return Difference(estimate, float(stats.ttest_1samp(differences, 0.0).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that all of them together err in 1 - LEVEL.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the k-th smallest of m is
    multiplied by m - k + 1, and none is below one that was smaller.
    """
    order = np.argsort(p_values, kind='stable')
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
