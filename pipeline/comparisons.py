"""The nodes that compare the statistics of images: between splits, and with an earlier run."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.components import DistributionValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import distribution_validator_pb2

from components.earlier_statistics import EarlierStatisticsStrategy

EarlierStatistics = Callable[[tfx.types.BaseChannel, str], tfx.dsl.Resolver]

# Of a feature in the schema: with another split, and with an earlier run.
_SKEW, _DRIFT = 'skew_comparator', 'drift_comparator'


def earlier_statistics(current: tfx.types.BaseChannel, comparable: str) -> tfx.dsl.Resolver:
    """The node that finds the statistics that passed AnomalyGate last.

    Args:
        current: The statistics of this run, which are left aside.
        comparable: See `EarlierStatisticsStrategy`.
    """
    return tfx.dsl.Resolver(
        strategy_class=EarlierStatisticsStrategy,
        config={'comparable': comparable},
        current=current,
        statistics=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ExampleStatistics),
    ).with_id('EarlierStatistics')


class Comparisons(NamedTuple):
    """The nodes, in the order in which they run; the last two are None without earlier runs."""

    of_splits: BaseNode
    earlier: BaseNode | None
    of_runs: BaseNode | None


def create(
    statistics: tfx.types.BaseChannel,
    schema_file: str,
    comparable: str,
    earlier: EarlierStatistics | None,
) -> Comparisons:
    """The nodes that compare eval and test with train, and train with that of an earlier run.

    Args:
        statistics: The output of StatisticsGen.
        schema_file: A schema (text proto). The comparators of its features say what is compared,
            and how much it may differ.
        comparable: See `comparable_as`.
        earlier: Makes the node that finds the statistics of an earlier run.
    """
    schema = _read(schema_file)
    of_splits = DistributionValidator(
        statistics=statistics,
        baseline_statistics=statistics,
        config=_config(schema, _SKEW),
        include_split_pairs=[('eval', 'train'), ('test', 'train')],
    ).with_id('SplitComparison')
    if not earlier:
        return Comparisons(of_splits, None, None)
    found = earlier(statistics, comparable)
    of_runs = DistributionValidator(
        statistics=statistics,
        # The first run has none.
        baseline_statistics=found.outputs['statistics'].as_optional(),
        config=_config(schema, _DRIFT),
        include_split_pairs=[('train', 'train')],
    ).with_id('RunComparison')
    return Comparisons(of_splits, found, of_runs)


def comparable_as(schema_file: str, **image_shape: int) -> str:
    """Names data that can be compared: those of the same features, classes and shape of images.

    Args:
        schema_file: A schema (text proto). What its comparators allow does not count, so that a run
            with other thresholds can be the one that the next run is compared with.
        **image_shape: What else has to be equal.

    Returns:
        16 hexadecimal digits.
    """
    schema = _read(schema_file)
    for feature in schema.feature:
        feature.ClearField(_SKEW)
        feature.ClearField(_DRIFT)
    content = f'{text_format.MessageToString(schema)}{sorted(image_shape.items())}'
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read(schema_file: str) -> schema_pb2.Schema:
    return text_format.Parse(pathlib.Path(schema_file).read_text(), schema_pb2.Schema())


def _config(
    schema: schema_pb2.Schema, comparator: str
) -> distribution_validator_pb2.DistributionValidatorConfig:
    """What DistributionValidator compares."""
    config = distribution_validator_pb2.DistributionValidatorConfig()
    for feature in schema.feature:
        if feature.HasField(comparator):
            compared = config.default_slice_config.feature.add()
            compared.path.step.append(feature.name)
            compared.distribution_comparator.CopyFrom(getattr(feature, comparator))
    return config
