import pathlib

import pytest
import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import io_utils

from components.datasets.errors import DatasetError
from pipeline.schema import write_schema


@pytest.mark.parametrize('num_classes', [2, 10, 100])
def test_label_domain_follows_the_number_of_classes(tmp_path, num_classes):
    schema = io_utils.SchemaReader().read(write_schema(num_classes, str(tmp_path)))
    domains = {feature.name: feature.int_domain for feature in schema.feature}
    assert (domains['label'].min, domains['label'].max) == (0, num_classes - 1)


def test_features_are_dense_scalars_for_transform(tmp_path):
    schema = io_utils.SchemaReader().read(write_schema(10, str(tmp_path)))
    assert schema_utils.schema_as_feature_spec(schema).feature_spec == {
        'id': tf.io.FixedLenFeature([], tf.string),
        'image': tf.io.FixedLenFeature([], tf.string),
        'label': tf.io.FixedLenFeature([], tf.int64),
    }


def test_path_changes_exactly_with_the_content(tmp_path):
    first = write_schema(10, str(tmp_path))
    assert write_schema(10, str(tmp_path)) == first
    assert write_schema(11, str(tmp_path)) != first


def test_nothing_but_the_schema_is_left_behind(tmp_path):
    path = pathlib.Path(write_schema(10, str(tmp_path)))
    write_schema(10, str(tmp_path))
    assert [each.name for each in path.parent.iterdir()] == ['schema.pbtxt']


def test_schema_of_the_users_own_is_taken_as_it_is_and_its_edits_are_seen(tmp_path):
    own = tmp_path / 'own.pbtxt'
    own.write_text('feature { name: "label" type: INT int_domain { min: 0 max: 6 } }')
    first = write_schema(10, str(tmp_path / 'written'), str(own))
    parsed = io_utils.SchemaReader().read(first)
    assert parsed.feature[0].int_domain.max == 6
    own.write_text('feature { name: "label" type: INT int_domain { min: 0 max: 7 } }')
    assert write_schema(10, str(tmp_path / 'written'), str(own)) != first


@pytest.mark.parametrize('content', [None, 'feature {', b'\xff'])
def test_schema_that_cannot_be_read_is_named(tmp_path, content):
    own = tmp_path / 'own.pbtxt'
    if content is not None:
        own.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=f'The schema {own} cannot be read'):
        write_schema(10, str(tmp_path / 'written'), str(own))
