"""Two processes that train one network together, found by TF_CONFIG on the loopback interface."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import training_request
from project_paths import PROGRAMS, ROOT

from capsmodel.training import launcher

pytestmark = pytest.mark.slow


def _free_ports():
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


def _configs():
    """TF_CONFIG of each of two workers; the first one is the chief's."""
    workers = [f'127.0.0.1:{port}' for port in _free_ports()]
    return [
        json.dumps({'cluster': {'worker': workers}, 'task': {'type': 'worker', 'index': index}})
        for index in range(2)
    ]


def _python(arguments, tf_config):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            'TF_CONFIG': tf_config,
            'PYTHONWARNINGS': 'ignore',
            'TF_CPP_MIN_LOG_LEVEL': '3',
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _start(requests):
    """Starts a process for each request; the first one is the chief's."""
    processes = []
    for index, (request, config) in enumerate(zip(requests, _configs(), strict=True)):
        path = pathlib.Path(request.checkpoint_root).parent / f'request-{index}.json'
        request.write(path)
        processes.append(
            _python(['-m', 'capsmodel.training.worker', '--supervised', str(path)], config)
        )
    return processes


def _outcomes(processes):
    """What each process said of its end, and to a person."""
    answers = []
    for process in processes:
        # Not by communicate(), which ends standard input: that would tell the process to stop.
        lines = [line for line in process.stdout if line.startswith('{"')]
        answers.append((json.loads(lines[-1]), process.stderr.read()))
        process.communicate()
    return answers


def _wait_for_a_state(request, process):
    while not list(pathlib.Path(request.checkpoint_root).glob('*/step-*[0-9]')):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def _weights(folder):
    last = sorted(pathlib.Path(folder).glob('step-*[0-9]'))[-1]
    reader = tf.train.load_checkpoint(str(last / 'variables'))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith(('weights/', 'best_weights/'))
    }


def test_two_workers_train_as_one_does_also_when_one_is_killed(tmp_path):
    folders = [tmp_path / name for name in ('one', 'two')]
    for folder in folders:
        folder.mkdir()
    # To the same batches and learning rate by another way: 5 images of each worker.
    settings = {'epochs': 4, 'ema_decay': 0.9, 'deterministic': True}
    one = training_request.write(folders[0], **settings)
    alone = launcher.train(one, 'default')
    two = training_request.write(
        folders[1],
        **settings,
        batch_size=5,
        batch_size_per_replica=5,
        learning_rate=1.5e-3,
        learning_rate_scaling='linear',
    )
    # One is killed: the other one ends by itself.
    processes = _start([two, two])
    _wait_for_a_state(two, processes[0])
    processes[1].kill()
    ((outcome, said),) = _outcomes(processes[:1])
    assert outcome['error'].startswith('Another worker is gone')
    assert 'training on 2 replicas: 10 images a step, 5 each; learning rate 0.003\n' in said
    processes[1].communicate()

    # Started again, both go on and end with the same weights, which are those of one process.
    outcomes = _outcomes(_start([two, two]))
    assert all('resuming from the checkpoint of step' in said for _, said in outcomes)
    assert outcomes[0][0] == outcomes[1][0]
    weights = _weights(alone.folder)
    together = _weights(outcomes[0][0]['folder'])
    assert len(weights) == len(together) == 2 * 9
    for name, value in weights.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_chief_told_to_stop_writes_a_checkpoint(tmp_path):
    request = training_request.write(tmp_path, epochs=1000, checkpoint_steps=0)
    processes = _start([request, request])
    _wait_for_a_state(request, processes[0])
    processes[0].send_signal(signal.SIGTERM)
    (chief, _), (other, _) = _outcomes(processes)
    stopped = re.match(r'Training was told to stop and did after step ([\d,]+) of', chief['error'])
    step = int(stopped[1].replace(',', ''))
    assert list(pathlib.Path(request.checkpoint_root).glob(f'*/step-{step:08}'))
    assert other['error'].startswith('Another worker is gone')


def test_chief_that_waits_for_the_other_worker_can_be_stopped(tmp_path):
    path = str(tmp_path / 'request.json')
    training_request.write(tmp_path).write(path)
    command = [PROGRAMS / 'train_by_request.py', path, 'multi_worker']
    with _python(command, _configs()[0]) as process:
        assert process.stderr.readline() == '  waiting until all 2 workers are there\n'
        time.sleep(2)  # until TensorFlow is at it, which says nothing
        process.send_signal(signal.SIGTERM)
        try:
            said, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert said.startswith('ended: The training process was ended by SIGINT')


def test_workers_at_different_trainings_stop(tmp_path):
    requests = [training_request.write(tmp_path, seed=seed) for seed in (1, 2)]
    for outcome, _ in _outcomes(_start(requests)):
        assert outcome['error'].startswith(
            'The workers do not have the same settings and checkpoint to start from'
        )
