import pathlib

import pytest
import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import io_utils

from capsmodel.data import class_names
from components.datasets.errors import DatasetError
from pipeline.schema import write_schema

NAMES = [str(label) for label in range(10)]


@pytest.mark.parametrize('names', [['cat', 'dög'], NAMES, NAMES * 10])
def test_classes_are_those_of_the_dataset(tmp_path, names):
    path = write_schema(names, str(tmp_path))
    schema = io_utils.SchemaReader().read(path)
    domains = {feature.name: feature.int_domain for feature in schema.feature}
    assert (domains['label'].min, domains['label'].max) == (0, len(names) - 1)
    assert class_names.read(path) == names


def test_features_are_dense_scalars_for_transform(tmp_path):
    schema = io_utils.SchemaReader().read(write_schema(NAMES, str(tmp_path)))
    assert schema_utils.schema_as_feature_spec(schema).feature_spec == {
        'id': tf.io.FixedLenFeature([], tf.string),
        'image': tf.io.FixedLenFeature([], tf.string),
        'label': tf.io.FixedLenFeature([], tf.int64),
        **dict.fromkeys(
            ('brightness', 'contrast', 'colourfulness'), tf.io.FixedLenFeature([], tf.float32)
        ),
        **dict.fromkeys(('width', 'height'), tf.io.FixedLenFeature([], tf.int64)),
    }


def test_a_schema_without_names_has_none(tmp_path):
    own = tmp_path / 'own.pbtxt'
    own.write_text('string_domain { name: "other" value: "a" }')
    assert class_names.read(str(own)) == []


def test_path_changes_exactly_with_the_content(tmp_path):
    first = write_schema(NAMES, str(tmp_path))
    assert write_schema(NAMES, str(tmp_path)) == first
    assert write_schema([*NAMES, 'x'], str(tmp_path)) != first


def test_nothing_but_the_schema_is_left_behind(tmp_path):
    path = pathlib.Path(write_schema(NAMES, str(tmp_path)))
    write_schema(NAMES, str(tmp_path))
    assert [each.name for each in path.parent.iterdir()] == ['schema.pbtxt']


def test_schema_of_the_users_own_keeps_its_features_and_its_edits_are_seen(tmp_path):
    own = tmp_path / 'own.pbtxt'
    own.write_text(
        'string_domain { name: "class_names" value: "old" } string_domain { name: "other" } '
        'feature { name: "label" type: INT int_domain { min: 0 max: 6 } }'
    )
    first = write_schema(NAMES, str(tmp_path / 'written'), str(own))
    assert class_names.read(first) == NAMES
    parsed = io_utils.SchemaReader().read(first)
    assert parsed.feature[0].int_domain.max == 6
    # What it does not say of pictures is the curated schema's.
    facts = ['brightness', 'contrast', 'colourfulness', 'width', 'height']
    assert [feature.name for feature in parsed.feature] == ['label', *facts]
    assert {domain.name for domain in parsed.string_domain} == {'other', 'class_names'}
    own.write_text('feature { name: "label" type: INT int_domain { min: 0 max: 7 } }')
    assert write_schema(NAMES, str(tmp_path / 'written'), str(own)) != first


@pytest.mark.parametrize('content', [None, 'feature {', b'\xff'])
def test_schema_that_cannot_be_read_is_named(tmp_path, content):
    own = tmp_path / 'own.pbtxt'
    if content is not None:
        own.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=f'The schema {own} cannot be read'):
        write_schema(NAMES, str(tmp_path / 'written'), str(own))
