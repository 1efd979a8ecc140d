"""The training job of several machines: what its containers run, on this one."""

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
import yaml
from project_paths import ROOT
from tfx_project import COMPLETE, Project

from capsmodel.networks import capsnet
from capsmodel.training import launcher, warm_start
from capsmodel.training.request import TrainingRequest
from capsmodel.training.state import load_best

_MANIFEST = ROOT / 'kubeflow' / 'manifests' / 'workers' / 'workers.yaml'
# Few steps and small ones, over which rounding does not grow into differences to be seen.
_SETTINGS = {
    'PRESET': 'tiny',
    'TRAIN_SPLIT': 'train[:1000]',
    'EPOCHS': '1',
    'LEARNING_RATE': '0.001',
    'BATCH_SIZE_PER_REPLICA': '25',
    'MIN_ACCURACY': '0',
    'MIN_CLASS_ACCURACY': '0',
    'FRAMING': 'whole',
}


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.slow
@pytest.mark.e2e
def test_chief_and_worker_train_what_is_pushed_as_one_does(mnist_dir, tmp_path):
    """The operator's part is TF_CONFIG; ML Metadata is a file here."""
    job, _ = yaml.safe_load_all(_MANIFEST.read_text())
    roles = job['spec']['tfReplicaSpecs']
    assert all(replica['replicas'] == 1 for replica in roles.values())
    addresses = [f'127.0.0.1:{port}' for port in _free_ports(len(roles))]
    workers = {role.lower(): [at] for role, at in zip(roles, addresses, strict=True)}
    var = tmp_path / 'var'
    var.mkdir()
    (var / 'data').symlink_to(mnist_dir)
    processes = []
    try:
        for role, replica in roles.items():
            (container,) = replica['template']['spec']['containers']
            settings = {
                each['name']: each['value']
                for each in container.get('env', ())
                if not each['name'].startswith('METADATA')
            }
            if settings:
                settings |= _SETTINGS
            processes.append(
                subprocess.Popen(
                    [*container['command'], *container['args']],
                    cwd=tmp_path,
                    env={
                        'PATH': f'{os.path.dirname(sys.executable)}:/usr/bin:/bin',
                        'HOME': str(tmp_path),
                        'VAR': str(var),
                        'PIPELINE_NAME': 'capsnet',
                        'PYTHONWARNINGS': 'ignore',
                        'TF_CPP_MIN_LOG_LEVEL': '3',
                        'TF_CONFIG': json.dumps(
                            {
                                'cluster': workers,
                                'task': {'type': role.lower(), 'index': 0},
                                'environment': 'cloud',
                            }
                        ),
                        **settings,
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        said = [process.communicate(timeout=1200) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # The worker ends with 0 only with the same weights as the chief.
    assert [process.returncode for process in processes] == [0, 0], said
    for _, errors in said:
        assert 'training on 2 replicas: 50 images a step, 25 each; learning rate 0.001\n' in errors
    project = Project(ROOT, var, PIPELINE_NAME='capsnet')
    assert set(project.states().values()) == {COMPLETE}

    (version,) = project.versions()
    pushed = warm_start.exported_weights(f'{project.config.serving_model_dir}/{version}')
    request = TrainingRequest.read(os.path.join(project.config.checkpoint_dir, 'request.json'))
    alone = dataclasses.replace(
        request,
        training=request.training.scaled_to(2),
        checkpoint_root=str(tmp_path / 'alone'),
    )
    model = capsnet.CapsNet(alone.network)
    load_best(model, launcher.train(alone, 'default'))
    assert len(pushed) == len(model.variables)
    for weights, variable in zip(pushed, model.variables, strict=True):
        # A single step moves a weight by 1e-3.
        np.testing.assert_allclose(weights, variable.numpy(), rtol=0, atol=1e-4)
