"""Stops the run before training if no good model can come from the data.

Plain TFX continues after anomalies, and the Evaluator would reject a model that the test images
cannot judge only after the training.
"""

import json
import sys
from collections.abc import Iterator

from tensorflow_data_validation.utils import anomalies_util
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.anomaly_gate import class_counts, differences, pictures
from components.gate import GateRefused


@tfx.dsl.components.component
def AnomalyGate(  # noqa: N802 (a component is named like a class)
    anomalies: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleAnomalies],
    split_comparison: tfx.dsl.components.InputArtifact[
        tfx.types.standard_artifacts.ExampleAnomalies
    ],
    statistics: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleStatistics],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    class_names: tfx.dsl.components.Parameter[str],
    min_test_images: tfx.dsl.components.Parameter[int],
    min_class_images: tfx.dsl.components.Parameter[int],
    judging_splits: tfx.dsl.components.Parameter[str],
    run_comparison: tfx.dsl.components.InputArtifact[
        tfx.types.standard_artifacts.ExampleAnomalies
    ] = None,
    comparable: tfx.dsl.components.Parameter[str] = '',
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Passes data that fit the schema, and from which a model can learn and be judged.

    It prints how many images each split has of each class.

    Args:
        anomalies: The output of ExampleValidator.
        split_comparison: The output of DistributionValidator for splits of the examples, such as
            test against train.
        statistics: The output of StatisticsGen. The means in it explain what differs.
        examples: The raw examples, with `label`, `image` and, for the search of blank pictures,
            `contrast`.
        class_names: A JSON list of the classes' names by label, from 0 on.
        min_test_images: The number of test images that are enough.
        min_class_images: The number of images of a class that are enough in a split.
        judging_splits: A JSON list of the splits that must not share pictures with train, since
            they choose or judge the model.
        run_comparison: The output of DistributionValidator for the training images and those of an
            earlier run, if these can be compared.
        comparable: Names data that can be compared; the next runs look for it, see
            `EarlierStatisticsStrategy`.
        code_version: Version of this code; part of the cache key.

    Raises:
        GateRefused: The data are not good enough; the message has a sentence for each reason.
    """
    del comparable  # ML Metadata keeps it
    refusals = []
    found = [
        f'split {split!r}, {anomaly}'
        for split in anomalies.splits
        for anomaly in _descriptions(_read(anomalies, split))
    ]
    if found:
        refusals.append(f'The data do not fit the schema: {"; ".join(found)}.')
    splits = {split: pictures.read(examples, split) for split in examples.splits}
    names = json.loads(class_names)
    counts = class_counts.count({split: each.labels for split, each in splits.items()}, len(names))
    print(class_counts.table(counts, names), file=sys.stderr, flush=True)
    refusals += class_counts.refusals(counts, names, min_test_images, min_class_images)
    refusals += pictures.refusals(splits, json.loads(judging_splits))
    sizes = {split: len(each.labels) for split, each in splits.items()}
    refusals += differences.between_splits(split_comparison, statistics, sizes)
    if run_comparison is not None:
        refusals += differences.from_earlier_run(run_comparison, statistics, sizes)
    if refusals:
        raise GateRefused(' '.join(refusals))


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
