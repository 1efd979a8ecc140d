import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import v1 as tfx
from tfx.components.distribution_validator import executor as distribution_executor
from tfx.components.example_validator import executor as example_executor
from tfx.types import artifact, artifact_utils, standard_artifacts
from tfx_bsl.coders import example_coder

from components.anomaly_gate import AnomalyGate
from components.gate import GateRefused
from pipeline import comparisons
from pipeline.schema import write_schema

DIGITS = tuple(map(str, range(10)))


def example(label: int, name: str = 'a', brightness: float = 0.1, contrast: float = 0.3) -> dict:
    """An example; `name` makes another image of the same label."""
    return {
        'image': [f'{name} {label}'.encode()],
        'label': [label],
        'id': [b'%d' % label],
        'brightness': [brightness],
        'contrast': [contrast],
        'colourfulness': [0.0],
        'width': [28],
        'height': [28],
    }


def good(split: str) -> list[dict[str, list[Any]]]:
    """One image of each class, others than in another split."""
    return [example(label, split) for label in range(10)]


def judged(
    folder: pathlib.Path,
    earlier: artifact.Artifact | None = None,
    **splits: list[dict[str, list]],
) -> dict[str, artifact.Artifact]:
    """Examples, and what the nodes before the gate say of them; `good` where a split is not given.

    Args:
        folder: Where to write.
        earlier: The statistics of an earlier run.
        **splits: Examples by split.
    """
    splits = {split: good(split) for split in ('train', 'eval', 'test')} | splits
    schema_file = write_schema(DIGITS, str(folder / 'schemas'))
    schema = standard_artifacts.Schema()
    schema.uri = str(pathlib.Path(schema_file).parent)
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder / 'statistics')
    statistics.split_names = artifact_utils.encode_split_names(list(splits))
    for split, each in splits.items():
        found = folder / 'statistics' / f'Split-{split}' / 'FeatureStats.pb'
        found.parent.mkdir(parents=True)
        found.write_bytes(statistics_of(each).SerializeToString())
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(folder / 'anomalies')
    example_executor.Executor().Do(
        {'statistics': [statistics], 'schema': [schema]}, {'anomalies': [anomalies]}, {}
    )
    channel = tfx.dsl.Channel(type=standard_artifacts.ExampleStatistics)
    nodes = comparisons.create(channel, schema_file, '', comparisons.earlier_statistics)
    return {
        'anomalies': anomalies,
        'statistics': statistics,
        'examples': written(folder / 'examples', splits),
        'split_comparison': compared(nodes.of_splits, statistics, statistics, folder / 'splits'),
        'run_comparison': compared(nodes.of_runs, statistics, earlier, folder / 'runs'),
    }


def compared(node, statistics, baseline, folder: pathlib.Path) -> artifact.Artifact:
    """What a DistributionValidator of the pipeline finds."""
    differences = standard_artifacts.ExampleAnomalies()
    differences.uri = str(folder)
    distribution_executor.Executor().Do(
        {
            'statistics': [statistics],
            'baseline_statistics': [baseline] if baseline else [],
        },
        {'anomalies': [differences]},
        node.exec_properties,
    )
    return differences


def statistics_of(
    examples: list[dict[str, list]],
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """What StatisticsGen finds, without Beam, which takes seconds."""
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    batch = decoder.DecodeBatch([serialized(each) for each in examples])
    return stats_impl.generate_statistics_in_memory(batch)


def written(
    folder: pathlib.Path, splits: Mapping[str, list[dict[str, list]]]
) -> standard_artifacts.Examples:
    """The examples as TfdsExampleGen writes them."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for split, examples in splits.items():
        (folder / f'Split-{split}').mkdir(parents=True)
        with tf.io.TFRecordWriter(
            str(folder / f'Split-{split}' / 'data_tfrecord-00000-of-00001.gz'), 'GZIP'
        ) as writer:
            for features in examples:
                writer.write(serialized(features))
    return artifact


def serialized(features: dict[str, list]) -> bytes:
    record = tf.train.Example()
    for name, values in features.items():
        feature = record.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif values and isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return record.SerializeToString()


def call(
    data: Mapping[str, Any], min_test_images: int = 0, min_class_images: int = 0, names=DIGITS
) -> None:
    AnomalyGate.test_call(
        class_names=json.dumps(names),
        min_test_images=min_test_images,
        min_class_images=min_class_images,
        judging_splits=json.dumps(['eval', 'test']),
        **data,
    )


def refusal(data: Mapping[str, Any], **settings: Any) -> str:
    with pytest.raises(GateRefused) as refused:
        call(data, **settings)
    return str(refused.value)


def test_good_examples_pass_and_are_counted(tmp_path, capsys):
    call(judged(tmp_path), min_test_images=10, min_class_images=1)
    assert capsys.readouterr().err == (
        '         images  0  1  2  3  4  5  6  7  8  9\n'
        '  train      10  1  1  1  1  1  1  1  1  1  1\n'
        '  eval       10  1  1  1  1  1  1  1  1  1  1\n'
        '  test       10  1  1  1  1  1  1  1  1  1  1\n'
    )


def test_refusal_names_split_feature_and_anomaly(tmp_path):
    wrong_label = [*good('eval'), example(10)]
    assert refusal(judged(tmp_path, eval=wrong_label)) == (
        "The data do not fit the schema: split 'eval', feature 'label': Out-of-range values "
        '(Unexpectedly large value: 10).'
    )


@pytest.mark.parametrize(
    ('changes', 'feature', 'anomaly'),
    [
        ({'label': [-1]}, 'label', 'small value: -1'),
        ({'image': []}, 'image', 'minimum fraction = 1.000000, actual = 0.909091'),
        ({'image': [b'a', b'b']}, 'image', 'value lengths vary'),
        ({'surprise': [3]}, 'surprise', 'column in data but not in schema'),
    ],
)
def test_one_wrong_example_is_refused(tmp_path, changes, feature, anomaly):
    wrong = {name: values for name, values in (example(1) | changes).items() if values}
    message = refusal(judged(tmp_path, train=[*good('train'), wrong]))
    assert f"split 'train', feature '{feature}'" in message
    assert anomaly in message


def test_every_anomaly_of_every_split_is_named(tmp_path):
    wrong = [example(12, split) | {'surprise': [3]} for split in ('train', 'test')]
    message = refusal(judged(tmp_path, train=wrong[:1], test=wrong[1:]))
    for split in ('train', 'test'):
        for feature in ('label', 'surprise'):
            assert f"split '{split}', feature '{feature}'" in message


def test_empty_split_is_refused(tmp_path):
    message = refusal(judged(tmp_path, test=[]), min_test_images=1)
    assert message.startswith("The data do not fit the schema: split 'test', no examples. No mod")
    assert 'there are 0, and MIN_TEST_IMAGES' in message


def many(split: str, brightness: float = 0.3, noise: float = 0.05) -> list[dict[str, list]]:
    values = np.random.default_rng(len(split)).normal(brightness, noise, 100).clip(0.01)
    return [example(n % 10, f'{split} {n}', float(each)) for n, each in enumerate(values)]


def test_split_unlike_train_is_refused(tmp_path):
    splits = {split: many(split) for split in ('train', 'eval')} | {'test': many('test', 0.72)}
    message = refusal(judged(tmp_path, **splits))
    assert re.fullmatch(
        r'The images of test are not like those of train: brightness \(mean 0\.7\d* in test, '
        r'0\.[23]\d* in train\) diverges by 1\.00, and 0\.25 is allowed\. A model learns from one '
        r'and is used on the other, so take both from the same source\. If this is meant to be so, '
        r'set SCHEMA_FILE to a copy of pipeline/schema/schema\.pbtxt with a higher threshold of '
        r'the skew_comparator\.',
        message,
    )


def test_run_unlike_an_earlier_one_is_refused(tmp_path):
    splits = ('train', 'eval', 'test')
    before = judged(tmp_path / 'before', **{split: many(split) for split in splits})
    same = {split: many(f'another {split}') for split in splits}
    call(judged(tmp_path / 'same', before['statistics'], **same))
    darker = {split: many(split, 0.1, 0.02) for split in splits}
    message = refusal(judged(tmp_path / 'darker', before['statistics'], **darker))
    assert re.fullmatch(
        r'The images of train are not like those of the last run that passed this gate: '
        r'brightness \(mean 0\.\d+ in train\) diverges by [01]\.\d\d, and 0\.25 is allowed\. If '
        r'this is meant to be so, set SCHEMA_FILE to a copy of pipeline/schema/schema\.pbtxt with '
        r'a higher threshold of the drift_comparator for one run\.',
        message,
    )


def test_few_images_differ_by_chance(tmp_path):
    few = [example(label, brightness=0.9) for label in range(10)]
    call(judged(tmp_path, test=few))


def test_each_reason_has_a_sentence(tmp_path):
    blank = [example(label, contrast=0.0) for label in range(9)]
    message = refusal(judged(tmp_path, test=blank, train=blank), min_test_images=10)
    for start in (
        'No model can be judged by the test images: there are 9,',
        'A class has no images in a split: train has none of class 9; test',
        'Most pictures are blank, with all pixels alike: 100% of train, 100% of test.',
        '9 of the 9 test images are also in train,',
    ):
        assert start in message
