"""Distances that TFDV computes, against a few lines of numpy."""

import numpy as np
import pytest

from components.drift import distances, quantities


def _sets(number, labels):
    """Quantities with the same numbers everywhere, and these labels."""
    numbers = {name: np.array(number, float) for name in quantities.NUMERIC}
    return {**numbers, 'label': np.asarray(labels), 'known': np.full(len(labels), 'yes')}


def _jensen_shannon(p, q):
    middle = (p + q) / 2

    def divergence(each):
        there = each > 0
        return np.sum(each[there] * np.log2(each[there] / middle[there]))

    return (divergence(p) + divergence(q)) / 2


@pytest.mark.parametrize('shift', [0.0, 0.3, 1.5, 20.0])
def test_a_number_has_the_jensen_shannon_divergence_over_tenths_of_the_reference(shift):
    random = np.random.default_rng(1)
    before, after = random.normal(0, 1, 1000), random.normal(shift, 1, 300)
    limits = [-np.inf, *np.quantile(before, np.arange(11) / 10), np.inf]
    limits[-2] += 1e-9
    p, q = (np.histogram(each, limits)[0] / len(each) for each in (before, after))
    found = distances.compare(_sets(before, ['a'] * 1000), _sets(after, ['a'] * 300))
    assert found['score'].kind == distances.JENSEN_SHANNON
    assert found['score'].value == pytest.approx(_jensen_shannon(p, q), abs=1e-9)
    assert found['score'].before == pytest.approx(before.mean())
    assert found['score'].after == pytest.approx(after.mean())
    assert found['score'].moved == (shift > 0.3)


def test_a_category_has_the_largest_difference_of_shares_and_names_what_moved_most():
    before, after = ['a'] * 500 + ['b'] * 500, ['a'] * 100 + ['b'] * 50 + ['c'] * 50
    found = distances.compare(_sets([0.5] * 1000, before), _sets([0.5] * 200, after))
    assert found['label'].kind == distances.L_INFINITY
    assert found['label'].value == pytest.approx(0.25)
    # b went from a half to a quarter, and so did c from nothing.
    assert (found['label'].category, found['label'].before, found['label'].after) == (
        'b', 0.5, 0.25,
    )  # fmt: skip
    assert found['label'].moved
    assert found['known'].value == 0


def test_the_same_is_at_0_and_what_has_nothing_in_common_at_1():
    one, other = _sets(np.arange(200.0), ['a'] * 200), _sets(np.arange(200.0) + 500, ['b'] * 200)
    assert {name: each.value for name, each in distances.compare(one, one).items()} == (
        dict.fromkeys(quantities.NAMES, 0.0)
    )
    found = distances.compare(one, other)
    assert found['brightness'].value == pytest.approx(1)
    assert found['label'].value == pytest.approx(1)


def test_numbers_of_which_many_are_equal_have_fewer_bins():
    before = np.array([0.0] * 900 + [1.0] * 100)
    limits = distances.edges(before)
    assert distances.shares(before, limits).sum() == 1000
    # Below, 0, 1, above.
    assert distances.shares(np.array([-1.0, 0, 0, 1, 2, 2, 2]), limits).tolist() == [1, 2, 1, 3]


def test_what_few_images_have_is_left_out():
    one, other = _sets(np.arange(200.0), ['a'] * 200), _sets(np.arange(200.0), ['a'] * 200)
    other['ink'][:101] = np.nan
    other['label'][:101] = ''
    assert quantities.NAMES.keys() - distances.compare(one, other).keys() == {'ink', 'label'}
    other['margin'][:100] = np.nan
    assert distances.compare(one, other)['margin'].images == 100
    few = {name: values[:99] for name, values in one.items()}
    assert distances.compare(one, few) == {}
