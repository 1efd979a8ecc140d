"""Stops the run before training if the data have anomalies or too few test images.

Plain TFX continues after anomalies, and the Evaluator would reject a model that the test images
cannot judge only after the training.
"""

import collections
import os
from collections.abc import Iterator

import tensorflow as tf
from tensorflow_data_validation.utils import anomalies_util
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.gate import GateRefused

# TfdsExampleGen's name for the label.
_LABEL = 'label'
# The most missing classes that the message names.
_MOST_NAMED = 10


@tfx.dsl.components.component
def AnomalyGate(  # noqa: N802 (a component is named like a class)
    anomalies: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleAnomalies],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    num_classes: tfx.dsl.components.Parameter[int],
    min_test_images: tfx.dsl.components.Parameter[int],
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Passes data that have no anomalies and enough test images to judge a model.

    Args:
        anomalies: The output of ExampleValidator.
        examples: The raw examples; the gate reads the split `test`.
        num_classes: Labels are 0 to num_classes - 1; each must be among the test images.
        min_test_images: The number of test images that are enough.
        code_version: Version of this code; part of the cache key.

    Raises:
        GateRefused: There are anomalies, or a split is empty; the message names each split, feature
            and anomaly. Or there are too few test images, or none of some class; the message has
            their number, the number required, and the classes.
    """
    refusals = []
    found = [
        f'split {split!r}, {anomaly}'
        for split in anomalies.splits
        for anomaly in _descriptions(_read(anomalies, split))
    ]
    if found:
        refusals.append(f'The data do not fit the schema: {"; ".join(found)}.')
    counts = _label_counts(examples, 'test')
    missing = [label for label in range(num_classes) if not counts[label]]
    if counts.total() < min_test_images or missing:
        refusals.append(_too_little(counts.total(), min_test_images, missing, num_classes))
    if refusals:
        raise GateRefused(' '.join(refusals))


def _label_counts(examples: tfx.dsl.Artifact, split: str) -> collections.Counter[int]:
    """The number of examples of a split by label."""
    folder = artifact_utils.get_split_uri([examples], split)
    files = [os.path.join(folder, name) for name in sorted(fileio.listdir(folder))]
    labels = {_LABEL: tf.io.VarLenFeature(tf.int64)}
    counts: collections.Counter[int] = collections.Counter()
    for records in tf.data.TFRecordDataset(files, compression_type='GZIP').batch(1000):
        counts.update(tf.io.parse_example(records, labels)[_LABEL].values.numpy().tolist())
    return counts


def _too_little(count: int, wanted: int, missing: list[int], num_classes: int) -> str:
    none = ''
    if missing:
        named = ', '.join(map(str, missing[:_MOST_NAMED]))
        more = f' and {len(missing) - _MOST_NAMED} more' if len(missing) > _MOST_NAMED else ''
        none = f'; none is of class {named}{more}, of {num_classes} classes'
    return (
        f'No model can be judged by the test images (TEST_SPLIT): there are {count:,}, and '
        f'MIN_TEST_IMAGES asks for at least {wanted:,}{none}. Choose a TEST_SPLIT that has '
        + ('images of every class.' if missing else 'more, or a lower bound.')
    )


def _read(anomalies: tfx.dsl.Artifact, split: str) -> anomalies_pb2.Anomalies:
    folder = artifact_utils.get_split_uri([anomalies], split)
    return anomalies_util.load_anomalies_binary(io_utils.get_only_uri_in_dir(folder))


def _descriptions(anomalies: anomalies_pb2.Anomalies) -> Iterator[str]:
    if anomalies.data_missing:
        # ExampleValidator reports nothing for a split without examples.
        yield 'no examples'
    for reason in anomalies.dataset_anomaly_info.reason:
        yield f'dataset: {_text(reason)}'
    for feature, info in sorted(anomalies.anomaly_info.items()):
        for reason in info.reason:
            yield f'feature {feature!r}: {_text(reason)}'


def _text(reason: anomalies_pb2.AnomalyInfo.Reason) -> str:
    return f'{reason.short_description} ({reason.description.rstrip(".")})'
