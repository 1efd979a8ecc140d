"""What `kubectl apply -k` would send to a cluster."""

import re
import subprocess
import urllib.parse

import kubeflow_lint
import pytest
import yaml
from project_paths import ROOT
from rest_server import request, rest_server
from saved_models import half_plus_two

from kubeflow import cluster
from pipeline import configs
from serving.config_files import read_model_config

pytestmark = pytest.mark.slow

FOLDERS = ('base', 'serving', 'kserve', 'workers')
_VAR = '/var/capsnet'
_SERVING = ROOT / 'serving/config'


@pytest.fixture(scope='module')
def texts():
    return {folder: kubeflow_lint.rendered(folder) for folder in FOLDERS}


@pytest.fixture(scope='module')
def resources(texts):
    """All resources by kind and name."""
    return {
        (resource['kind'], resource['metadata']['name']): resource
        for text in texts.values()
        for resource in yaml.safe_load_all(text)
    }


def _templates(resources):
    """The template of each pod that is started, by the names of its resource."""
    found = {}
    for (kind, name), resource in resources.items():
        if kind == 'TFJob':
            for role, replica in resource['spec']['tfReplicaSpecs'].items():
                found[kind, name, role] = replica['template']
        elif 'template' in resource.get('spec', {}):
            found[kind, name] = resource['spec']['template']
    return found


def _walk(value):
    yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _walk(part)


def test_every_field_is_one_that_kubernetes_knows(texts):
    assert kubeflow_lint.mistakes('---\n'.join(texts.values())) == []


# Each mistake: a folder, a text in its manifests, what replaces the text, and the message.
_WRONG = [
    ('base', 'accessModes', 'accesModes', "'accesModes' was unexpected"),
    ('serving', 'readinessProbe', 'readynessProbe', "'readynessProbe' was unexpected"),
    ('serving', 'kind: Deployment', 'kind: Deploymnt', 'schema for kind Deploymnt'),
    ('kserve', 'runtimeVersion', 'runtimVersion', 'model has no field runtimVersion'),
    ('kserve', 'runAsNonRoot', 'runAsNoRoot', 'securityContext has no field runAsNoRoot'),
    ('kserve', 'modelFormat', 'modelFormt', '`model_format`, must not be `None`'),
    ('workers', 'cleanPodPolicy', 'cleanPods', 'runPolicy has no field cleanPods'),
    ('workers', 'mountPath', 'mountpath', '`mount_path`, must not be `None`'),
    ('workers', 'replicas: 1', "replicas: '1'", "Worker.replicas cannot be '1'"),
]


def test_wrong_fields_are_found(texts):
    broken = [texts[folder].replace(right, wrong) for folder, right, wrong, _ in _WRONG]
    said = kubeflow_lint.mistakes('---\n'.join(broken))
    for *_, expected in _WRONG:
        assert any(expected in line for line in said), (expected, said)


def test_containers_are_confined(resources):
    templates = _templates(resources)
    predictor = resources['InferenceService', 'capsnet']['spec']['predictor']
    pods = {name: template['spec'] for name, template in templates.items()}
    pods['InferenceService'] = {**predictor, 'containers': [predictor['model']]}
    assert len(pods) == 7
    for name, pod in pods.items():
        (container,) = pod['containers']
        context = {**pod['securityContext'], **container['securityContext']}
        assert context['seccompProfile'] == {'type': 'RuntimeDefault'}
        assert context['allowPrivilegeEscalation'] is False
        assert context['readOnlyRootFilesystem'] is True
        assert context['capabilities']['drop'] == ['ALL']
        assert pod['automountServiceAccountToken'] is False
        assert {'memory'} <= container['resources']['limits'].keys()
        if name == ('Job', 'capsnet-var-owner'):
            assert (context['runAsUser'], context['capabilities']['add']) == (0, ['CHOWN'])
        else:
            assert context['runAsNonRoot'] is True
            assert context['runAsUser'] > 0
            assert 'add' not in context['capabilities']


