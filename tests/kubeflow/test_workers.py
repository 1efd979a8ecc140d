"""The training job of several machines: what its containers run, on this one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import yaml
from project_paths import ROOT

_MANIFEST = ROOT / 'kubeflow' / 'manifests' / 'workers' / 'workers.yaml'


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.slow
@pytest.mark.e2e
def test_chief_and_worker_train_and_push_a_model(mnist_dir, tmp_path):
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
                settings |= {'PRESET': 'tiny', 'EPOCHS': '2', 'BATCH_SIZE_PER_REPLICA': '25'}
                settings |= {'FRAMING': 'whole'}
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
    assert [process.returncode for process in processes] == [0, 0], said
    assert 'training on 2 replicas: 50 images a step' in said[0][1]
    (version,) = (var / 'serving_model' / 'capsnet').iterdir()
    assert (version / 'saved_model.pb').exists()
