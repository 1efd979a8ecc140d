"""What a card says: intervals, answers of a model, the learning curve, and the page."""

import base64
import copy
import html.parser
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from capsmodel import model_facts
from capsmodel.calibration import Reliability
from capsmodel.networks.settings import CapsNetConfig
from components.model_card import asked, curve, data, exported, files, page, words
from components.model_card.intervals import wilson

_NAMES = ['cat', '<b>dög</b>', 'a fish']


@pytest.mark.parametrize(
    ('hits', 'images', 'interval'),
    [
        # With z = 1.96: (8/10 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10) and so on.
        (8, 10, (0.4902, 0.9433)),
        (0, 10, (0, 0.2775)),
        (10, 10, (0.7225, 1)),
        (9874, 10000, (0.98502, 0.98941)),
    ],
)
def test_wilson_interval(hits, images, interval):
    assert wilson(hits, images) == pytest.approx(interval, abs=5e-5)


class _Painter(tf.Module):
    """Answers the class that the mean of a picture says, as sure as its first value says.

    Args:
        channels: The pictures' channels.
        guard: Whether it has the output `known`, which is false for ids of three letters or
            more.
    """

    def __init__(self, channels, guard=True):
        super().__init__()
        self.channels = channels
        self.guard = guard

    def answers(self, pictures):
        light = tf.reduce_mean(tf.cast(pictures, tf.float32), axis=[1, 2, 3])
        label = tf.cast(light > 85, tf.int64) + tf.cast(light > 170, tf.int64)
        sure = tf.cast(pictures[:, 0, 0, 0], tf.float32) / 255
        return {'label': label, 'scores': tf.one_hot(label, 3) * sure[:, tf.newaxis]}

    def pictures(self, image_bytes):
        return tf.map_fn(
            lambda each: tf.ensure_shape(
                tf.io.decode_png(each, channels=self.channels), [2, 2, self.channels]
            ),
            image_bytes,
            fn_output_signature=tf.uint8,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'examples')])
    def examples(self, examples):
        specification = {
            'image': tf.io.FixedLenFeature([], tf.string),
            'id': tf.io.FixedLenFeature([], tf.string),
        }
        parsed = tf.io.parse_example(examples, specification)
        answers = self.answers(self.pictures(parsed['image']))
        if self.guard:
            answers['known'] = tf.strings.length(parsed['id']) < 3
        return answers

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'image_bytes')])
    def explain(self, image_bytes):
        pictures = self.pictures(image_bytes)
        image = pictures if self.channels == 3 else pictures[..., 0]
        return {**self.answers(pictures), 'image': image}


def _write(path, rows, channels):
    """Examples of pairs of an id and (label, answer, score in 255ths)."""
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for identifier, (label, answer, sure) in rows.items():
            picture = np.full([2, 2, channels], (20, 120, 240)[answer], np.uint8)
            picture[0, 0] = sure
            feature = (example := tf.train.Example()).features.feature
            feature['image'].bytes_list.value.append(tf.io.encode_png(picture).numpy())
            feature['label'].int64_list.value.append(label)
            feature['id'].bytes_list.value.append(identifier.encode())
            writer.write(example.SerializeToString())


def _exported(folder, channels, guard=True):
    module = _Painter(channels, guard)
    signatures = {'examples': module.examples, 'explain': module.explain}
    tf.saved_model.save(module, str(folder), signatures)
    return str(folder)


# The ids of three letters are not known.
_ROWS = {
    'a': (0, 0, 200),
    'b': (0, 0, 255),
    'c': (0, 1, 128),
    'd': (1, 1, 250),
    'e': (1, 0, 180),
    'fff': (1, 0, 230),
    'ggg': (2, 2, 100),
}


