import collections
import dataclasses
import os
import pathlib
import re
import shutil

import ml_metadata as mlmd
import numpy as np
import pytest
import tensorflow as tf
from tfds_data import synthetic_images, write_dataset
from tfx import v1 as tfx
from tfx.orchestration import metadata
from troubles import assert_printed

from components.datasets.errors import DatasetError, NotPrepared
from components.datasets.tfds_dataset import fingerprint, load_builder
from components.tfds_example_gen import TfdsExampleGen
from pipeline.beam_options import beam_options

SPLITS = {'train': 'train[:30]', 'eval': 'train[30:]', 'test': 'test'}
CHECK = {
    'image_check': 'capsmodel.data.image_facts.check',
    'custom_config': {'image_height': 28, 'image_width': 28, 'channels': 1},
}


@pytest.fixture(scope='module')
def images():
    return {'train': synthetic_images(40, seed=1), 'test': synthetic_images(20, seed=2)}


@pytest.fixture(scope='module')
def prepared(images, tmp_path_factory):
    """A folder with `mnist` of 40 + 20 images."""
    data_dir = tmp_path_factory.mktemp('data')
    write_dataset(data_dir, images)
    return data_dir


@pytest.fixture
def data_dir(prepared, tmp_path):
    """The same for one test alone."""
    return shutil.copytree(prepared, tmp_path / 'data')


@dataclasses.dataclass(frozen=True)
class Runs:
    """A pipeline of TfdsExampleGen alone, with its metadata, in `folder`."""

    folder: pathlib.Path

    @property
    def connection(self):
        return metadata.sqlite_metadata_connection_config(str(self.folder / 'metadata.db'))

    def run(self, data_dir, **settings):
        settings = {'dataset': 'mnist', 'splits': SPLITS, **settings}
        pipeline = tfx.dsl.Pipeline(
            'example_gen',
            str(self.folder / 'root'),
            metadata_connection_config=self.connection,
            components=[TfdsExampleGen(data_dir=str(data_dir), **settings)],
            enable_cache=True,
            beam_pipeline_args=beam_options('--runner=FnApiRunner'),
        )
        tfx.orchestration.LocalDagRunner().run(pipeline)

    def states(self):
        """How many executions ended in which state."""
        executions = mlmd.MetadataStore(self.connection).get_executions()
        return collections.Counter(
            mlmd.proto.Execution.State.Name(each.last_known_state) for each in executions
        )

    def artifact(self):
        return mlmd.MetadataStore(self.connection).get_artifacts_by_type('Examples')[-1]

    def examples(self, split):
        files = tf.io.gfile.glob(f'{self.artifact().uri}/Split-{split}/*.gz')
        records = tf.data.TFRecordDataset(files, compression_type='GZIP')
        return [tf.train.Example.FromString(record.numpy()) for record in records]


@pytest.fixture(scope='module')
def first_run(prepared, tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp('runs'))
    runs.run(prepared, version='3.0.1', span=7, **CHECK)
    return runs


def contents(examples):
    """From ids to image and label, decoded."""
    return {
        each.features.feature['id'].bytes_list.value[0]: (
            tf.io.decode_png(each.features.feature['image'].bytes_list.value[0]).numpy()[..., 0],
            each.features.feature['label'].int64_list.value[0],
        )
        for each in examples
    }


def test_each_image_arrives_once_with_its_label(first_run, images):
    read = {split: contents(first_run.examples(split)) for split in SPLITS}
    assert {split: len(each) for split, each in read.items()} == {
        'train': 30,
        'eval': 10,
        'test': 20,
    }
    for source, splits in (('train', ('train', 'eval')), ('test', ('test',))):
        written = sorted(
            (image.tobytes(), label) for image, label in zip(*images[source], strict=True)
        )
        found = sorted(
            (image.tobytes(), label) for split in splits for image, label in read[split].values()
        )
        assert found == written


def test_slices_follow_the_order_of_tfds(first_run, prepared):
    train = load_builder('mnist', str(prepared)).as_dataset(split='train[:30]')
    expected = {record['image'].numpy().tobytes() for record in train}
    found = {image.tobytes() for image, _ in contents(first_run.examples('train')).values()}
    assert found == expected


