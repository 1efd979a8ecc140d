"""Tests of the Toom-Cook matrices in exact arithmetic."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from capsmodel.networks.toom_cook import toom_cook


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.data())
def test_matrices_are_exact(points_and_taps, data):
    points, taps = points_and_taps
    outputs = points + 1 - taps
    numbers = st.fractions(-5, 5, max_denominator=9)
    g = data.draw(st.lists(numbers, min_size=taps, max_size=taps))
    d = data.draw(st.lists(numbers, min_size=points, max_size=points))
    matrix_a, matrix_g, matrix_b = (np.array(x, object) for x in toom_cook(outputs, taps))
    y = matrix_a.T @ ((matrix_g @ g) * (matrix_b.T @ d))
    assert all(isinstance(value, Fraction) for value in y)
    assert list(y) == [sum(g[k] * d[i + k] for k in range(taps)) for i in range(outputs)]


def test_matrices_worked_by_hand():
    # One output, two taps, at 0 and infinity: y = g_0 d_0 + g_1 d_1, nothing is to be saved.
    a, g, b = toom_cook(1, 2)
    np.testing.assert_array_equal(a, [[1], [1]])
    np.testing.assert_array_equal(g, np.eye(2))
    np.testing.assert_array_equal(b, np.eye(2))
