"""Runs this project's Transform function as TFX does, on a few examples in memory."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from capsmodel.data import features
from capsmodel.data.preprocessing import preprocessing_fn

RAW_FEATURES = {
    features.IMAGE: tf.io.FixedLenFeature([], tf.string),
    features.LABEL: tf.io.FixedLenFeature([], tf.int64),
    features.ID: tf.io.FixedLenFeature([], tf.string),
}


def run_transform(
    examples: list[dict[str, Any]],
    directory: str,
    height: int,
    width: int,
    framing: str = 'strokes',
    channels: int = 1,
) -> tuple[list[dict[str, Any]], tft.TFTransformOutput]:
    """Transforms raw examples; returns them in any order, and the graph, kept in `directory`."""
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(RAW_FEATURES))
    settings = {
        'image_height': height,
        'image_width': width,
        'framing': framing,
        'channels': channels,
    }
    function = functools.partial(preprocessing_fn, custom_config=settings)
    transformed: list[dict[str, Any]] = []
    results = os.path.join(directory, 'examples')
    with (
        tempfile.TemporaryDirectory() as scratch,
        tft_beam.Context(temp_dir=scratch),
        beam.Pipeline(argv=['--runner=FnApiRunner']) as pipeline,
    ):
        raw = pipeline | beam.Create(examples)
        (data, _), graph = (raw, metadata) | tft_beam.AnalyzeAndTransformDataset(function)
        graph | tft_beam.WriteTransformFn(directory)
        data | beam.Map(_to_example) | beam.io.WriteToTFRecord(results)
    metadata_io.write_metadata(metadata, os.path.join(directory, 'metadata'))
    for record in tf.data.TFRecordDataset(tf.io.gfile.glob(results + '*')).as_numpy_iterator():
        parsed = tf.io.parse_single_example(record, RAW_FEATURES)
        transformed.append({name: value.numpy() for name, value in parsed.items()})
    return transformed, tft.TFTransformOutput(directory)


def _to_example(row: dict[str, Any]) -> bytes:
    bytes_feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[row[name]]))
        for name in (features.IMAGE, features.ID)
    }
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[row[features.LABEL]]))
    return tf.train.Example(
        features=tf.train.Features(feature={**bytes_feature, features.LABEL: label})
    ).SerializeToString()