def test_artifact_bears_splits_span_and_version(first_run, prepared):
    artifact = first_run.artifact()
    assert artifact.properties['split_names'].string_value == '["train", "eval", "test"]'
    assert artifact.properties['span'].int_value == 7
    assert artifact.properties['version'].int_value == 3_000_001
    custom = {name: value.string_value for name, value in artifact.custom_properties.items()}
    assert custom['dataset'] == 'mnist'
    assert custom['dataset_version'] == '3.0.1'
    assert custom['fingerprint'] == fingerprint(load_builder('mnist', str(prepared)))
    assert artifact.custom_properties['undecodable_images'].int_value == 0
    assert not (pathlib.Path(artifact.uri) / 'undecodable').exists()


def test_runs_again_exactly_when_the_data_change(data_dir, images, tmp_path):
    runs = Runs(tmp_path)
    runs.run(data_dir)
    for path in data_dir.rglob('*.tfrecord*'):
        os.utime(path, (1, 1))
    runs.run(data_dir)
    assert runs.states() == {'COMPLETE': 1, 'CACHED': 1}

    changed = images['test'][0].copy()
    changed[3, 14, 14] ^= 1
    shutil.rmtree(data_dir)
    write_dataset(data_dir, {'train': images['train'], 'test': (changed, images['test'][1])})
    runs.run(data_dir)
    assert runs.states() == {'COMPLETE': 2, 'CACHED': 1}


def test_fingerprint_does_not_depend_on_place_or_time(data_dir, prepared):
    for path in data_dir.rglob('*'):
        os.utime(path, (1, 1))
    there = load_builder('mnist', str(prepared))
    assert fingerprint(load_builder('mnist', str(data_dir))) == fingerprint(there)


def test_fingerprint_is_the_same_when_the_same_data_are_prepared_anew(prepared, images, tmp_path):
    write_dataset(tmp_path, images)
    there = load_builder('mnist', str(prepared))
    assert fingerprint(load_builder('mnist', str(tmp_path))) == fingerprint(there)


@pytest.mark.parametrize('part', ['image', 'label'])
def test_fingerprint_changes_with_one_pixel_or_label(prepared, images, tmp_path, part):
    pixels, labels = (each.copy() for each in images['train'])
    if part == 'image':
        pixels[0, 0, 0] ^= 1
    else:
        labels[0] = (labels[0] + 1) % 10
    write_dataset(tmp_path, {'train': (pixels, labels), 'test': images['test']})
    there = load_builder('mnist', str(prepared))
    assert fingerprint(load_builder('mnist', str(tmp_path))) != fingerprint(there)


def test_damaged_record_file_is_named(data_dir):
    (path,) = data_dir.rglob('*train.tfrecord*')
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(NotPrepared, match=path.name) as refused:
        TfdsExampleGen('mnist', str(data_dir), SPLITS)
    assert_printed('damaged data', str(refused.value))
    path.unlink()
    with pytest.raises(NotPrepared, match=rf'{path.name} is missing: remove .* and prepare'):
        TfdsExampleGen('mnist', str(data_dir), SPLITS)


@pytest.fixture(scope='module')
def damaged(images, tmp_path_factory):
    """A folder with `mnist` of 40 + 20 images, of which 11 and 1 are damaged."""
    data_dir = tmp_path_factory.mktemp('damaged')
    train, test = list(images['train'][0]), list(images['test'][0])
    png = tf.io.encode_png(train[0][..., np.newaxis]).numpy()
    train[:11] = [b'hello', png[:-30], *[png[:60] + b'?' + png[61:]] * 9]
    test[0] = b''
    write_dataset(
        data_dir, {'train': (train, images['train'][1]), 'test': (test, images['test'][1])}
    )
    return data_dir


