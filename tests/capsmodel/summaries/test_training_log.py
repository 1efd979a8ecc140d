"""The log of a training, as its event files have it."""

import glob
import os
import subprocess

import network_configs
import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from capsmodel.data import dataset
from capsmodel.networks import capsnet, table
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.summaries import pictures, training_log

_SMALL = {'conv1_filters': 8, 'primary_channels': 2, 'digit_dim': 4, 'decoder_units': (16,)}
_SETTINGS = {'learning_rate': 0.1, 'decoder': True, 'seed': 3, 'decoder_units': [16, 32]}


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()[1]


@pytest.fixture(scope='module')
def model():
    return _model()


def _model(**changes):
    tf.keras.utils.set_random_seed(0)
    settings = {'num_classes': 10, **_SMALL, **changes}
    model = capsnet.CapsNet(CapsNetConfig(28, 28, **settings))
    # Far from the first weights, so that capsules have lengths and routing takes sides.
    model.digit_caps.kernel.assign(model.digit_caps.kernel * 80)
    return model


def _log(log_dir, model, digits, **changes):
    settings = {
        'settings': _SETTINGS,
        'learning_rate': lambda step: 0.1 / (step + 1),
        'batch_size': 5,
    }
    return training_log.TrainingLog(str(log_dir), model, digits, **{**settings, **changes})


def _train(log, steps, loss=float):
    log.start_epoch()
    for step in steps:
        with log.profiled(step):
            tf.linalg.matmul(tf.ones([8, 8]), tf.ones([8, 8]))
        results = {'loss': tf.constant(loss(step)), 'gradient_norm': tf.constant(10.0 * step)}
        log.record(step, results)


def _events(folder):
    return EventAccumulator(str(folder), size_guidance={'tensors': 0}).Reload()


def _values(events, tag):
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


def _lengths(model, digits):
    return capsnet.lengths(model(digits.images)).numpy()


def test_scalars_are_means_over_the_steps_since_the_last_ones(model, digits, tmp_path):
    with _log(tmp_path, model, digits) as log:
        _train(log, range(41))
    events = _events(tmp_path / 'train')
    assert _values(events, 'metrics/loss') == pytest.approx({0: 0, 20: 10.5, 40: 30.5})
    assert _values(events, 'optimizer/gradient_norm') == pytest.approx({0: 0, 20: 200, 40: 400})
    rates = _values(events, 'optimizer/learning_rate')
    assert rates == pytest.approx({0: 0.1, 20: 0.1 / 21, 40: 0.1 / 41})


def test_what_is_written_can_be_read_while_training_goes_on(model, digits, tmp_path):
    with _log(tmp_path, model, digits) as log:
        _train(log, range(21))
        assert list(_values(_events(tmp_path / 'train'), 'metrics/loss')) == [0, 20]


def test_images_per_second_leaves_out_the_time_between_epochs(model, digits, tmp_path, monkeypatch):
    # Each step takes a second, what is between the epochs an hour.
    clock = iter([0.0, 20.0, 3660.0, 3680.0])
    with _log(tmp_path, model, digits) as log:
        monkeypatch.setattr(training_log.time, 'monotonic', lambda: next(clock))
        _train(log, range(30))
        _train(log, range(30, 61))
    speeds = _values(_events(tmp_path / 'train'), 'optimizer/images_per_second')
    assert speeds == pytest.approx({20: 5, 60: 5})


