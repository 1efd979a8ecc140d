import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.example_validator import executor
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.coders import example_coder

from components.anomaly_gate import AnomalyGate
from components.gate import GateRefused
from pipeline.schema import write_schema

GOOD: list[dict[str, list[Any]]] = [
    {'image': [b'pixels'], 'label': [label], 'id': [b'%d' % label]} for label in range(10)
]


def validated(
    folder: pathlib.Path, splits: Mapping[str, list[dict[str, list]]]
) -> dict[str, standard_artifacts.ExampleAnomalies | standard_artifacts.Examples]:
    """Examples, and what ExampleValidator says of them under the schema of ten classes."""
    schema_file = pathlib.Path(
        write_schema([str(label) for label in range(10)], str(folder / 'schemas'))
    )
    schema = standard_artifacts.Schema()
    schema.uri = str(schema_file.parent)
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder / 'statistics')
    statistics.split_names = artifact_utils.encode_split_names(list(splits))
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(folder / 'anomalies')
    examples = written(folder / 'examples', {'test': GOOD, **splits})
    for split in splits:
        found = folder / 'statistics' / f'Split-{split}' / 'FeatureStats.pb'
        found.parent.mkdir(parents=True)
        found.write_bytes(statistics_of(splits[split]).SerializeToString())
    executor.Executor().Do(
        {'statistics': [statistics], 'schema': [schema]}, {'anomalies': [anomalies]}, {}
    )
    return {'anomalies': anomalies, 'examples': examples}


def statistics_of(
    examples: list[dict[str, list]],
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """What StatisticsGen finds, without Beam, which takes seconds."""
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    batch = decoder.DecodeBatch([serialized(example) for example in examples])
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
    example = tf.train.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return example.SerializeToString()


def refusal(data: Mapping[str, Any], min_test_images: int = 0, num_classes: int = 10) -> str:
    with pytest.raises(GateRefused) as refused:
        AnomalyGate.test_call(num_classes=num_classes, min_test_images=min_test_images, **data)
    return str(refused.value)


def test_good_examples_pass(tmp_path):
    data = validated(tmp_path, {'train': GOOD, 'eval': GOOD})
    AnomalyGate.test_call(num_classes=10, min_test_images=10, **data)


def test_refusal_names_split_feature_and_anomaly(tmp_path):
    wrong_label = [*GOOD, {**GOOD[0], 'label': [10]}]
    assert refusal(validated(tmp_path, {'train': GOOD, 'eval': wrong_label})) == (
        "The data do not fit the schema: split 'eval', feature 'label': Out-of-range values "
        '(Unexpectedly large value: 10).'
    )


@pytest.mark.parametrize(
    ('example', 'feature', 'anomaly'),
    [
        ({'image': [b'pixels'], 'label': [-1], 'id': [b'x']}, 'label', 'small value: -1'),
        ({'label': [1], 'id': [b'x']}, 'image', 'minimum fraction = 1.000000, actual = 0.909091'),
        ({'image': [b'a', b'b'], 'label': [1], 'id': [b'x']}, 'image', 'value lengths vary'),
        ({**GOOD[0], 'surprise': [3]}, 'surprise', 'column in data but not in schema'),
    ],
)
def test_one_wrong_example_is_refused(tmp_path, example, feature, anomaly):
    message = refusal(validated(tmp_path, {'train': [*GOOD, example]}))
    assert f"split 'train', feature '{feature}'" in message
    assert anomaly in message


def test_every_anomaly_of_every_split_is_named(tmp_path):
    wrong = [{**GOOD[0], 'label': [12], 'surprise': [3]}]
    message = refusal(validated(tmp_path, {'train': wrong, 'test': wrong}))
    for split in ('train', 'test'):
        for feature in ('label', 'surprise'):
            assert f"split '{split}', feature '{feature}'" in message


def test_empty_split_is_refused(tmp_path):
    message = refusal(validated(tmp_path, {'train': GOOD, 'test': []}))
    assert message.startswith("The data do not fit the schema: split 'test', no examples. No mod")
    assert 'there are 0, and MIN_TEST_IMAGES' in message


@pytest.fixture
def good_data(tmp_path):
    """Without anomalies, for the tests that change the test images."""
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(tmp_path / 'anomalies')
    anomalies.split_names = '[]'

    def with_labels(labels):
        test = [{**GOOD[0], 'label': [label]} for label in labels]
        return {'anomalies': anomalies, 'examples': written(tmp_path / 'examples', {'test': test})}

    return with_labels


def test_too_few_test_images_are_refused(good_data):
    assert refusal(good_data([*range(10), *range(5)]), min_test_images=1000) == (
        'No model can be judged by the test images (TEST_SPLIT): there are 15, and MIN_TEST_IMAGES '
        'asks for at least 1,000. Choose a TEST_SPLIT that has more, or a lower bound.'
    )


def test_class_without_test_images_is_refused_whatever_the_bound(good_data):
    assert refusal(good_data([0, 1, 2, 4, 5, 6, 7, 9, 9])) == (
        'No model can be judged by the test images (TEST_SPLIT): there are 9, and MIN_TEST_IMAGES '
        'asks for at least 0; none is of class 3, 8, of 10 classes. Choose a TEST_SPLIT that has '
        'images of every class.'
    )


def test_first_ten_of_many_missing_classes_are_named(good_data):
    message = refusal(good_data([7, 500]), min_test_images=3, num_classes=1000)
    assert 'none is of class 0, 1, 2, 3, 4, 5, 6, 8, 9, 10 and 988 more, of 1000 classes' in message
    assert 'there are 2, and MIN_TEST_IMAGES asks for at least 3;' in message