@pytest.mark.parametrize('channels', [1, 3])
def test_answers_are_counted_and_the_surest_mistakes_are_shown(tmp_path, channels):
    model = _exported(tmp_path / 'model', channels)
    rows = list(_ROWS.items())
    for part in range(2):
        _write(tmp_path / f'{part}.gz', dict(rows[part::2]), channels)
    paths = [str(tmp_path / '0.gz'), str(tmp_path / '1.gz')]
    found = asked.ask(model, paths, _NAMES, Reliability.of)
    assert (found['images'], found['of_images'], found['correct']) == (7, 7, 4)
    assert found['confusion'] == [[2, 1, 0], [2, 1, 0], [0, 0, 1]]
    assert found['confused'] == [
        {'class': '<b>dög</b>', 'answer': 'cat', 'images': 2},
        {'class': 'cat', 'answer': '<b>dög</b>', 'images': 1},
    ]
    assert [each['id'] for each in found['mistakes']] == ['fff', 'e', 'c']
    first = found['mistakes'][0]
    assert (first['class'], first['answer']) == ('<b>dög</b>', 'cat')
    assert first['score'] == pytest.approx(230 / 255)
    picture = tf.io.decode_png(base64.b64decode(first['png'])).numpy()
    expected = np.full([2, 2, channels], 20)
    expected[0, 0] = 230
    np.testing.assert_array_equal(picture, expected)
    guard = found['guard']
    assert (guard['refused'], guard['mistakes'], guard['refused_mistakes']) == (2, 3, 1)
    assert guard['accuracy_of_known'] == 3 / 5
    assert guard['accuracy_of_known_interval'] == wilson(3, 5)
    # 230 of 255 is in the bin before the last one, and 250 and 255 are in the last one.
    last = found['reliability'][-2:]
    assert [(each['images'], each['accuracy']) for each in last] == [(1, 0.0), (2, 1.0)]
    assert sum(each['images'] for each in found['reliability']) == 7

    some = asked.ask(model, paths, _NAMES, Reliability.of, most=4)
    assert (some['images'], some['of_images'], sum(map(sum, some['confusion']))) == (4, 7, 4)
    assert asked.ask(model, paths[::-1], _NAMES, Reliability.of, most=4) == some


def test_of_many_classes_there_are_only_pairs_and_an_early_model_has_no_guard(tmp_path):
    model = _exported(tmp_path / 'model', 1, guard=False)
    _write(tmp_path / 'examples.gz', {'a': (40, 2, 200), 'b': (2, 2, 100)}, 1)
    names = [f'class {label}' for label in range(41)]
    found = asked.ask(model, [str(tmp_path / 'examples.gz')], names, Reliability.of)
    assert found['confusion'] is None
    assert found['confused'] == [{'class': 'class 40', 'answer': 'class 2', 'images': 1}]
    assert found['guard'] is None
    assert found['mistakes'][0]['known'] is None


def test_examples_are_counted_by_class(tmp_path):
    examples = standard_artifacts.Examples()
    examples.uri, examples.splits = str(tmp_path), ['train', 'test']
    examples.set_string_custom_property('dataset', 'pets')
    examples.set_string_custom_property('fingerprint', 'f00')
    examples.set_int_custom_property('undecodable_images', 3)
    for split, rows in {'train': _ROWS, 'test': {'a': (2, 2, 1)}}.items():
        folder = artifact_utils.get_split_uri([examples], split)
        tf.io.gfile.makedirs(folder)
        _write(f'{folder}/data.gz', rows, 1)
    assert data.read(examples, _NAMES) == {
        'dataset': 'pets',
        'version': '',
        'fingerprint': 'f00',
        'left_out': 3,
        'splits': {
            'train': {'images': 7, 'by_class': [3, 3, 1]},
            'test': {'images': 1, 'by_class': [0, 0, 1]},
        },
    }


def test_the_curve_is_what_the_training_wrote(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path / 'train')).as_default():
        for step in range(1000):
            tf.summary.scalar('metrics/loss', 1 / (step + 1), step)
            tf.summary.scalar('optimizer/learning_rate', 0.1, step)
        tf.summary.histogram('metrics/scores', [1.0], 3)
    curves = curve.read(str(tmp_path))
    assert curves.keys() == {'train'}
    (points,) = curves['train'].values()
    assert len(points) == 200
    step, value = points[-1]
    assert (step, round(value, 6)) == (999, 0.001)
    assert curve.read(str(tmp_path / 'nowhere')) == {}