def test_evaluation_shows_scalars_pictures_and_histograms(model, digits, tmp_path):
    lengths = _lengths(model, digits)
    with _log(tmp_path, model, digits) as log:
        log.evaluated(7, {'accuracy': 0.25, 'margin_loss': 0.5}, lengths)
    events = _events(tmp_path / 'eval')
    assert _values(events, 'metrics/accuracy') == {7: 0.25}
    assert _values(events, 'metrics/margin_loss') == {7: 0.5}
    names = ['confusion matrix', 'reliability', 'worst mistakes']
    names += ['inputs over reconstructions', 'capsule dimensions']
    for name in names:
        width, height, png = _values(events, f'pictures/{name}')[7]
        assert tf.io.decode_png(png).shape[:2] == (int(height), int(width))
    for label in range(10):
        for where in ('is', 'is not'):
            tag = f'scores/length of capsule {label} where it {where}'
            buckets = _values(events, tag)[7]
            there = (digits.labels == label) == (where == 'is')
            assert buckets[:, 2].sum() == there.sum()
            assert buckets[0, 0] == pytest.approx(lengths[there, label].min())
            assert buckets[-1, 1] == pytest.approx(lengths[there, label].max())
    for number in (1, 2, 3):
        couplings = _values(events, f'routing/coupling coefficients, iteration {number}')[7]
        entropies = _values(events, f'routing/their entropy in bits, iteration {number}')[7]
        assert couplings[:, 2].sum() == 16 * 72 * 10
        assert entropies[:, 2].sum() == 16 * 72
        # All are equal in the first iteration, and take sides later.
        assert (couplings[-1, 1] > 0.11) == (number > 1)
        assert (entropies[0, 0] < 3.3) == (number > 1)


@pytest.mark.parametrize(
    ('name', 'called'),
    [
        ('matrix_capsnet', 'activation of capsule'),
        ('efficient_capsnet', 'length of capsule'),
        ('mlp', 'score of'),
    ],
)
def test_scores_are_called_what_they_are_in_each_network(name, called, digits, tmp_path):
    model = table.create(network_configs.small(name))
    few = dataset.LabeledImages(digits.images[:12], digits.labels[:12])
    scores = model.scores(model(few.images)).numpy()
    with _log(tmp_path, model, few) as log:
        log.evaluated(0, {}, scores)
    events = _events(tmp_path / 'eval')
    tags = {tag for tag in events.Tags()['tensors'] if tag.startswith('scores/')}
    where = ('is', 'is not')
    assert tags == {f'scores/{called} {n} where it {w}' for n in range(10) for w in where}
    buckets = _values(events, f'scores/{called} 3 where it is not')[0]
    assert buckets[0, 0] == pytest.approx(scores[few.labels != 3, 3].min())
    assert buckets[-1, 1] == pytest.approx(scores[few.labels != 3, 3].max())


def test_network_without_decoder_has_the_pictures_that_need_none(digits, tmp_path):
    model = _model(decoder=False)
    with _log(tmp_path, model, digits) as log:
        log.evaluated(0, {}, _lengths(model, digits))
    pictures = {tag for tag in _events(tmp_path / 'eval').Tags()['tensors'] if 'pictures' in tag}
    assert pictures == {
        'pictures/confusion matrix',
        'pictures/reliability',
        'pictures/worst mistakes',
    }


def test_pictures_show_the_classes_that_there_are(model, digits, tmp_path):
    few = digits._replace(images=digits.images[:3], labels=np.array([2, 2, 5]))
    with _log(tmp_path, model, few) as log:
        log.evaluated(0, {}, _lengths(model, few))
    assert 'pictures/capsule dimensions' in _events(tmp_path / 'eval').Tags()['tensors']


def test_settings_and_graph_are_those_of_the_training(model, digits, tmp_path):
    with _log(tmp_path, model, digits):
        pass
    events = _events(tmp_path)
    content = events.SummaryMetadata('_hparams_/session_start_info').plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    shown = {
        name: getattr(value, value.WhichOneof('kind')) for name, value in start.hparams.items()
    }
    assert shown == {**_SETTINGS, 'decoder_units': '[16, 32]'}
    scopes = {part for node in events.Graph().node for part in node.name.split('/')[:2]}
    layers = ('images', 'conv1', 'primary_caps', 'digit_caps', 'scores', 'reconstruct', 'decoder')
    for layer in layers:
        assert any(scope.startswith(layer) for scope in scopes), layer


