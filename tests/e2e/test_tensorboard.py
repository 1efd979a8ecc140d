"""TensorBoard itself, as `make tensorboard` starts it: what a browser gets to see of a training."""

import dataclasses
import json
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest
import tensorboard_process
import tensorflow as tf
import transformed_examples
from project_paths import ROOT
from small_training import NETWORK, TRAINING

from capsmodel.training import evaluation, loop
from pipeline import configs

_TRAINING = dataclasses.replace(TRAINING, batch_size=5)


@pytest.fixture(scope='module')
def var(tmp_path_factory):
    return tmp_path_factory.mktemp('var')


@pytest.fixture(scope='module')
def model_run(var):
    """Where the Trainer's runs have their logs."""
    return configs.from_preset('tiny', var=str(var)).tensorboard_dir


@pytest.fixture(scope='module')
def accuracies(model_run):
    """Two trainings of different settings, and the accuracy of the second."""
    learning, judging = transformed_examples.digits()
    changed = dataclasses.replace(_TRAINING, learning_rate=1e-3)
    models = [
        loop.train(NETWORK, config, learning, judging, f'{model_run}/{run}', profile_steps=(10, 12))
        for run, config in (('7', _TRAINING), ('19', changed))
    ]
    return [evaluation.evaluate(model, judging).accuracy for model in models]


@pytest.fixture(scope='module')
def board(root, var, model_run, accuracies):
    """A TensorBoard, started while the two trainings are there."""
    with tensorboard_process.started(root, PRESET='tiny', VAR=str(var)) as board:
        board.wait_for(lambda: board.scalars('19/eval', 'metrics/accuracy'))
        # A run that comes while it reads is read after all that was there.
        with tf.summary.create_file_writer(f'{model_run}/later').as_default():
            tf.summary.scalar('later', 1.0, step=0)
        board.wait_for(lambda: 'later' in json.loads(board.get('plugin/scalars/tags')))
        yield board


def test_both_trainings_are_there(board):
    runs = {f'{run}{part}' for run in ('7', '19') for part in ('', '/train', '/eval')}
    board.wait_for(lambda: runs <= set(json.loads(board.get('runs'))))


def test_scalars(board, accuracies):
    for run, accuracy in zip(('7', '19'), accuracies, strict=True):
        shown = board.scalars(f'{run}/eval', 'metrics/accuracy')
        assert list(shown) == [39, 79]
        # The best epoch is what training returned.
        assert max(shown.values()) == pytest.approx(accuracy)
    for tag in (
        'metrics/loss',
        'metrics/accuracy',
        'metrics/margin_loss',
        'metrics/reconstruction_loss',
        'optimizer/learning_rate',
        'optimizer/gradient_norm',
    ):
        assert list(board.scalars('7/train', tag)) == [0, 20, 40, 60], tag
    assert list(board.scalars('7/train', 'optimizer/images_per_second')) == [20, 60]


def test_images(board):
    for name in (
        'inputs over reconstructions',
        'capsule dimensions',
        'confusion matrix',
        'worst mistakes',
    ):
        tag = f'pictures/{name}'
        rows = json.loads(board.get('plugin/images/images', run='7/eval', tag=tag, sample=0))
        assert [row['step'] for row in rows] == [39, 79]
        query = dict(urllib.parse.parse_qsl(rows[-1]['query']))
        picture = tf.io.decode_png(board.get('plugin/images/individualImage', **query)).numpy()
        assert min(picture.shape[:2]) > 200
        assert picture.min() < 50
        assert picture.max() == 255


def test_histograms(board):
    def last(tag):
        _, step, buckets = json.loads(
            board.get('plugin/histograms/histograms', run='7/eval', tag=tag)
        )[-1]
        assert step == 79
        return np.array(buckets)

    even = last('routing/coupling coefficients, iteration 1')
    # All are 1/10 before the first agreement.
    assert np.all(even[even[:, 2] > 0][:, :2].round(1) == 0.1)
    for iteration in (1, 2, 3):
        last(f'routing/their entropy in bits, iteration {iteration}')
    lengths = last('scores/length of capsule 3 where it is')
    assert 0 <= lengths[0, 0] <= lengths[-1, 1] < 1