def test_images_are_pinned_and_the_projects_own_are_named_in_one_place(resources):
    (own,) = {
        image['newName']
        for image in yaml.safe_load(
            (ROOT / 'kubeflow/manifests/image/kustomization.yaml').read_text()
        )['images']
    }
    images = {
        container['image']
        for template in _templates(resources).values()
        for container in template['spec']['containers']
    }
    assert {image for image in images if image.startswith(own)} == {
        f'{own}:0.1.0',
        f'{own}:0.1.0-gpu',
    }
    for image in images:
        assert re.search(r':\d+\.\d+\.\d+(-gpu)?$', image)
    served = resources['InferenceService', 'capsnet']['spec']['predictor']['model']
    assert f'docker.io/tensorflow/serving:{served["runtimeVersion"]}' in images
    compose = yaml.safe_load((_SERVING / 'docker-compose.yml').read_text())
    assert f'docker.io/{compose["services"]["serving"]["image"]}' in images


def test_what_is_named_is_there(resources):
    claims = {name for kind, name in resources if kind == 'PersistentVolumeClaim'}
    config_maps = {name for kind, name in resources if kind == 'ConfigMap'}
    templates = _templates(resources)
    for template in templates.values():
        pod = template['spec']
        mine = {
            claim['metadata']['name']
            for resource in resources.values()
            for claim in resource.get('spec', {}).get('volumeClaimTemplates', ())
        }
        volumes = {volume['name'] for volume in pod.get('volumes', ())} | mine
        for volume in pod['volumes']:
            if 'persistentVolumeClaim' in volume:
                assert volume['persistentVolumeClaim']['claimName'] in claims
            if 'configMap' in volume:
                assert volume['configMap']['name'] in config_maps
        for container in pod['containers']:
            assert {mount['name'] for mount in container['volumeMounts']} <= volumes
            ports = {port['name'] for port in container.get('ports', ())}
            for value in _walk(container):
                if isinstance(value, dict) and isinstance(value.get('port'), str):
                    assert value['port'] in ports
    labels = [template['metadata']['labels'].items() for template in templates.values()]
    # What KServe gives the pods of an InferenceService.
    labels += [
        {'serving.kserve.io/inferenceservice': name}.items()
        for kind, name in resources
        if kind == 'InferenceService'
    ]
    for (kind, _), resource in resources.items():
        if kind == 'Service':
            (fitting,) = [each for each in labels if resource['spec']['selector'].items() <= each]
            assert fitting
        if kind == 'NetworkPolicy' and 'matchLabels' in resource['spec']['podSelector']:
            selected = resource['spec']['podSelector']['matchLabels']
            assert any(selected.items() <= each for each in labels)
    alone = resources['NetworkPolicy', 'capsnet-alone']['spec']['podSelector']['matchExpressions']
    for name in alone[0]['values']:
        assert any(('app.kubernetes.io/name', name) in each for each in labels)


def test_a_model_asks_nobody(resources):
    served = [
        resource['spec']
        for (kind, name), resource in resources.items()
        if kind == 'NetworkPolicy' and name in ('capsnet-serving', 'capsnet-kserve')
    ]
    assert len(served) == 2
    for policy in served:
        assert set(policy['policyTypes']) == {'Ingress', 'Egress'}
        assert 'egress' not in policy
        assert all(rule['from'] and rule['ports'] for rule in policy['ingress'])


