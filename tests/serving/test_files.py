"""The files for TensorFlow Serving in docker, put to the test on our server."""

import subprocess

import pytest
import yaml
from project_paths import ROOT
from rest_server import request, rest_server
from saved_models import half_plus_two

from serving.config_files import (
    read_batching_parameters,
    read_model_config,
    read_monitoring_config,
)

SERVING = ROOT / 'serving' / 'config'


@pytest.fixture(scope='module')
def service():
    return yaml.safe_load((SERVING / 'docker-compose.yml').read_text())['services']['serving']


def test_files_can_be_read():
    (model,) = read_model_config(str(SERVING / 'models.config')).model_config_list.config
    assert (model.name, model.base_path) == ('capsnet', '/models/capsnet')
    batching = read_batching_parameters(str(SERVING / 'batching.config'))
    assert (batching.max_batch_size, batching.batch_timeout_micros) == (64, 0)
    assert batching.num_batch_threads == 1
    path = read_monitoring_config(str(SERVING / 'monitoring.config'))
    assert path == '/monitoring/prometheus/metrics'


def test_the_service_is_confined(service):
    image, _, version = service['image'].partition(':')
    assert image == 'tensorflow/serving'
    assert len(version.split('.')) == 3
    assert all(mount.endswith(':ro') for mount in service['volumes'])
    assert all(port.startswith('127.0.0.1:') for port in service['ports'])
    assert service['read_only']
    assert service['cap_drop'] == ['ALL']
    assert {'mem_limit', 'cpus', 'pids_limit'} <= service.keys()


def test_flags_mounts_and_health_check_fit_together(service, tmp_path):
    """Our server takes the service's own command, with the places that the mounts stand for."""
    half_plus_two(str(tmp_path / 'models' / 'capsnet'), 5)
    config = (SERVING / 'models.config').read_text().replace('/models', f'{tmp_path}/models')
    (tmp_path / 'models.config').write_text(config)
    outside = {'/models_config': tmp_path, '/config': SERVING}
    assert [mount.split(':')[-2] for mount in service['volumes']] == [
        '-/models/capsnet}',
        *outside,
    ]
    flags = []
    for flag in service['command']:
        name, value = flag.split('=')
        if name != '--rest_api_port':
            folder, _, file = value.rpartition('/')
            flags.append(f'{name}={outside[folder]}/{file}' if folder else flag)
    kind, *check = service['healthcheck']['test']
    assert kind == 'CMD'
    with rest_server(*flags) as url:
        address = url.split('/')[2].replace(':', '/')
        check = [
            part.replace('127.0.0.1/8501', address).replace('${MODEL_NAME:-capsnet}', 'capsnet')
            for part in check
        ]
        assert subprocess.run(check, check=False, timeout=20).returncode == 0
        missing = [part.replace('capsnet', 'other') for part in check]
        assert subprocess.run(missing, check=False, timeout=20).returncode == 1
        metrics = url.split('/v1/')[0] + '/monitoring/prometheus/metrics'
        assert ':tensorflow:serving:request_count' in request('GET', metrics)[2]
    # Nobody listens any more.
    done = subprocess.run(check, capture_output=True, check=False, timeout=20)
    assert done.returncode != 0