def test_facts_of_an_exported_model_are_those_that_it_was_exported_with(tmp_path):
    model = _exported(tmp_path, 1)
    config = CapsNetConfig(28, 28, 3, conv1_filters=2)
    model_facts.write(model, _NAMES, config)
    model_facts.write_network(model, config, 'strokes')
    found = exported.read(model)
    assert found['class_names'] == _NAMES
    assert found['framing'] == 'strokes'
    assert found['config']['conv1_filters'] == 2
    assert found['tensorflow'] == tf.version.VERSION
    assert found['fingerprint'] == model_facts.fingerprint(model)
    assert not found['has_decoder']
    assert not found['has_capsules']
    assert exported.day(0) == ''
    assert exported.day(1_500_000_000_000) == '2017-07-14'


def _measured(accuracy, images=10, **others):
    interval = wilson(round(accuracy * images), images)
    return {'images': images, 'accuracy': accuracy, 'accuracy_interval': interval, **others}


@pytest.fixture
def facts():
    """A card of a model for strokes with all that there can be."""
    counts = {'images': 7, 'by_class': [3, 3, 1]}
    overall = {'refused': 0.1, 'calibration_error': 0.05, 'reconstruction_error': 9.5}
    found = {
        'pipeline': 'capsnet-pets',
        'model': {
            'network': 'capsnet',
            'class_names': _NAMES,
            'image_shape': [28, 28],
            'config': {'decoder': True, 'decoder_units': [16, 32]},
            'framing': 'strokes',
            'parameters': 1234,
            'has_decoder': True,
            'has_capsules': True,
            'tensorflow': '2.16.2',
            'fingerprint': '0123456789abcdef',
            'trained': '2017-07-14',
            'tfx': '1.16.0',
            'code': 'fedcba9876543210',
        },
        'settings': {'EPOCHS': '3', 'GUARD_FALSE_ALARMS': '0.05', 'PICK': 'best'},
        'tuned': {},
        'data': {
            'dataset': 'pets',
            'version': '1.0.0',
            'fingerprint': 'f00',
            'left_out': 2,
            'splits': {'train': counts, 'eval': counts, 'test': counts},
        },
        'curves': {
            'train': {'accuracy': [(20, 0.5), (40, 0.8)], 'loss': [(20, 0.4), (40, 0.2)]},
            'eval': {'accuracy': [(40, 0.9)]},
        },
        'evaluation': {
            'blessed': True,
            'missed': [],
            'accuracy_change': 0.01,
            'overall': _measured(0.9, **overall),
            'classes': [
                {'label': label, 'class': name, **_measured(0.8 + label / 20)}
                for label, name in enumerate(_NAMES)
            ],
            'kinds': [{'kind': 'chalk', **_measured(0.7, refused=0.2)}],
        },
        'asked': {
            'images': 10,
            'of_images': 20,
            'correct': 9,
            'confusion': [[3, 1, 0], [0, 3, 0], [0, 0, 3]],
            'confused': [{'class': 'cat', 'answer': '<b>dög</b>', 'images': 1}],
            'reliability': [
                {'from': 0.8, 'to': 1.0, 'images': 10, 'mean_score': 0.9, 'accuracy': 0.9}
            ],
            'mistakes': [
                {
                    'id': '"><script>alert(1)</script>',
                    'class': 'cat',
                    'answer': '<b>dög</b>',
                    'score': 0.97,
                    'known': False,
                    'png': 'iVBORw0KGgo=',
                }
            ],
            'guard': {
                'refused': 1,
                'refused_interval': wilson(1, 10),
                'mistakes': 1,
                'refused_mistakes': 1,
                'accuracy_of_known': 1.0,
                'accuracy_of_known_interval': wilson(9, 9),
            },
        },
        'reproduce': "make run IMAGES='my <pets>'",
    }
    found['use'] = words.of(found)
    return found