def test_undecodable_images_are_named_and_nothing_is_published(damaged, tmp_path):
    runs = Runs(tmp_path)
    with pytest.raises(DatasetError) as caught:
        runs.run(damaged, **CHECK, max_bad_images=0.15)
    first, *named, more, advice = str(caught.value).splitlines()
    assert re.fullmatch(
        r'12 of the 60 images of mnist \(.* in train, .*1 in test\) cannot be decoded:', first
    )
    assert len(named) == 10
    for line in named:
        assert re.fullmatch(
            r'  mnist-(train|test)\.tfrecord-00000-of-00001__\d+ '
            r'(is neither a PNG nor a JPEG|is cut off, .*|is damaged: .*|is empty)',
            line,
        )
    assert more == '  and 2 more'
    assert advice.endswith(
        'MAX_BAD_IMAGES, the fraction that may be left out: it is 0.15, and 0.2 would do'
    )
    assert runs.states() == {'FAILED': 1}
    assert not list((tmp_path / 'root').rglob('*.gz'))


def test_undecodable_images_are_left_out_where_that_is_allowed(damaged, images, tmp_path, capsys):
    runs = Runs(tmp_path)
    runs.run(damaged, **CHECK, max_bad_images=0.2)
    said = capsys.readouterr().err
    assert 'left out 12 of the 60 images of mnist' in said
    kept = [contents(runs.examples(split)) for split in SPLITS]
    expected = {
        image.tobytes()
        for split, first in (('train', 11), ('test', 1))
        for image in images[split][0][first:]
    }
    assert {image.tobytes() for split in kept for image, _ in split.values()} == expected
    assert sum(map(len, kept)) == 48
    artifact = runs.artifact()
    assert artifact.custom_properties['undecodable_images'].int_value == 12
    listed = [
        line
        for split in SPLITS
        for file in (pathlib.Path(artifact.uri) / 'undecodable' / split).iterdir()
        for line in file.read_text().splitlines()
    ]
    assert len(listed) == 12
    assert not {line.split('\t')[0].encode() for line in listed} & {
        key for split in kept for key in split
    }


def test_a_split_without_a_decodable_image_is_refused(images, tmp_path):
    write_dataset(
        tmp_path / 'data', {'train': images['train'], 'test': ([b'?'] * 20, images['test'][1])}
    )
    with pytest.raises(DatasetError, match='None of the images of mnist in test can be decoded'):
        Runs(tmp_path).run(tmp_path / 'data', **CHECK, max_bad_images=1.0)


def test_unprepared_dataset_compiles_with_an_empty_fingerprint(tmp_path):
    component = TfdsExampleGen('mnist', str(tmp_path), SPLITS)
    assert component.exec_properties['fingerprint'] == ''


def test_run_without_data_says_so(tmp_path):
    with pytest.raises(NotPrepared, match=r'mnist is not prepared in '):
        Runs(tmp_path).run(tmp_path / 'data')


def test_empty_fingerprint_is_not_compared(prepared, tmp_path):
    runs = Runs(tmp_path)
    runs.run(prepared, fingerprint='')
    custom = runs.artifact().custom_properties
    there = load_builder('mnist', str(prepared))
    assert custom['fingerprint'].string_value == fingerprint(there)


def test_data_other_than_compiled_for_are_refused(prepared, tmp_path):
    with pytest.raises(DatasetError, match=r'has changed .* expected fingerprint 0123, found'):
        Runs(tmp_path).run(prepared, fingerprint='0123')


def test_run_with_impossible_slices_names_them_all(prepared, tmp_path):
    slices = {'train': 'train[:41]', 'eval': 'validation', 'test': 'test[5:5]'}
    with pytest.raises(DatasetError, match=r'TRAIN_SPLIT.*EVAL_SPLIT.*TEST_SPLIT.* is empty'):
        Runs(tmp_path).run(prepared, splits=slices)


def test_version_behind_the_name_is_the_version(prepared, tmp_path):
    component = TfdsExampleGen('mnist:3.0.1', str(prepared), SPLITS)
    apart = TfdsExampleGen('mnist', str(prepared), SPLITS, version='3.0.1')
    assert component.exec_properties == apart.exec_properties
    assert component.exec_properties['dataset_version'] == '3.0.1'


def test_synthetic_images_have_all_classes_alike(images):
    assert np.bincount(images['train'][1]).tolist() == [4] * 10