@pytest.mark.parametrize('fails', [False, True])
def test_how_a_training_ended(fails, model, digits, tmp_path):
    try:
        with _log(tmp_path, model, digits):
            if fails:
                raise FloatingPointError
    except FloatingPointError:
        assert fails
    content = _events(tmp_path).SummaryMetadata('_hparams_/session_end_info').plugin_data.content
    end = plugin_data_pb2.HParamsPluginData.FromString(content).session_end_info
    assert (end.status == training_log.hparams_pb2.STATUS_FAILURE) == fails
    assert (end.status == training_log.hparams_pb2.STATUS_SUCCESS) == (not fails)


@pytest.mark.parametrize('same_folder', [True, False])
def test_a_resumed_training_has_one_log(same_folder, model, digits, tmp_path):
    first, second = tmp_path / '1', tmp_path / ('1' if same_folder else '2')
    lengths = _lengths(model, digits)
    with _log(first, model, digits) as log:
        _train(log, range(50))
        log.evaluated(49, {'accuracy': 0.1}, lengths)
        _train(log, range(50, 95))
        log.evaluated(99, {'accuracy': 0.2}, lengths)
    with _log(second, model, digits, first_step=70, earlier_log=str(first)) as log:
        _train(log, range(70, 101), loss=lambda step: -float(step))
        log.evaluated(99, {'accuracy': 0.3}, lengths)
    losses = _values(_events(second / 'train'), 'metrics/loss')
    assert losses == pytest.approx({0: 0, 20: 10.5, 40: 30.5, 60: 50.5, 80: -75, 100: -90.5})
    accuracies = _values(_events(second / 'eval'), 'metrics/accuracy')
    assert accuracies == pytest.approx({49: 0.1, 99: 0.3})
    # The interrupted attempt is no longer a run of its own.
    left = glob.glob(f'{first}/**/*tfevents*', recursive=True)
    assert bool(left) == same_folder


def test_an_earlier_log_is_there_until_the_new_one_is_entered(model, digits, tmp_path):
    with _log(tmp_path / '1', model, digits) as log:
        _train(log, range(50))
    earlier = glob.glob(f'{tmp_path}/1/**/*tfevents*', recursive=True)
    log = _log(tmp_path / '2', model, digits, first_step=30, earlier_log=str(tmp_path / '1'))
    assert all(map(os.path.exists, earlier))
    with log:
        assert not any(map(os.path.exists, earlier))
    assert list(_values(_events(tmp_path / '2' / 'train'), 'metrics/loss')) == [0, 20]


def test_a_new_training_in_the_same_folder_starts_an_empty_log(model, digits, tmp_path):
    with _log(tmp_path, model, digits) as log:
        _train(log, range(50))
    with _log(tmp_path, model, digits) as log:
        _train(log, range(1))
    assert list(_values(_events(tmp_path / 'train'), 'metrics/loss')) == [0]


