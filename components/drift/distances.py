"""How far apart two sets of images are, by TensorFlow Data Validation (TFDV).

Both sets are given to TFDV as statistics with the same bins, and it computes of each quantity:

    Jensen-Shannon divergence  (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, logarithms to
                               base 2, of a number
    L-infinity                 max_i |p_i - q_i|, of a category

where p_i and q_i are the shares of the reference and of the requests in bin or category i. Both are
from 0 (the same) to 1 (nothing in common).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.drift.quantities import CATEGORICAL, NAMES, NUMERIC, Quantities, present

JENSEN_SHANNON = 'Jensen-Shannon divergence'
L_INFINITY = 'L-infinity'

# docs/drift.md has the measurement that they were chosen by.
THRESHOLDS = {**dict.fromkeys(NUMERIC, 0.1), **dict.fromkeys(CATEGORICAL, 0.15)}
# With fewer images, the distances of ordinary ones come near to the thresholds by chance.
FEWEST_IMAGES = 100
# Bins of equal share of the reference, beside the two for what lies outside of it.
_INNER_BINS = 10


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far the requests are from the reference in one quantity.

    Attributes:
        kind: JENSEN_SHANNON or L_INFINITY.
        value: From 0 to 1.
        threshold: What it may be.
        images: How many of the requested images have the quantity.
        before: The mean of the reference; for a category, of what moved most, its share.
        after: The same of the requests.
        category: What moved most; empty for a number.
    """

    kind: str
    value: float
    threshold: float
    images: int
    before: float
    after: float
    category: str = ''

    @property
    def moved(self) -> bool:
        """Whether it is above the threshold."""
        return self.value > self.threshold


def edges(reference: np.ndarray) -> np.ndarray:
    """The limits between the bins of a number, ascending, float64.

    Each bin but the first and the last has about the same share of the reference. The first one is
    for what is smaller than all of the reference, and the last one for what is larger.

    Args:
        reference: float64 [n], n at least 1.
    """
    inner = np.quantile(reference, np.linspace(0, 1, _INNER_BINS + 1))
    inner[-1] = np.nextafter(inner[-1], np.inf)  # a bin has its lower limit, not its upper one
    return np.unique(inner)


def shares(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The number of values in each bin, int64 [len(limits) + 1]."""
    return np.bincount(np.searchsorted(limits, values, side='right'), minlength=len(limits) + 1)


def compare(
    reference: Quantities,
    requests: Quantities,
    thresholds: Mapping[str, float] | None = None,
    fewest: int = FEWEST_IMAGES,
) -> dict[str, Distance]:
    """The distance of each quantity that enough images of both sets have.

    Args:
        reference: Of the data that the model comes from.
        requests: Of the images that it was asked about.
        thresholds: Instead of THRESHOLDS.
        fewest: Quantities that fewer images have are left out.
    """
    thresholds = thresholds or THRESHOLDS
    before, after = (_Statistics(len(each['score'])) for each in (reference, requests))
    schema = schema_pb2.Schema()
    pairs = {}
    for name in NAMES:
        pair = present(reference[name]), present(requests[name])
        if min(map(len, pair)) < max(1, fewest):
            continue
        pairs[name] = pair
        feature = schema.feature.add(name=name)
        if name in NUMERIC:
            feature.type = schema_pb2.FLOAT
            feature.drift_comparator.jensen_shannon_divergence.threshold = thresholds[name]
            limits = edges(pair[0])
            before.add_number(name, shares(pair[0], limits))
            after.add_number(name, shares(pair[1], limits))
        else:
            feature.type = schema_pb2.BYTES
            feature.drift_comparator.infinity_norm.threshold = thresholds[name]
            before.add_category(name, pair[0])
            after.add_category(name, pair[1])
    if not pairs:
        return {}
    anomalies = tfdv.validate_statistics(after.proto, schema, previous_statistics=before.proto)
    measured = {
        info.path.step[0]: info.drift_measurements[0].value for info in anomalies.drift_skew_info
    }
    return {
        name: _distance(name, measured[name], thresholds[name], *pair)
        for name, pair in pairs.items()
    }


class _Statistics:
    """Statistics in the form that TFDV reads."""

    def __init__(self, images: int) -> None:
        self.proto = statistics_pb2.DatasetFeatureStatisticsList()
        self._dataset = self.proto.datasets.add(num_examples=images)

    def add_number(self, name: str, counts: np.ndarray) -> None:
        """Adds a number, whose histogram has the bins 0, 1, ...

        TFDV would otherwise choose bins for each of the two sets, and estimate from them the shares
        of bins that both have.
        """
        feature = self._feature(name, statistics_pb2.FeatureNameStatistics.FLOAT)
        _count(feature.num_stats.common_stats, int(counts.sum()))
        feature.num_stats.max = len(counts)
        histogram = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        for place, count in enumerate(counts.tolist()):
            histogram.buckets.add(low_value=place, high_value=place + 1, sample_count=count)

    def add_category(self, name: str, values: np.ndarray) -> None:
        feature = self._feature(name, statistics_pb2.FeatureNameStatistics.STRING)
        categories, counts = np.unique(values, return_counts=True)
        _count(feature.string_stats.common_stats, len(values))
        feature.string_stats.unique = len(categories)
        for rank, (category, count) in enumerate(
            zip(categories.tolist(), counts.tolist(), strict=True)
        ):
            feature.string_stats.rank_histogram.buckets.add(
                low_rank=rank, high_rank=rank, label=category, sample_count=count
            )

    def _feature(self, name: str, kind: int) -> statistics_pb2.FeatureNameStatistics:
        feature = self._dataset.features.add(type=kind)
        feature.path.step.append(name)
        return feature


def _count(common: statistics_pb2.CommonStatistics, values: int) -> None:
    common.num_non_missing = common.tot_num_values = values
    common.min_num_values = common.max_num_values = 1
    common.avg_num_values = 1


def _distance(
    name: str, value: float, threshold: float, reference: np.ndarray, requests: np.ndarray
) -> Distance:
    if name in NUMERIC:
        means = float(reference.mean()), float(requests.mean())
        return Distance(JENSEN_SHANNON, value, threshold, len(requests), *means)
    categories = sorted({*reference.tolist(), *requests.tolist()})
    pairs = [
        (float((reference == each).mean()), float((requests == each).mean())) for each in categories
    ]
    most = max(range(len(pairs)), key=lambda place: abs(pairs[place][0] - pairs[place][1]))
    return Distance(L_INFINITY, value, threshold, len(requests), *pairs[most], categories[most])
