"""The component that adds drawn pictures to the test examples."""

import collections
import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from project_paths import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tfx.types import artifact_utils, standard_artifacts

from components.picture_kinds import drawn_examples, kinds, previews
from components.picture_kinds.component import PictureKinds

_IMAGES = np.load(ROOT / 'tests/data/mnist_300.npz')['images']
_CONFIG = json.dumps({'image_height': 28, 'image_width': 28})


def _examples(folder, count):
    """An Examples artifact whose split `test` has images that are numbered by their labels."""
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.splits = str(folder), ['train', 'test']
    artifact.set_string_custom_property('payload_format', 'FORMAT_TF_EXAMPLE')
    split = artifact_utils.get_split_uri([artifact], 'test')
    os.makedirs(split)
    for part in range(2):
        path = f'{split}/data_tfrecord-0000{part}-of-00002.gz'
        with tf.io.TFRecordWriter(path, 'GZIP') as writer:
            for number in range(part, count, 2):
                example = tf.train.Example()
                feature = example.features.feature
                png = tf.io.encode_png(_IMAGES[number, ..., np.newaxis]).numpy()
                feature['image'].bytes_list.value.append(png)
                feature['label'].int64_list.value.append(number)
                feature['id'].bytes_list.value.append(f'mnist-test_{number}'.encode())
                writer.write(example.SerializeToString())
    return artifact


def _run(examples, folder, summary_dir):
    test_examples = standard_artifacts.Examples()
    test_examples.uri = str(folder)
    PictureKinds.test_call(
        examples=examples,
        test_examples=test_examples,
        framing='capsmodel.data.images.framed',
        custom_config=_CONFIG,
        summary_dir=str(summary_dir),
    )
    return test_examples


def _records(artifact):
    """(kind, id, label, image) of each example."""
    (path,) = tf.io.gfile.glob(artifact_utils.get_split_uri([artifact], 'test') + '/*')
    for record in tf.data.TFRecordDataset(path, 'GZIP').as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        kind, identifier, image = (
            feature[name].bytes_list.value[0] for name in ('kind', 'id', 'image')
        )
        yield kind.decode(), identifier.decode(), feature['label'].int64_list.value[0], image


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The examples, the component's artifact and TensorBoard's folder, of two executions."""
    folder = tmp_path_factory.mktemp('run')
    examples = _examples(folder / 'examples', 90)
    _run(examples, folder / 'first', folder / 'summaries')
    return (
        examples,
        _run(examples, folder / 'second', folder / 'summaries'),
        (folder / 'summaries'),
    )


def test_every_example_stays_and_each_is_drawn_once_right_behind_it(run):
    records = list(_records(run[1]))
    assert run[1].splits == ['test']
    assert [kind == 'plain' for kind, *_ in records] == [True, False] * 90
    assert sorted(label for kind, _, label, _ in records if kind == 'plain') == list(range(90))
    for plain, (kind, identifier, label, picture) in zip(records[::2], records[1::2], strict=True):
        assert plain[1] == f'mnist-test_{plain[2]}'
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(plain[3]))), _IMAGES[label])
        assert (identifier, label) == (f'{kind}/{plain[1]}', plain[2])
        assert picture == kinds.draw(_IMAGES[label], kind, f'1/{plain[1]}')
    counts = collections.Counter(kind for kind, *_ in records)
    assert counts.pop('plain') == 90
    assert counts.keys() == kinds.KINDS.keys()
    assert set(counts.values()) == {7, 8}


def test_the_choice_depends_on_the_ids_and_not_on_their_order():
    ids = [f'mnist-test_{number}'.encode() for number in range(5000)]
    chosen = drawn_examples.choose(iter(ids))
    assert chosen == drawn_examples.choose(reversed(ids))
    assert len(chosen) == drawn_examples.MOST_PICTURES == 1200
    # Without regard to the order in the file: its first half has about half of them.
    assert 520 < sum(each in chosen for each in ids[:2500]) < 680
    counts = collections.Counter(kind for each in chosen.values() for kind in each)
    assert set(counts.values()) == {100}
    assert len(counts) == len(kinds.KINDS)


def test_few_examples_are_drawn_as_every_kind():
    chosen = drawn_examples.choose(iter([b'a', b'b', b'c']))
    assert sorted(kind for each in chosen.values() for kind in each) == sorted(kinds.KINDS)
    assert chosen.keys() == {b'a', b'b', b'c'}
    assert drawn_examples.choose(iter([])) == {}


def test_tensorboard_shows_each_kind_once(run):
    log = EventAccumulator(str(run[2]), {'tensors': 0}).Reload()
    assert sorted(log.Tags()['tensors']) == sorted(f'pictures/{kind}' for kind in kinds.KINDS)
    for kind in kinds.KINDS:
        (event,) = log.Tensors(f'pictures/{kind}')  # the second execution replaced the first one's
        width, height, image = event.tensor_proto.string_val
        assert (int(width), int(height)) == (4 * 164 - 4, 2 * 164 - 4)
        assert Image.open(io.BytesIO(image)).size == (652, 324)


def test_a_picture_stands_over_what_framing_made_of_it():
    transparent = io.BytesIO()
    Image.new('RGBA', (80, 40), (0, 0, 0, 0)).save(transparent, 'PNG')
    red = io.BytesIO()
    Image.new('RGB', (10, 10), (255, 0, 0)).save(red, 'PNG')
    framed = [np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)]
    sheet = previews.before_and_after([transparent.getvalue(), red.getvalue()], framed)
    assert sheet.shape == (324, 324, 3)
    assert (sheet[:80, :160] == (128, 160, 128)).all()
    assert (sheet[80:160, :160] == 255).all()  # the picture is half as high as wide
    assert (sheet[:160, 164:] == (255, 0, 0)).all()
    assert (sheet[164:, :160] == 0).all()
    assert (sheet[164:, 164:] == 255).all()