def test_the_claim_the_database_and_its_secret_are_those_of_the_pipelines_tasks(resources):
    settings = cluster.load()
    assert settings.volumes == {'capsnet-var': _VAR}
    assert settings.var == _VAR
    assert ('PersistentVolumeClaim', 'capsnet-var') in resources
    address = urllib.parse.urlsplit(settings.metadata)
    service = resources['Service', address.hostname]
    assert [port['port'] for port in service['spec']['ports']] == [address.port]
    template = resources['StatefulSet', 'capsnet-mysql']['spec']['template']
    (container,) = template['spec']['containers']
    environment = {each['name']: each for each in container['env']}
    assert environment['MARIADB_DATABASE']['value'] == address.path.strip('/')
    ((secret, keys),) = settings.secrets.items()
    for variable, key in (('MARIADB_USER', 'username'), ('MARIADB_PASSWORD', 'password')):
        reference = environment[variable]['valueFrom']['secretKeyRef']
        assert reference == {'name': secret, 'key': key}
        assert key in keys
    job = resources['TFJob', 'capsnet-workers']['spec']['tfReplicaSpecs']['Chief']
    chief = {each['name']: each for each in job['template']['spec']['containers'][0]['env']}
    assert chief['METADATA']['value'] == settings.metadata
    for key, variable in keys.items():
        assert chief[variable]['valueFrom']['secretKeyRef'] == {'name': secret, 'key': key}


def test_finished_jobs_make_way_for_a_new_image_after_the_guide_has_waited_for_them(resources):
    jobs = [resource['spec'] for (kind, _), resource in resources.items() if kind == 'Job']
    assert len(jobs) == 1
    for job in jobs:
        assert job['activeDeadlineSeconds'] <= job['ttlSecondsAfterFinished'] <= 86400


def test_probes_of_mysql_read_the_login_that_its_entrypoint_writes(resources):
    template = resources['StatefulSet', 'capsnet-mysql']['spec']['template']
    (container,) = template['spec']['containers']
    (folder,) = [
        arg.removeprefix('--datadir=') for arg in container['args'] if arg.startswith('--datadir=')
    ]
    for probe in ('startupProbe', 'readinessProbe'):
        program, login, *checks = container[probe]['exec']['command']
        assert program == 'healthcheck.sh'
        assert login == f'--defaults-extra-file={folder}/.my-healthcheck.cnf'
        assert checks == ['--connect', '--innodb_initialized']


def test_folders_are_those_of_the_settings(resources, tmp_path):
    config = configs.from_preset('quick', var=_VAR)
    (tensorboard,) = resources['Deployment', 'capsnet-tensorboard']['spec']['template']['spec'][
        'containers'
    ]
    assert f'--logdir={config.tensorboard_dir}' in tensorboard['args']
    file = tmp_path / 'models.config'
    file.write_text(resources['ConfigMap', 'capsnet-models']['data']['models.config'])
    (model,) = read_model_config(str(file)).model_config_list.config
    assert (model.name, model.base_path) == (config.pipeline_name, config.serving_model_dir)
    storage = resources['InferenceService', 'capsnet']['spec']['predictor']['model']['storageUri']
    assert storage.replace('pvc://capsnet-var', _VAR) == config.serving_model_dir
    (worker,) = resources['TFJob', 'capsnet-workers']['spec']['tfReplicaSpecs']['Worker'][
        'template'
    ]['spec']['containers']
    request = f'{config.checkpoint_dir}/request.json'.replace(_VAR, '$VAR')
    assert f'"{request}"' in worker['args'][0]


def test_settings_of_the_server_are_those_for_docker(resources):
    ((name, settings),) = [
        (name, resource['data'])
        for (kind, name), resource in resources.items()
        if kind == 'ConfigMap' and name != 'capsnet-models'
    ]
    assert settings == {
        file: (_SERVING / file).read_text() for file in ('batching.config', 'monitoring.config')
    }
    pod = resources['Deployment', 'capsnet-serving']['spec']['template']['spec']
    (volume,) = [each for each in pod['volumes'] if each['name'] == 'config']
    assert volume['configMap']['name'] == name
    compose = yaml.safe_load((_SERVING / 'docker-compose.yml').read_text())
    (container,) = pod['containers']
    assert set(compose['services']['serving']['command']) <= set(container['args'])


