"""Intervals and tests of the study, against scipy's own and against values from tables."""

import math

import pytest
from scipy import stats

from study import statistics


def test_an_interval_is_students():
    estimate = statistics.mean([1.0, 2.0, 3.0, 4.0, 5.0])
    # Table of Student's t: 2.776 for 4 degrees of freedom at 95%; s / sqrt(n) is 0.7071.
    assert estimate.mean == 3
    assert estimate.low == pytest.approx(3 - 2.776 * 0.7071, abs=1e-3)
    assert estimate.high == pytest.approx(3 + 2.776 * 0.7071, abs=1e-3)
    assert estimate.n == 5
    assert estimate.text(2) == '3.00 (1.04 to 4.96)'


def test_a_single_value_has_no_interval():
    estimate = statistics.mean([1.5])
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert estimate.text(2) == '1.50'


@pytest.mark.parametrize(
    ('values', 'low', 'high'),
    [
        ([0.1, 0.1, 10.0], 0.0, 17.60),
        ([99.0, 99.8, 100.0], 98.29, 100.0),
        ([50.0, 51.0], 44.15, 56.85),
    ],
)
def test_an_interval_of_percentages_ends_at_0_and_100(values, low, high):
    estimate = statistics.percentage(values)
    assert estimate.mean == pytest.approx(sum(values) / len(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.01)
    assert math.isnan(statistics.percentage(values[:1]).low)


def test_a_difference_is_paired_by_seed():
    first, second = {1: 1.0, 2: 2.0, 3: 3.1, 9: 50.0}, {3: 3.6, 2: 2.6, 1: 1.4, 4: -50.0}
    found = statistics.difference(first, second)
    assert found.estimate.mean == pytest.approx(-0.5)
    assert found.estimate.n == 3
    expected = stats.ttest_rel([1.0, 2.0, 3.1], [1.4, 2.6, 3.6])
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ('first', 'second', 'p'),
    [({1: 1.0}, {1: 2.0}, 1.0), ({1: 1.0, 2: 3.0}, {1: 1.0, 2: 3.0}, 1.0),
     ({1: 1.0, 2: 3.0}, {1: 2.0, 2: 4.0}, 1.0),
     ({1: 1.07, 2: 1.03, 3: 0.99}, {1: 1.06, 2: 1.02, 3: 0.98}, 1.0)],
)  # fmt: skip
def test_what_has_no_spread_cannot_be_tested(first, second, p):
    assert statistics.difference(first, second).p == p


def test_the_interval_of_equal_values_has_no_width_and_is_left_out():
    assert statistics.mean([1.06, 1.06]).text(2) == '1.06'


def test_seeds_that_are_not_shared_are_refused():
    with pytest.raises(ValueError, match='no seed that both'):
        statistics.difference({1: 1.0}, {2: 1.0})


def test_several_tests_are_corrected():
    # The example of Holm's procedure: ordered p-values times 4, 3, 2 and 1, never falling.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []
