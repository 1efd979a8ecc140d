"""The expected calibration error and the diagram of it."""

import math

import numpy as np
import pytest

from capsmodel.calibration import BINS, Reliability
from capsmodel.summaries import reliability


def _scores(highest, classes=3):
    """The given scores for class 0, and 0 for the others."""
    return np.pad(np.array(highest, np.float32)[:, np.newaxis], ((0, 0), (0, classes - 1)))


def test_expected_error_is_that_of_guo_et_al():
    rng = np.random.default_rng(0)
    scores, labels = rng.uniform(size=(500, 4)), rng.integers(0, 4, 500)
    highest, hit = scores.max(axis=1), scores.argmax(axis=1) == labels
    expected = 0.0
    for number in range(BINS):
        inside = (highest > number / BINS) & (highest <= (number + 1) / BINS)
        if inside.any():
            gap = abs(hit[inside].mean() - highest[inside].mean())
            expected += inside.sum() / 500 * gap
    assert Reliability.of(labels, scores).expected_error == pytest.approx(expected)


def test_a_network_that_is_right_as_often_as_it_says_has_no_error():
    labels = np.array([0, 0, 0, 1])
    assert Reliability.of(labels, _scores([0.75] * 4)).expected_error == pytest.approx(0)
    assert Reliability.of(labels, _scores([0.95] * 4)).expected_error == pytest.approx(0.2)


def test_scores_at_the_ends_have_a_bin():
    counted = Reliability.of(np.array([0, 0]), _scores([0.0, 1.0]))
    assert counted.images.tolist() == [1, *[0] * (BINS - 2), 1]
    assert counted.hits.tolist() == counted.images.tolist()


def test_counts_of_parts_add_up():
    labels, scores = np.array([0, 1, 0, 2]), _scores([0.3, 0.9, 0.5, 0.2])
    parts = [Reliability.of(labels[part], scores[part]) for part in (slice(1), slice(1, 4))]
    added = Reliability(*(a + b for a, b in zip(*parts, strict=True)))
    assert added.expected_error == Reliability.of(labels, scores).expected_error


def test_without_images_there_is_no_error_and_nan_is_no_exception():
    assert math.isnan(Reliability.of(np.zeros(0, int), np.zeros((0, 3))).expected_error)
    Reliability.of(np.array([0]), np.array([[np.nan, 0.5]]))


def test_a_bar_of_the_diagram_is_as_high_as_the_accuracy():
    half = Reliability.of(np.array([0, 1] * 10), _scores([0.95] * 20))
    picture = reliability.diagram(half)
    blue = (picture == (26, 115, 232)).all(axis=2)
    rows, columns = np.nonzero(blue)
    side = 30 * BINS
    assert rows.max() - rows.min() == pytest.approx(side / 2, abs=1)
    assert columns.max() - columns.min() < side / BINS