def test_canary_is_one_version_and_its_part_of_the_requests(resources, tmp_path):
    text = kubeflow_lint.rendered('kserve-canary')
    assert kubeflow_lint.mistakes(text) == []
    wrong = text.replace('canaryTrafficPercent', 'canaryTrafficPercentage')
    (said,) = kubeflow_lint.mistakes(wrong)
    assert 'predictor has no field canaryTrafficPercentage' in said
    kinds = {each['kind']: each for each in yaml.safe_load_all(text)}
    assert kinds['NetworkPolicy'] == resources['NetworkPolicy', 'capsnet-kserve']
    predictor = kinds['InferenceService']['spec']['predictor']
    assert predictor.pop('canaryTrafficPercent') == 10
    (volume,) = predictor.pop('volumes')
    assert ('PersistentVolumeClaim', volume['persistentVolumeClaim']['claimName']) in resources
    model = predictor['model']
    (mount,) = model.pop('volumeMounts')
    assert mount['name'] == volume['name']
    folder, version = mount['mountPath'].rsplit('/', 1)
    config = configs.from_preset('quick', var=_VAR)
    assert f'{_VAR}/{mount["subPath"]}' == f'{config.serving_model_dir}/{version}'
    whole = resources['InferenceService', 'capsnet']['spec']['predictor']
    first, own = model.pop('args')
    assert first in whole['model']['args']
    assert own == f'--model_base_path={folder}'
    # All else is that of the service that serves the newest version.
    left = {name: value for name, value in whole['model'].items() if name != 'args'}
    del left['storageUri']
    assert predictor == {**whole, 'model': left}
    half_plus_two(str(tmp_path), int(version))
    flags = ('--model_base_path=/mnt/models', own.replace(folder, str(tmp_path)))
    with rest_server('--model_name=capsnet', *flags) as url:
        assert f'"version": "{version}"' in request('GET', url)[2]


def test_flags_mounts_and_probes_of_the_server_fit_together(resources, tmp_path):
    """Our server takes TensorFlow Serving's place, with folders here for those of the mounts."""
    pod = resources['Deployment', 'capsnet-serving']['spec']['template']['spec']
    (container,) = pod['containers']
    (models,) = resources['ConfigMap', 'capsnet-models']['data'].items()
    (tmp_path / models[0]).write_text(models[1].replace(_VAR, str(tmp_path)))
    half_plus_two(str(tmp_path / 'serving_model' / 'capsnet'), 5)
    folders = {'models-config': tmp_path, 'config': _SERVING}
    outside = {
        mount['mountPath']: folders[mount['name']]
        for mount in container['volumeMounts']
        if mount['name'] in folders
    }
    assert all(
        mount.get('readOnly') for mount in container['volumeMounts'] if mount['name'] != 'tmp'
    )
    flags = []
    for flag in container['args']:
        name, value = flag.split('=')
        if name not in ('--port', '--rest_api_port'):  # ours speaks no gRPC and takes a free port
            folder, _, file = value.rpartition('/')
            flags.append(f'{name}={outside[folder]}/{file}' if folder else flag)
    ports = {port['name']: port['containerPort'] for port in container['ports']}
    assert f'--rest_api_port={ports["http"]}' in container['args']
    assert f'--port={ports["grpc"]}' in container['args']
    path = container['startupProbe']['httpGet']['path']
    assert container['livenessProbe']['httpGet']['path'] == path
    check = container['readinessProbe']['exec']['command']
    with rest_server(*flags) as url:
        assert url.endswith(path)
        address = url.split('/')[2].replace(':', '/')
        asked = [part.replace('127.0.0.1/8501', address) for part in check]
        assert subprocess.run(asked, check=False, timeout=20).returncode == 0
        missing = [part.replace('capsnet', 'other') for part in asked]
        assert subprocess.run(missing, check=False, timeout=20).returncode == 1
