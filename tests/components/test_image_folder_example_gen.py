"""What ImageFolderExampleGen writes of a folder, run by TFX with its cache."""

import collections
import dataclasses
import pathlib
import shutil

import ml_metadata as mlmd
import own_images
import pytest
import tensorflow as tf
from PIL import Image
from tfx import v1 as tfx
from tfx.orchestration import metadata
from troubles import assert_printed

from components import checked_images
from components.datasets import image_folder
from components.datasets.errors import DatasetError
from components.image_folder_example_gen import ImageFolderExampleGen
from pipeline.beam_options import beam_options

CHECK = {
    'image_check': 'capsmodel.data.image_facts.check',
    'custom_config': {'image_height': 28, 'image_width': 28, 'channels': 3},
}


@dataclasses.dataclass(frozen=True)
class Runs:
    """A pipeline of ImageFolderExampleGen alone, with its metadata, in `place`."""

    place: pathlib.Path

    @property
    def connection(self):
        return metadata.sqlite_metadata_connection_config(str(self.place / 'metadata.db'))

    def run(self, folder, **settings):
        pipeline = tfx.dsl.Pipeline(
            'example_gen',
            str(self.place / 'root'),
            metadata_connection_config=self.connection,
            components=[ImageFolderExampleGen(str(folder), **settings)],
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

    def examples(self):
        """From ids to split, label and image."""
        found = {}
        for split in image_folder.SPLITS:
            files = tf.io.gfile.glob(f'{self.artifact().uri}/Split-{split}/*.gz')
            for record in tf.data.TFRecordDataset(files, compression_type='GZIP'):
                feature = tf.train.Example.FromString(record.numpy()).features.feature
                name = feature['id'].bytes_list.value[0].decode()
                assert name not in found
                label, image = feature['label'].int64_list, feature['image'].bytes_list
                found[name] = split, label.value[0], image.value[0]
        return found


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder of 90 pictures."""
    folder = tmp_path_factory.mktemp('pictures')
    own_images.write_folder(folder, 90)
    return folder


@pytest.fixture(scope='module')
def first_run(pictures, tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp('runs'))
    runs.run(pictures, span=7, **CHECK)
    return runs


def test_each_picture_arrives_once_with_its_label_in_the_split_of_its_content(first_run, pictures):
    found = first_run.examples()
    expected = {
        path: (image_folder.split_of(content, ('eval', 'test')), label, content)
        for path, label, _ in image_folder.read(str(pictures)).pictures
        for content in [(pictures / path).read_bytes()]
    }
    assert found == expected
    assert collections.Counter(split for split, _, _ in found.values()) == {
        'train': 74, 'eval': 8, 'test': 8,
    }  # fmt: skip


def test_artifact_bears_splits_span_and_fingerprint(first_run, pictures):
    artifact = first_run.artifact()
    assert artifact.properties['split_names'].string_value == '["train", "eval", "test"]'
    assert artifact.properties['span'].int_value == 7
    custom = artifact.custom_properties
    assert custom['dataset'].string_value == str(pictures)
    fingerprint = image_folder.read(str(pictures)).fingerprint
    assert custom['fingerprint'].string_value == fingerprint
    assert custom['undecodable_images'].int_value == 0


def test_nothing_new_is_no_new_run_and_a_picture_that_is_added_moves_no_other(
    first_run, pictures, tmp_path
):
    first_run.run(pictures, span=7, **CHECK)
    assert first_run.states() == {'COMPLETE': 1, 'CACHED': 1}
    before = first_run.examples()
    folder = shutil.copytree(pictures, tmp_path / 'pictures')
    Image.new('RGB', (30, 30), 'green').save(folder / 'lime' / '0.png')
    runs = Runs(tmp_path)
    runs.run(folder)
    after = runs.examples()
    assert after.keys() - before.keys() == {'lime/0.png'}
    assert {name: after[name] for name in before} == before


def test_splits_of_the_folder_stay_eval_is_taken_from_train_and_names_may_be_no_text(tmp_path):
    names = {'Ёж\t': 0.1, b'\xff'.decode('utf-8', 'surrogateescape'): 0.5}
    own_images.write_folder(tmp_path / 'own' / 'train', 60, classes=names)
    own_images.write_folder(tmp_path / 'own' / 'test', 6, seed=1, classes=names)
    runs = Runs(tmp_path)
    runs.run(tmp_path / 'own', **CHECK)
    splits = {name: split for name, (split, _, _) in runs.examples().items()}
    assert {split for name, split in splits.items() if name[:5] == 'test/'} == {'test'}
    in_train = [split for name, split in splits.items() if name[:6] == 'train/']
    assert len(in_train) == 60
    assert set(in_train) == {'train', 'eval'}
    assert {name.split('/')[1] for name in splits} == {'Ёж\\t', '\\udcff'}


def test_damaged_pictures_are_listed_in_the_order_of_their_numbers(tmp_path, capsys):
    (tmp_path / 'train').mkdir()
    lines = ['m/10.png\tis empty\n', 'm/5\u00b22.png\tis empty\n', 'm/2.png\tis empty\n']
    (tmp_path / 'train' / 'a').write_text(''.join(lines))
    assert checked_images.report('fruit', str(tmp_path), {'train': 9}, max_bad_images=1) == 3
    _, *named = capsys.readouterr().err.splitlines()
    assert named == ['  m/2.png is empty', '  m/5\u00b22.png is empty', '  m/10.png is empty']


def test_damaged_pictures_are_left_out_or_refused(tmp_path, capsys):
    own_images.write_folder(tmp_path / 'own', 60, damaged=3)
    (tmp_path / 'own' / 'lime' / 'mobile phone.gif').write_bytes(b'GIF89a')
    runs = Runs(tmp_path)
    with pytest.raises(DatasetError, match=r'4 of the 61 images .* cannot be decoded') as refused:
        runs.run(tmp_path / 'own', max_bad_images=0.05, **CHECK)
    assert 'lime/mobile phone.gif is a GIF; save it as PNG or JPEG' in str(refused.value)
    assert_printed('damaged pictures', str(refused.value))
    runs.run(tmp_path / 'own', max_bad_images=0.07, **CHECK)
    assert 'left out 4 of the 61 images' in capsys.readouterr().err
    assert len(runs.examples()) == 57
    assert runs.artifact().custom_properties['undecodable_images'].int_value == 4


def _copied(folder, content, *classes):
    for name in classes:
        (folder / name / 'copy.png').write_bytes(content)


def test_few_equal_pictures_in_several_classes_are_kept_in_one_split_and_named(tmp_path, capsys):
    folder = tmp_path / 'own'
    own_images.write_folder(folder, 330, seed=3)
    content = (folder / 'lime' / '0001.png').read_bytes()
    _copied(folder, content, 'lime', 'tomato')
    runs = Runs(tmp_path)
    runs.run(folder)
    said = capsys.readouterr().err
    assert f'3 of the 332 images of {folder} have an equal one in another class' in said
    assert 'lime/0001.png = lime/copy.png = tomato/copy.png' in said
    equal = [split for split, _, image in runs.examples().values() if image == content]
    assert len(equal) == 3
    assert len(set(equal)) == 1


def test_many_equal_pictures_in_several_classes_are_refused(tmp_path):
    folder = tmp_path / 'own'
    own_images.write_folder(folder, 60)
    _copied(folder, b'equal', 'lime', 'tomato')
    with pytest.raises(DatasetError) as refused:
        Runs(tmp_path).run(folder)
    assert '2 of the 62 images' in str(refused.value)
    assert 'lime/copy.png = tomato/copy.png\nRemove them from all classes but one' in str(
        refused.value
    )


def test_a_split_without_pictures_is_named(tmp_path):
    own_images.write_folder(tmp_path / 'own', 6)
    with pytest.raises(DatasetError, match=r'None of the 6 pictures in .* came to (eval|test)'):
        Runs(tmp_path).run(tmp_path / 'own')


def test_pictures_other_than_the_run_was_set_up_for_are_refused(pictures, tmp_path):
    with pytest.raises(DatasetError, match='have changed since this run was set up'):
        Runs(tmp_path).run(pictures, fingerprint='0123')
