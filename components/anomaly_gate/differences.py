"""Explains what DistributionValidator has found: features that differ between sets of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from tensorflow_data_validation.utils import anomalies_util
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx import types
from tfx.components.distribution_validator import executor
from tfx.components.statistics_gen import stats_artifact_utils

# Of fewer images the histograms differ by chance: of two samples of MNIST or Fashion-MNIST with 90
# and 720 images by up to 0.1, with 20 and 200 by up to 0.4.
_FEWEST = 75
_HOW_TO_PASS = (
    'If this is meant to be so, set SCHEMA_FILE to a copy of pipeline/schema/schema.pbtxt with a '
    'higher threshold of the '
)


def between_splits(
    comparison: types.Artifact, statistics: types.Artifact, sizes: Mapping[str, int]
) -> Iterator[str]:
    """A sentence for each pair of splits that differ.

    Args:
        comparison: What DistributionValidator has found.
        statistics: Of the splits.
        sizes: The number of images by split. Splits of a few images are not compared.
    """
    for pair in comparison.splits:
        split, baseline = pair.split('_')
        found = (
            _differing(comparison, pair) if min(sizes[split], sizes[baseline]) >= _FEWEST else {}
        )
        if found:
            yield (
                f'The images of {split} are not like those of {baseline}: '
                f'{_described(found, statistics, [split, baseline])}. A model learns from one and '
                f'is used on the other, so take both from the same source. {_HOW_TO_PASS}'
                'skew_comparator.'
            )


def from_earlier_run(
    comparison: types.Artifact, statistics: types.Artifact, sizes: Mapping[str, int]
) -> Iterator[str]:
    """A sentence for each split that differs from that of an earlier run.

    Args:
        comparison: What DistributionValidator has found; without splits if there is no such run.
        statistics: Of this run's splits.
        sizes: The number of images by split. Splits of a few images are not compared.
    """
    for pair in comparison.splits:
        split, _ = pair.split('_')
        found = _differing(comparison, pair) if sizes[split] >= _FEWEST else {}
        if found:
            yield (
                f'The images of {split} are not like those of the last run that passed this '
                f'gate: {_described(found, statistics, [split])}. {_HOW_TO_PASS}drift_comparator '
                'for one run.'
            )


def _differing(comparison: types.Artifact, pair: str) -> dict[str, tuple[float, float]]:
    """The divergence and its threshold of each feature that differs too much."""
    file = os.path.join(comparison.uri, f'SplitPair-{pair}', executor.DEFAULT_FILE_NAME)
    anomalies: anomalies_pb2.Anomalies = anomalies_util.load_anomalies_binary(file)
    return {
        '.'.join(info.path.step): (measured.value, measured.threshold)
        for info in anomalies.drift_skew_info
        for measured in info.drift_measurements
        if measured.value > measured.threshold
    }


def _described(
    found: Mapping[str, tuple[float, float]], statistics: types.Artifact, splits: list[str]
) -> str:
    means = {split: _means(statistics, split) for split in splits}

    def text(feature: str, divergence: float, threshold: float) -> str:
        of = [
            f'{means[split][feature]:.3g} in {split}' for split in splits if feature in means[split]
        ]
        mean = f' (mean {", ".join(of)})' if of else ''
        return f'{feature}{mean} diverges by {divergence:.2f}, and {threshold:g} is allowed'

    return '; '.join(text(feature, *values) for feature, values in sorted(found.items()))


def _means(statistics: types.Artifact, split: str) -> dict[str, float]:
    """The means of the numeric features."""
    view: statistics_pb2.DatasetFeatureStatisticsList = stats_artifact_utils.load_statistics(
        statistics, split
    ).proto()
    return {
        '.'.join(feature.path.step): feature.num_stats.mean
        for dataset in view.datasets
        for feature in dataset.features
        if feature.HasField('num_stats')
    }
