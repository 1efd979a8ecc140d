"""The training loop: what it learns, repeats, writes down and refuses."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from project_paths import PROGRAMS
from small_training import NETWORK, TRAINING
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from troubles import assert_printed

from capsmodel.networks import capsnet
from capsmodel.training import evaluation, loop
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import Diverged, TrainingError
from capsmodel.training.state import load_best


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()


def _train(network_config, config, digits, log_dir=None, **how):
    log_dir = log_dir and str(log_dir)
    return loop.train(network_config, config, digits[0], digits[1], log_dir, **how)


def _weights(model):
    return [variable.numpy() for variable in model.variables]


def _succeeds(program):
    """What a program says in a process of its own, in which the CPU counts as two devices."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_learns(digits):
    learner = dataclasses.replace(
        TRAINING, epochs=30, augmentation='none', learning_rate_decay=0.95
    )
    model = _train(NETWORK, learner, digits)
    assert evaluation.evaluate(model, digits[0]).accuracy > 0.85
    assert evaluation.evaluate(model, digits[1]).accuracy > 0.6


def test_same_settings_give_the_same_weights_and_another_seed_others(digits):
    runs = [
        _weights(_train(NETWORK, config, digits))
        for config in (TRAINING, TRAINING, dataclasses.replace(TRAINING, seed=8))
    ]
    for first, second in zip(runs[0], runs[1], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
    assert not np.allclose(runs[0][0], runs[2][0], atol=1e-2)


def test_the_best_epoch_is_returned(digits, tmp_path):
    # With a learning rate this high the accuracy goes up and down.
    wild = dataclasses.replace(TRAINING, epochs=8, learning_rate=0.05, learning_rate_decay=1.0)
    model = _train(NETWORK, wild, digits, tmp_path)
    events = EventAccumulator(str(tmp_path / 'eval')).Reload()
    accuracies = [
        tf.make_ndarray(event.tensor_proto) for event in events.Tensors('metrics/accuracy')
    ]
    assert len(accuracies) == 8
    assert max(accuracies) > accuracies[-1]
    assert evaluation.evaluate(model, digits[1]).accuracy == pytest.approx(float(max(accuracies)))
    last = _train(NETWORK, dataclasses.replace(wild, pick='last'), digits)
    assert evaluation.evaluate(last, digits[1]).accuracy == pytest.approx(float(accuracies[-1]))


def test_the_log_has_each_measure_of_steps_and_of_evaluations(digits, tmp_path):
    _train(NETWORK, dataclasses.replace(TRAINING, batch_size=5), digits, tmp_path)
    logs = {name: EventAccumulator(str(tmp_path / name)).Reload() for name in ('train', 'eval')}
    measures = {'metrics/accuracy', 'metrics/margin_loss', 'metrics/reconstruction_loss'}
    tags = set(logs['train'].Tags()['tensors'])
    assert tags == {
        *measures,
        'metrics/loss',
        'optimizer/learning_rate',
        'optimizer/gradient_norm',
        'optimizer/images_per_second',
    }
    values = {
        tag: {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in logs['train'].Tensors(tag)}
        for tag in tags
    }
    assert list(values['metrics/loss']) == [0, 20, 40, 60]
    rates = values['optimizer/learning_rate']
    assert rates == pytest.approx({k: 3e-3 * 0.5 ** (k / 40) for k in (0, 20, 40, 60)})
    # Of each epoch's 40 steps, those from 0 to 20 are timed.
    assert list(values['optimizer/images_per_second']) == [20, 60]
    assert list(values['optimizer/gradient_norm']) == [0, 20, 40, 60]
    assert set(logs['eval'].Tags()['tensors']) > {*measures, 'pictures/confusion matrix'}
    assert [event.step for event in logs['eval'].Tensors('metrics/accuracy')] == [39, 79]


def test_gradient_norm_is_that_of_the_batch_or_the_root_mean_square_of_the_replicas():
    _succeeds('gradient_norms_on_replicas.py')


def test_steps_to_profile_must_be_there(digits):
    with pytest.raises(TrainingError, match='no step 8 to profile: training ends at step 8'):
        _train(NETWORK, TRAINING, digits, profile_steps=(8, 9))


def test_network_without_decoder_trains_on_the_margin_loss_alone(digits):
    bare = dataclasses.replace(NETWORK, decoder=False)
    model = _train(bare, dataclasses.replace(TRAINING, epochs=1), digits)
    scalars = evaluation.evaluate(model, digits[1]).scalars()
    assert set(scalars) == {'accuracy', 'calibration_error', 'margin_loss'}


def _stop_after(steps):
    """What to give as `should_stop` for a number of steps."""
    answers = iter([False] * steps + [True])
    return lambda: next(answers)


# Two epochs of 20 steps.
_RESUMED = dataclasses.replace(TRAINING, batch_size=10)


def test_training_that_is_stopped_again_and_again_comes_to_the_same_weights(
    digits, tmp_path, capsys
):
    checkpoints = Checkpoints(tmp_path / 'checkpoints')

    def train(**how):
        return _train(NETWORK, _RESUMED, digits, checkpoints=checkpoints, **how)

    # In an epoch, at its end, in the next one.
    done = 0
    for stop in (7, 20, 33):
        with pytest.raises(TrainingError, match=f'after step {stop} of 40: the same command'):
            train(should_stop=_stop_after(stop - done))
        resuming = f'  resuming from the checkpoint of step {done} of 40\n'
        assert (resuming in capsys.readouterr().err) == (done > 0)
        done = stop
    first = _weights(train())
    for resumed, expected in zip(first, _weights(_train(NETWORK, _RESUMED, digits)), strict=True):
        np.testing.assert_allclose(resumed, expected, rtol=1e-3, atol=1e-5)
    # At its end there is nothing left to do.
    for again, expected in zip(_weights(train(should_stop=lambda: True)), first, strict=True):
        np.testing.assert_array_equal(again, expected)


def test_checkpoints_come_every_so_many_steps_and_with_each_epoch(digits, tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', every_steps=8)
    found: list[int] = []

    def watch():
        found.extend(set(_steps_saved(checkpoints)) - set(found))
        return False

    _train(NETWORK, _RESUMED, digits, checkpoints=checkpoints, should_stop=watch)
    assert [*found, *set(_steps_saved(checkpoints)) - set(found)] == [8, 16, 20, 24, 32, 40]


def _steps_saved(checkpoints):
    return sorted(int(path.name[5:]) for path in checkpoints.folder.glob('step-*[0-9]'))


def test_best_epoch_is_remembered_by_the_checkpoint(digits, tmp_path):
    # The first epoch learns, the others destroy.
    config = dataclasses.replace(_RESUMED, epochs=1)
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    best = _train(NETWORK, config, digits, checkpoints=checkpoints)
    wild = dataclasses.replace(config, epochs=2, learning_rate=3.0)
    resumed = _train(NETWORK, wild, digits, checkpoints=checkpoints)
    loaded = capsnet.CapsNet(NETWORK)
    progress = load_best(loaded, checkpoints)
    assert progress.step == 40
    assert progress.best[0] == pytest.approx(evaluation.evaluate(best, digits[1]).accuracy)
    for first, second, third in zip(*map(_weights, (best, resumed, loaded)), strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


def _saved_weights(checkpoints, name='weights'):
    """Of the last checkpoint."""
    path = str(checkpoints.folder / f'step-{_steps_saved(checkpoints)[-1]:08}' / 'variables')
    reader = tf.train.load_checkpoint(path)
    names = (f'{name}/{number}/.ATTRIBUTES/VARIABLE_VALUE' for number in range(9))
    return [reader.get_tensor(name) for name in names]


def test_average_of_the_weights_is_what_comes_out(digits, tmp_path):
    config = dataclasses.replace(_RESUMED, epochs=1, ema_decay=0.8)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', every_steps=1)
    weights = []

    def watch():
        if checkpoints.folder.exists() and _steps_saved(checkpoints):
            weights.append(_saved_weights(checkpoints))
        return False

    averaged = _train(NETWORK, config, digits, checkpoints=checkpoints, should_stop=watch)
    weights.append(_saved_weights(checkpoints))
    assert len(weights) == 20
    expected = weights[0]
    for step in weights[1:]:
        expected = [0.8 * mean + 0.2 * now for mean, now in zip(expected, step, strict=True)]
    for actual, mean, now in zip(_weights(averaged), expected, weights[-1], strict=True):
        np.testing.assert_allclose(actual, mean, rtol=1e-4, atol=1e-6)
        assert not np.allclose(actual, now, rtol=1e-4, atol=1e-6)
    # What is trained on are the weights themselves.
    plain = dataclasses.replace(config, ema_decay=0.0)
    for actual, now in zip(_weights(_train(NETWORK, plain, digits)), weights[-1], strict=True):
        np.testing.assert_allclose(actual, now, rtol=1e-3, atol=1e-5)
    accuracy = evaluation.evaluate(averaged, digits[1]).accuracy
    assert checkpoints.restore(tf.train.Checkpoint()).best[0] == pytest.approx(accuracy)


def test_no_checkpoint_is_written_once_the_loss_is_not_finite(digits, tmp_path):
    wild = dataclasses.replace(_RESUMED, learning_rate=1e30)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', every_steps=1)
    with pytest.raises(Diverged, match='The loss is nan at step') as caught:
        _train(NETWORK, wild, digits, checkpoints=checkpoints)
    failed_at = int(re.search(r'at step (\d+)', str(caught.value))[1])
    assert max(_steps_saved(checkpoints)) == failed_at


def test_divergence_is_said(digits):
    wild = dataclasses.replace(TRAINING, epochs=10, learning_rate=1e30, learning_rate_decay=1.0)
    with pytest.raises(Diverged, match=r'at step \d+, where the .*1e\+30') as caught:
        _train(NETWORK, wild, digits)
    assert_printed('not finite', str(caught.value))


def test_more_classes_than_have_room_in_a_picture_train_with_their_log(digits, tmp_path, capsys):
    network_config = dataclasses.replace(NETWORK, num_classes=61)
    config = dataclasses.replace(TRAINING, epochs=1)
    phases: list[str] = []
    _train(network_config, config, digits, tmp_path, eval_batch_size=30, phase=phases.append)
    assert 'TensorBoard will not show' not in capsys.readouterr().err
    assert phases == [
        'training with 50 images a step',
        'evaluating 30 images a step',
        'drawing pictures for TensorBoard',
    ]
    tags = EventAccumulator(str(tmp_path / 'eval')).Reload().Tags()['tensors']
    assert len([tag for tag in tags if tag.startswith('pictures/')]) == 5


def test_batch_larger_than_the_data_is_refused(digits):
    with pytest.raises(TrainingError, match='more than the 200 images') as caught:
        _train(NETWORK, dataclasses.replace(TRAINING, batch_size=201), digits)
    assert_printed('large batch', str(caught.value))


@pytest.mark.parametrize(('scaling', 'rate'), [('none', 0.003), ('linear', 0.012), ('sqrt', 0.006)])
def test_batch_and_learning_rate_scale_with_the_replicas(scaling, rate):
    config = dataclasses.replace(TRAINING, batch_size_per_replica=25, learning_rate_scaling=scaling)
    scaled = config.scaled_to(8)
    assert (scaled.batch_size, scaled.learning_rate) == (200, pytest.approx(rate))
    assert scaled.scaled_to(8) == scaled
    assert TRAINING.scaled_to(8) == TRAINING


def test_unknown_scaling_names_those_that_there_are():
    with pytest.raises(ValueError, match='must be one of none, linear, sqrt'):
        dataclasses.replace(TRAINING, learning_rate_scaling='square')


@pytest.mark.slow
def test_two_replicas_train_as_one_does():
    assert 'cannot be split evenly among 2 replicas' in _succeeds('train_on_two_replicas.py')