def test_settings_of_all_trainings_side_by_side(board, accuracies):
    allowed = ['STATUS_UNKNOWN', 'STATUS_SUCCESS', 'STATUS_FAILURE', 'STATUS_RUNNING']
    columns = [
        {'hparam': 'learning_rate'},
        {'metric': {'group': 'eval', 'tag': 'metrics/accuracy'}},
    ]
    answer = json.loads(
        board.post(
            'plugin/hparams/session_groups',
            startIndex=0,
            sliceSize=10,
            allowedStatuses=allowed,
            colParams=columns,
        )
    )
    rows = {}
    for group in answer['sessionGroups']:
        (session,) = group['sessions']
        assert session['status'] == 'STATUS_SUCCESS'
        rows[session['name']] = group
    assert {name: row['hparams']['learning_rate'] for name, row in rows.items()} == {
        '7': 3e-3,
        '19': 1e-3,
    }
    assert rows['7']['hparams']['routing_iterations'] == 3
    assert rows['7']['hparams']['decoder_units'] == '[16]'
    metrics = {
        (m['name']['group'], m['name']['tag']): m['value'] for m in rows['7']['metricValues']
    }
    last = board.scalars('7/eval', 'metrics/accuracy')[79]
    assert metrics['eval', 'metrics/accuracy'] == pytest.approx(last)


def test_graph(board):
    assert json.loads(board.get('plugin/graphs/info'))['7']['run_graph']
    graph = board.get(
        'plugin/graphs/graph', run='7', limit_attr_size=1024, large_attrs_key='_large'
    )
    for name in (b'conv1', b'primary_caps', b'digit_caps', b'decoder'):
        assert name in graph


def test_profile(board):
    (run,) = (run for run in json.loads(board.get('plugin/profile/runs')) if run.startswith('7/'))
    # The plugin marks some names, such as overview_page^, and each of its versions others.
    tools = {
        tool.rstrip('@^'): tool
        for tool in json.loads(board.get('plugin/profile/run_tools', run=run))
    }
    assert {'overview_page', 'trace_viewer'} <= tools.keys()
    of_page = {'run': run, 'tag': tools['overview_page']}
    (host,) = json.loads(board.get('plugin/profile/hosts', **of_page))
    if isinstance(host, dict):
        host = host['hostname']
    page = board.get('plugin/profile/data', **of_page, host=host)
    steps = [row['c'][0]['v'] for row in json.loads(page)[1]['rows']]
    assert steps == ['train 10', 'train 11', 'train 12']


@pytest.mark.slow
def test_a_training_is_shown_while_it_runs_and_in_one_piece_after_a_kill(
    board, model_run, tmp_path
):
    def start(run, epochs):
        program = ROOT / 'tests' / 'support' / 'train_with_checkpoints.py'
        arguments = [f'{model_run}/{run}', str(tmp_path / 'states'), str(epochs)]
        command = [sys.executable, program, *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def shown(run):
        return board.scalars(f'{run}/train', 'metrics/loss')

    with start('23', epochs=1000) as process:
        try:
            board.wait_for(lambda: len(shown('23')) > 2 or process.poll() is not None)
            assert process.poll() is None, process.stderr.read()
        finally:
            process.kill()
    before = shown('23')
    # The states that are whole have names of digits alone.
    made = max(int(path.name[5:]) for path in (tmp_path / 'states').glob('step-' + 8 * '[0-9]'))
    epochs = made // 40 + 2
    with start('31', epochs) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    after = board.wait_for(lambda: len(shown('31')) == 2 * epochs and shown('31'))
    assert list(after) == list(range(0, 40 * epochs, 20))
    kept = [step for step in before if step < made]
    assert len(kept) > 1
    assert [after[step] for step in kept] == [before[step] for step in kept]
    assert list(board.scalars('31/eval', 'metrics/accuracy')) == list(range(39, 40 * epochs, 40))