class _Reader(html.parser.HTMLParser):
    """Text and elements of a page, of which each that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str | None] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.links += [value for name, value in attributes if name in ('src', 'href', 'srcset')]
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)

    @property
    def text(self):
        return ' '.join(' '.join(self.texts).split())


def test_the_page_has_each_part_and_nothing_in_it_is_taken_for_markup(facts):
    written = page.of(facts)
    read = _Reader(written)
    titles = re.findall('<h2>(.*?)</h2>', written)
    assert titles == [
        *('Model details', 'Intended use', 'Factors and metrics', 'Training and evaluation data'),
        *('Learning curve', 'Accuracy by class', 'Kinds of pictures', 'Confusions'),
        *('Calibration', 'Guard', 'Worst mistakes', 'Ethical considerations', 'Limits'),
        'How to reproduce it',
    ]
    assert 'class <b>dög</b>' in read.text
    assert '"><script>' not in written
    assert 'script' not in read.names
    assert "make run IMAGES='my <pets>'" in read.text
    assert '10 of the 20 test images' in read.text
    assert 'Blessed by the Evaluator' in read.text
    assert '90.00% test accuracy 59.58% to 98.21%' in read.text
    # A link for readers and the picture inside; nothing is loaded from elsewhere.
    assert read.links == ['data:image/png;base64,iVBORw0KGgo=', 'https://arxiv.org/abs/1810.03993']
    assert 'url(' not in written
    assert '@import' not in written
    assert page.of(json.loads(json.dumps(facts))) == written


def test_what_a_model_lacks_is_left_out_and_said(facts):
    lacking = copy.deepcopy(facts)
    lacking['model'] |= {'has_decoder': False, 'has_capsules': False, 'framing': 'whole'}
    lacking['curves'] = {}
    lacking['evaluation']['kinds'] = []
    lacking['evaluation'] |= {'blessed': False, 'missed': ['accuracy of class <b>dög</b> is 0.5']}
    lacking['evaluation']['overall'] = _measured(0.9)
    lacking['evaluation']['accuracy_change'] = None
    lacking['asked'] |= {'guard': None, 'mistakes': [], 'confused': [], 'correct': 10}
    lacking['use'] = words.of(lacking)
    read = _Reader(page.of(lacking))
    for sentence in (
        'Rejected by the Evaluator: accuracy of class <b>dög</b> is 0.5.',
        'The network has no capsules.',
        'The network has no decoder: it reconstructs nothing.',
        'This model has none: its training wrote no log.',
        'No earlier blessed model could be compared with it.',
        'This model has no guard: it refuses nothing.',
        'No answer was wrong.',
        'No class was taken for another one.',
    ):
        assert sentence in read.text
    assert 'drawn by a program' not in read.text
    assert 'known is false' not in read.text
    assert 'Several signs' not in read.text


def test_of_many_classes_the_worst_are_shown(facts):
    names = [f'class {label:02}' for label in range(40)]
    facts['model']['class_names'] = names
    facts['data']['splits'] = {'train': {'images': 820, 'by_class': list(range(1, 41))}}
    facts['evaluation']['classes'] = [
        {'label': label, 'class': name, **_measured(label / 40, 40)}
        for label, name in enumerate(names)
    ]
    facts['asked']['confusion'] = None
    text = _Reader(page.of(facts)).text
    assert 'Of 40 classes, the 20 worst are shown.' in text
    assert 'class class 19 40 47.50%' in text
    assert 'class class 20 40' not in text
    assert 'With 40 classes, only the most frequent confusions are shown.' in text
    assert 'The 5 rarest and the 5 most frequent of 40 classes' in text
    assert 'class 04 5 class 35 36' in text


def test_files_are_whole_or_not_there(tmp_path):
    files.write(str(tmp_path / 'card'), '<p>ü', '{}')
    assert sorted(path.name for path in (tmp_path / 'card').iterdir()) == [
        'model_card.html',
        'model_card.json',
    ]
    assert (tmp_path / 'card' / 'model_card.html').read_bytes() == '<p>ü'.encode()
