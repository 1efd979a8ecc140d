"""The process that trains, started as the Trainer and people do, told to stop, and killed."""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import tensorflow as tf
import training_request
from project_paths import ROOT

from capsmodel.networks import capsnet
from capsmodel.training import evaluation, launcher, worker
from capsmodel.training.errors import TrainingError
from capsmodel.training.state import load_best


def _worker(request, folder, *options):
    path = pathlib.Path(folder, 'request.json')
    request.write(path)
    return subprocess.Popen(
        [sys.executable, '-m', 'capsmodel.training.worker', *options, str(path)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONWARNINGS': 'ignore', 'TF_CPP_MIN_LOG_LEVEL': '3'},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _states(request):
    return sorted(pathlib.Path(request.checkpoint_root).glob('*/step-*[0-9]'))


def _wait_for_states(request, count, process=None):
    """Waits until a number of states have been written; only the last two stay."""
    known = set(_states(request))
    seen: set[pathlib.Path] = set()
    while len(seen) < count:
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)
        seen |= set(_states(request)) - known


def _bytes_of(checkpoints):
    """All that the last state holds: weights, optimizer, best weights."""
    (last,) = sorted(checkpoints.folder.glob('step-*[0-9]'))[-1:]
    reader = tf.train.load_checkpoint(str(last / 'variables'))
    return {
        name: reader.get_tensor(name).tobytes()
        for name in reader.get_variable_to_shape_map()
        if name.endswith('VARIABLE_VALUE')
    }


def test_two_signals_during_a_step_are_one_request():
    kinds = signal.SIGTERM, signal.SIGINT
    before = {number: signal.getsignal(number) for number in kinds}
    try:
        stop = worker._Stop()
        signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
        for number in kinds:
            signal.pthread_kill(threading.get_ident(), number)
        assert not stop.requested()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, kinds)
        assert stop.requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_told_to_stop_it_writes_a_checkpoint_and_goes_on_from_there(tmp_path, capfd):
    request = training_request.write(tmp_path, epochs=100)

    def stop():
        _wait_for_states(request, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(
        TrainingError, match=r'after step [\d,]+ of 2,000: the same command'
    ) as told:
        launcher.train(request)
    stopped_at = int(str(told.value).split('after step ')[1].split(' of')[0].replace(',', ''))
    (folder,) = {state.parent for state in _states(request)}
    last = _states(request)[-1]
    assert last.name == f'step-{stopped_at:08}'
    assert (folder / 'log' / 'train').is_dir()
    capfd.readouterr()
    # The same again: this time whoever has started it goes away.
    process = _worker(request, tmp_path, '--supervised')
    said = ''.join(process.stderr.readline() for _ in range(3))
    assert f'resuming from the checkpoint of step {stopped_at:,} of' in said
    _wait_for_states(request, 1, process)
    process.stdin.close()
    assert process.wait() == 1
    # What it was at before; of its end there is nobody to tell.
    assert all('"phase"' in line for line in process.stdout.read().splitlines())
    assert _states(request)[-1].name > last.name


def test_training_to_the_end_in_a_process_of_its_own(tmp_path, capfd):
    request = training_request.write(tmp_path)
    checkpoints = launcher.train(request)
    said = capfd.readouterr()
    assert said.out == ''
    assert [line for line in said.err.splitlines() if line.startswith('  epoch')][-1].startswith(
        '  epoch 3/3: accuracy '
    )
    model = capsnet.CapsNet(request.network)
    progress = load_best(model, checkpoints)
    assert progress.step == 60
    judged = evaluation.evaluate(model, training_request.digits()[1])
    assert judged.accuracy == pytest.approx(progress.best[0])
    assert not pathlib.Path(checkpoints.folder, 'finished').exists()


def test_request_for_other_machines_has_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = training_request.write(pathlib.Path())
    absolute = dataclasses.replace(request, log_dir='gs://bucket/log').with_absolute_paths()
    assert absolute.train_files == [str(tmp_path / 'train.gz')]
    assert absolute.eval_files == [str(tmp_path / 'eval.gz')]
    assert absolute.checkpoint_root == str(tmp_path / 'checkpoints')
    assert (absolute.log_dir, absolute.weights_from) == ('gs://bucket/log', [])
    warm = dataclasses.replace(request, weights_from=['model']).with_absolute_paths()
    assert (warm.log_dir, warm.weights_from) == (str(tmp_path / 'log'), [str(tmp_path / 'model')])


def test_what_is_wrong_with_a_request_is_a_sentence(tmp_path, capfd):
    request = training_request.write(tmp_path, batch_size=500)
    with pytest.raises(TrainingError, match='A batch of 500 images is more than the 200'):
        launcher.train(request)
    assert 'Traceback' not in capfd.readouterr().err


def test_a_kill_names_the_settings_to_lower(tmp_path):
    request = training_request.write(tmp_path)
    parent = psutil.Process()
    known = parent.children()

    def kill():
        while not (started := set(parent.children()) - set(known)):
            time.sleep(0.01)
        started.pop().kill()

    threading.Thread(target=kill).start()
    with pytest.raises(
        TrainingError, match='ended by SIGKILL, as the system does when memory'
    ) as e:
        launcher.train(request)
    for name in ('BATCH_SIZE', 'EVAL_BATCH_SIZE', 'IMAGE_HEIGHT and IMAGE_WIDTH'):
        assert name in str(e.value)


@pytest.mark.slow
def test_killed_training_ends_with_the_same_bits(tmp_path):
    """SIGKILL at random moments, those in which a checkpoint is being written among them."""
    seed = random.randrange(2**32)
    print(f'random.Random({seed})')  # shown where the test fails
    moments = random.Random(seed)
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    settings = {'epochs': 15, 'deterministic': True, 'checkpoint_steps': 3}
    whole = training_request.write(tmp_path / 'whole', **settings)
    expected = launcher.train(whole)
    request = training_request.write(tmp_path / 'killed', **settings)
    for attempt in range(5):
        process = _worker(request, tmp_path)
        _wait_for_states(request, moments.randrange(1, 4), process)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, 'it was at its end before it was killed'
        assert ('resuming from the checkpoint of step' in said) == (attempt > 0)
    actual = launcher.train(request)
    assert _bytes_of(actual) == _bytes_of(expected)
