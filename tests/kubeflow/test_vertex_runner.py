"""The pipeline compiled for Vertex AI by the real tfx command, which asks nobody for that."""

import json
import os
import subprocess
import sys

import pytest

from capsmodel.networks.settings import CapsNetConfig
from pipeline import configs

pytestmark = pytest.mark.slow

_GPU = 'nodes: {Trainer: {gpus: 2, gpu_type: NVIDIA_L4}}\ngpu_image: there/capsnet:1-gpu\n'


@pytest.fixture
def tfx(root, mnist_dir, tmp_path):
    """Compiles with settings; gives the finished process and what it has compiled."""
    (tmp_path / 'var').mkdir()
    (tmp_path / 'var' / 'data').symlink_to(mnist_dir)
    (tmp_path / 'cluster.yaml').write_text(f'image: there/capsnet:1\n{_GPU}')
    settings = {name.upper() for name in configs.Config.__dataclass_fields__}

    def compile_with(**environment):
        home = tmp_path / 'tfx'
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'start_tensorflow', 'tfx', 'pipeline', 'create'),
                *('--engine=vertex', f'--pipeline_path={root}/kubeflow/vertex_runner.py'),
            ],
            cwd=tmp_path,
            env={
                **{name: value for name, value in os.environ.items() if name not in settings},
                'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
                'HOME': str(tmp_path),
                'PYTHONWARNINGS': 'ignore',
                'TF_CPP_MIN_LOG_LEVEL': '3',
                'VERTEX_HOME': str(home),
                'VAR': str(tmp_path / 'var'),
                'PIPELINE_ROOT': 'gs://bucket/root',
                'CLUSTER': str(tmp_path / 'cluster.yaml'),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        compiled = [json.loads(file.read_text()) for file in home.glob('*/pipeline.json')]
        return done, compiled[0] if compiled else None

    return compile_with


def test_the_whole_pipeline_is_compiled(tfx, tmp_path):
    done, job = tfx(EPOCHS='7')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'Pipeline "capsnet" created successfully.' in done.stdout
    assert job['runtimeConfig']['gcsOutputDirectory'] == 'gs://bucket/root'
    spec = job['pipelineSpec']
    tasks = spec['root']['dag']['tasks']
    order = {name: set(task.get('dependentTasks', ())) for name, task in tasks.items()}
    assert {'AnomalyGate', 'TfdsExampleGen'} < order['Transform']
    assert order['Pusher'] == {'Evaluator', 'InfraCheck', 'ModelCard', 'Trainer'}
    assert order['Evaluator'] >= {'BaselineResolver-model-resolver', 'Trainer'}
    executors = spec['deploymentSpec']['executors']
    containers = {
        name.removesuffix('_executor'): executor['container']
        for name, executor in executors.items()
        if 'container' in executor
    }
    # Vertex AI has no strategy that finds the statistics of an earlier run.
    assert 'RunComparison' not in order
    assert len(containers) == 15
    assert containers['Pusher']['image'] == 'there/capsnet:1'
    assert 'resources' not in containers['Pusher']
    assert containers['Trainer']['image'] == 'there/capsnet:1-gpu'
    assert containers['Trainer']['resources']['accelerator'] == {'type': 'NVIDIA_L4', 'count': '2'}
    # No task needs a driver, which only files that TFX imports by itself do.
    assert all('lifecycle' not in container for container in containers.values())
    parameters = tasks['Trainer']['inputs']['parameters']
    settings = json.loads(parameters['custom_config']['runtimeValue']['constant'])
    assert settings['training']['epochs'] == 7
    assert settings['checkpoint_root'] == str(tmp_path / 'var/checkpoints/capsnet')
    assert CapsNetConfig(**settings['network']).num_classes == 10


def test_what_vertex_would_refuse_is_refused_before(tfx):
    done, job = tfx(PIPELINE_ROOT='')
    assert done.returncode == 1
    assert 'on Vertex AI it must be gs://BUCKET/FOLDER' in done.stderr
    assert job is None
    done, job = tfx(IMAGES='pets')
    assert "pets': on Vertex AI it must be gs://BUCKET/FOLDER" in done.stderr
    assert job is None
    done, job = tfx(PIPELINE_NAME='Caps_Net')
    assert done.returncode == 1
    assert "PIPELINE_NAME is 'Caps_Net'" in done.stderr
    assert job is None
