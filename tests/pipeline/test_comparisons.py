"""What DistributionValidator is told to compare."""

import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx

from pipeline import comparisons
from pipeline.schema import write_schema

SHAPE = {'image_height': 28, 'image_width': 28, 'channels': 1}
STATISTICS = tfx.dsl.Channel(type=tfx.types.standard_artifacts.ExampleStatistics)


@pytest.fixture
def curated(tmp_path):
    return write_schema(['cat', 'dog'], str(tmp_path))


def _changed(curated, change):
    schema = text_format.Parse(pathlib.Path(curated).read_text(), schema_pb2.Schema())
    change({feature.name: feature for feature in schema.feature})
    path = pathlib.Path(curated).with_name('changed.pbtxt')
    path.write_text(text_format.MessageToString(schema))
    return str(path)


def _thresholds(node):
    config = node.exec_properties['distribution_validator_config']
    return {
        compared.path.step[0]: compared.distribution_comparator.jensen_shannon_divergence.threshold
        for compared in config.default_slice_config.feature
    }


def test_thresholds_are_those_of_the_schema(curated):
    def change(features):
        features['brightness'].skew_comparator.jensen_shannon_divergence.threshold = 0.5
        features['contrast'].ClearField('drift_comparator')

    nodes = comparisons.create(
        STATISTICS, _changed(curated, change), 'alike', comparisons.earlier_statistics
    )
    usual = dict.fromkeys(('brightness', 'contrast', 'colourfulness'), 0.25)
    usual |= {'width': 0.5, 'height': 0.5}
    assert _thresholds(nodes.of_splits) == {**usual, 'brightness': 0.5}
    del usual['contrast']
    assert _thresholds(nodes.of_runs) == usual
    assert (nodes.earlier.id, nodes.of_runs.id) == ('EarlierStatistics', 'RunComparison')


def test_runner_without_earlier_statistics_compares_splits_alone(curated):
    nodes = comparisons.create(STATISTICS, curated, 'alike', None)
    assert nodes.of_splits.id == 'SplitComparison'
    assert nodes[1:] == (None, None)


def test_data_of_other_classes_features_or_shapes_are_not_compared(curated, tmp_path):
    first = comparisons.comparable_as(curated, **SHAPE)
    assert comparisons.comparable_as(curated, **{**SHAPE, 'channels': 3}) != first
    others = write_schema(['cat', 'owl'], str(tmp_path))
    assert comparisons.comparable_as(others, **SHAPE) != first
    ints = _changed(curated, lambda features: setattr(features['width'], 'type', schema_pb2.FLOAT))
    assert comparisons.comparable_as(ints, **SHAPE) != first


def test_data_are_compared_whatever_their_runs_allow(curated):
    def change(features):
        for feature in features.values():
            feature.ClearField('drift_comparator')
            feature.skew_comparator.jensen_shannon_divergence.threshold = 1

    first = comparisons.comparable_as(curated, **SHAPE)
    assert comparisons.comparable_as(_changed(curated, change), **SHAPE) == first
