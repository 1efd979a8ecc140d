"""The pipeline as the chief of two workers: the real tfx CLI, and the other one's own command."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from tfx_project import COMPLETE, Project

from capsmodel.networks import capsnet
from capsmodel.training import launcher, warm_start
from capsmodel.training.request import TrainingRequest
from capsmodel.training.state import load_best

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_SECONDS = 400  # in which the run must be at its end


def _cluster():
    """Two addresses on the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return {'worker': [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]}


def _tf_config(cluster, index):
    return json.dumps({'cluster': cluster, 'task': {'type': 'worker', 'index': index}})


def _run_as_chief(project, tf_config):
    """Runs the pipeline to its end; without the other worker it would wait for an hour."""
    with subprocess.Popen(
        project.command('run', 'create', f'--pipeline_name={project.config.pipeline_name}'),
        env=project.environment(TF_CONFIG=tf_config),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as chief:
        try:
            _, said = chief.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(chief.pid, signal.SIGTERM)
            raise
    assert chief.returncode == 0, said
    return said


def test_two_workers_train_what_is_pushed_as_one_does(root, mnist_dir, tmp_path):
    (tmp_path / 'data').symlink_to(mnist_dir)
    # Few steps and small ones, over which rounding does not grow into differences to be seen.
    few = {'TRAIN_SPLIT': 'train[:1000]', 'EPOCHS': '1', 'LEARNING_RATE': '0.001'}
    any_accuracy = {'MIN_ACCURACY': '0', 'MIN_CLASS_ACCURACY': '0', 'FRAMING': 'whole'}
    project = Project(root, tmp_path, STRATEGY='multi_worker', **few, **any_accuracy)
    created = project.create()
    assert created.returncode == 0, created.stderr
    cluster = _cluster()
    request = os.path.join(project.config.checkpoint_dir, 'request.json')
    # It is there long before the chief, which has the stages before the Trainer to run.
    with subprocess.Popen(
        [sys.executable, '-m', 'capsmodel.training.worker', '--strategy', 'multi_worker', request],
        cwd=root,
        env=project.environment(TF_CONFIG=_tf_config(cluster, 1)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            chief_said = _run_as_chief(project, _tf_config(cluster, 0))
            _, said = worker.communicate(timeout=60)
        finally:
            worker.kill()
    # A worker ends with 0 only with the same weights as the other one.
    assert worker.returncode == 0, said
    for each in (chief_said, said):
        assert 'training on 2 replicas: 50 images a step, 25 each; learning rate 0.001\n' in each
    assert set(project.states().values()) == {COMPLETE}

    (version,) = project.versions()
    pushed = warm_start.exported_weights(f'{project.config.serving_model_dir}/{version}')
    alone = dataclasses.replace(
        TrainingRequest.read(request), checkpoint_root=str(tmp_path / 'alone')
    )
    model = capsnet.CapsNet(alone.network)
    load_best(model, launcher.train(alone, 'default'))
    assert len(pushed) == len(model.variables)
    for weights, variable in zip(pushed, model.variables, strict=True):
        # A single step moves a weight by 1e-3.
        np.testing.assert_allclose(weights, variable.numpy(), rtol=0, atol=1e-4)