def test_workers_that_write_nothing_know_the_means(model, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = training_log.TrainingLog(
        None,
        model,
        digits,
        settings=_SETTINGS,
        learning_rate=lambda step: 0.5,
        batch_size=5,
        profile_steps=(0, 1),
    )
    with log:
        log.start_epoch()
        means = []
        for step in range(21):
            with log.profiled(step):
                means.append(log.record(step, {'loss': tf.constant(float(step))}))
        log.evaluated(20, {}, _lengths(model, digits))
    assert means[0] == {'loss': 0, 'learning_rate': 0.5}
    assert means[1:20] == [None] * 19
    assert means[20].pop('images_per_second') > 0
    assert means[20] == {'loss': 10.5, 'learning_rate': 0.5}
    assert not list(tmp_path.iterdir())


def test_profile_of_the_steps_that_are_asked_for(model, digits, tmp_path):
    with _log(tmp_path, model, digits, profile_steps=(3, 4)) as log:
        _train(log, range(8))
    (profile,) = glob.glob(f'{tmp_path}/train/plugins/profile/*/*.xplane.pb')
    with open(profile, 'rb') as file:
        content = file.read()
    assert b'MatMul' in content
    assert b'step_num' in content


@pytest.mark.parametrize('fails', [False, True])
def test_a_training_that_ends_while_it_is_profiled_ends_the_profile(fails, model, digits, tmp_path):
    try:
        with _log(tmp_path / 'first', model, digits, profile_steps=(3, 100)) as log:
            _train(log, range(8))
            if fails:
                raise FloatingPointError
    except FloatingPointError:
        assert fails
    assert os.path.exists(tmp_path / 'first' / 'train' / 'plugins') == (not fails)
    # There can be but one profile at a time.
    with _log(tmp_path / 'second', model, digits, profile_steps=(0, 0)) as log:
        _train(log, range(1))
    assert os.path.exists(tmp_path / 'second' / 'train' / 'plugins')


def test_a_picture_that_cannot_be_drawn_is_left_out_and_said_once(
    model, digits, tmp_path, monkeypatch, capsys, caplog
):
    def fails(*_):
        raise ValueError('x1 must be greater than or equal to x0')

    drawn = [picture for picture in pictures.of(model.config) if 'worst' in picture.name]
    failing = pictures.Picture('confusion matrix', '', fails)
    monkeypatch.setattr(pictures, 'of', lambda config: [failing, *drawn])
    lengths = _lengths(model, digits)
    with _log(tmp_path, model, digits) as log:
        log.evaluated(1, {'accuracy': 0.5}, lengths)
        log.evaluated(2, {'accuracy': 0.5}, lengths)
    said = 'TensorBoard will not show the picture "confusion matrix": x1 must be greater than'
    assert capsys.readouterr().err.count(said) == 1
    assert [record.exc_info is not None for record in caplog.records] == [True]
    events = _events(tmp_path / 'eval')
    assert 'pictures/confusion matrix' not in events.Tags()['tensors']
    assert list(_values(events, 'pictures/worst mistakes')) == [1, 2]
    assert list(_values(events, 'metrics/accuracy')) == [1, 2]


def test_many_classes_have_one_pair_of_histograms(digits, tmp_path):
    model = _model(num_classes=31)
    with _log(tmp_path, model, digits) as log:
        log.evaluated(0, {}, _lengths(model, digits))
    events = _events(tmp_path / 'eval')
    tags = [tag for tag in events.Tags()['tensors'] if tag.startswith('scores')]
    name = 'scores/length of capsule of its class where it is'
    assert sorted(tags) == [name, f'{name} not']
    assert _values(events, name)[0][:, 2].sum() == len(digits.labels)
    assert _values(events, f'{name} not')[0][:, 2].sum() == 30 * len(digits.labels)


@pytest.fixture
def full_disk(tmp_path):
    """A file system that has room for the beginning of a log."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=48k', 'tmpfs', str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f'a small file system cannot be mounted here: {mounted.stderr.strip()}')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_a_full_disk_does_not_end_a_training(full_disk, model, digits, capsys):
    with _log(full_disk / 'log', model, digits, profile_steps=(3, 4)) as log:
        _train(log, range(25))
        log.evaluated(24, {'accuracy': 0.5}, _lengths(model, digits))
        _train(log, range(25, 45))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith('  TensorBoard will not show ')
    assert said[0].endswith(': No space left on device')
    assert len(said) == len(set(said))


def test_a_log_that_cannot_be_written_does_not_end_a_training(model, digits, tmp_path, capsys):
    (tmp_path / 'file').touch()
    with _log(tmp_path / 'file' / 'log', model, digits, profile_steps=(0, 0)) as log:
        _train(log, range(2))
        log.evaluated(1, {'accuracy': 0.5}, _lengths(model, digits))
    assert 'TensorBoard will not show' in capsys.readouterr().err
