import concurrent.futures

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import cluster, runner, submit
from pipeline import configs, run_node

_SETTINGS = {
    'PRESET': 'tiny',
    'EPOCHS': '4',
    'CAPSNET_EPOCHS': '5',
    'METADATA_PASSWORD': 'hidden',
}

_CLUSTER = """
image_pull_secrets: [registry]
image_pull_policy: IfNotPresent
secret_files: {bucket-key: /keys}
environment: {AWS_REGION: eu-central-1}
nodes:
  Trainer:
    cpu_limit: '8'
    gpus: 2
    node_selector: {accelerator: h100}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    retries: 7
    retry_wait: 5
    timeout: 600
  Pusher:
    memory_limit: ''
    tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 0}]
"""


def _compile(*arguments):
    """Compiles in a thread: kfp looks for the module of each caller, and pytest's are many."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(runner.compile_pipeline, *arguments).result()


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp('cluster') / 'mine.yaml'
    path.write_text(_CLUSTER)
    return cluster.load(path)


@pytest.fixture(scope='module')
def compiled(settings, tmp_path_factory):
    path = tmp_path_factory.mktemp('compiled') / 'capsnet.yaml'
    _compile(path, settings, _SETTINGS)
    return path


@pytest.fixture(scope='module')
def spec(compiled):
    return next(yaml.safe_load_all(compiled.read_text()))


@pytest.fixture(scope='module')
def platform(compiled):
    _, platform = yaml.safe_load_all(compiled.read_text())
    return platform


def _container(spec, node):
    return spec['deploymentSpec']['executors'][f'exec-{node}']['container']


def test_each_node_is_a_task_in_the_order_of_the_graph(spec):
    tasks = spec['root']['dag']['tasks']
    after = {
        task['taskInfo']['name']: sorted(
            tasks[each]['taskInfo']['name'] for each in task.get('dependentTasks', [])
        )
        for task in tasks.values()
    }
    assert after == {
        'PrepareDataset': [],
        'ImportSchemaGen': ['PrepareDataset'],
        'TfdsExampleGen': ['PrepareDataset'],
        'StatisticsGen': ['TfdsExampleGen'],
        'ExampleValidator': ['ImportSchemaGen', 'StatisticsGen'],
        'SplitComparison': ['StatisticsGen'],
        'EarlierStatistics': ['StatisticsGen'],
        'RunComparison': ['EarlierStatistics', 'StatisticsGen'],
        'AnomalyGate': [
            *('ExampleValidator', 'RunComparison', 'SplitComparison', 'StatisticsGen'),
            'TfdsExampleGen',
        ],
        'Transform': ['AnomalyGate', 'ImportSchemaGen', 'TfdsExampleGen'],
        'Trainer': ['ImportSchemaGen', 'Transform'],
        'BaselineResolver': ['Trainer'],
        'PictureKinds': ['AnomalyGate', 'TfdsExampleGen'],
        'Evaluator': ['BaselineResolver', 'PictureKinds', 'Trainer'],
        'ModelCard': ['Evaluator', 'TfdsExampleGen', 'Trainer'],
        'EvaluationGate': ['Evaluator', 'ModelCard'],
        'InfraCheck': ['EvaluationGate', 'Trainer'],
        'Pusher': ['Evaluator', 'InfraCheck', 'ModelCard', 'Trainer'],
        'CheckpointRemoval': ['Pusher'],
    }
    assert not any(task['cachingOptions'] for task in tasks.values())


def test_settings_are_parameters_of_the_run_or_fixed(spec):
    parameters = spec['root']['inputDefinitions']['parameters']
    assert parameters['epochs']['defaultValue'] == '5'
    assert parameters['preset']['defaultValue'] == 'tiny'
    assert parameters['learning_rate']['defaultValue'] == ''  # the preset's
    every = {field.upper() for field in configs.Config.__dataclass_fields__}
    assert {name.upper() for name in parameters} == every - {
        *('NETWORK', 'IMAGES', 'DATASET', 'DATASET_VERSION', 'FRAMING'),
        *('TUNER', 'WARM_START', 'PIPELINE_NAME'),
        *('VAR', 'METADATA', 'PIPELINE_ROOT'),
    }
    container = _container(spec, 'trainer')
    assert container['command'] == ['python', '-m', 'pipeline.run_node']
    assert container['args'][:4] == [
        *('--node', 'Trainer', '--run_id', "{{$.inputs.parameters['run_id']}}")
    ]
    assert "EPOCHS={{$.inputs.parameters['epochs']}}" in container['args']
    assert {each['name']: each['value'] for each in container['env']} == {
        'PRESET': 'tiny',
        'NETWORK': 'capsnet',
        'DATASET': 'mnist',
        'FRAMING': configs.from_preset('tiny').framing,
        'TUNER': 'no',
        'WARM_START': 'no',
        'VAR': '/var/capsnet',
        'METADATA': 'mysql://capsnet-mysql:3306/capsnet_metadata',
        'AWS_REGION': 'eu-central-1',
    }


def _without_what_newer_kfp_adds(found, expected):
    """Newer versions of kfp say the same once more, by fields that older clusters do not know."""
    if isinstance(expected, dict):
        return {
            name: _without_what_newer_kfp_adds(value, expected.get(name))
            for name, value in found.items()
            if name in expected or not _added(name)
        }
    if isinstance(expected, list):
        return [_without_what_newer_kfp_adds(*pair) for pair in zip(found, expected, strict=True)]
    return found


def _added(name):
    return name.startswith('resource') or name.endswith('Parameter') or name == 'optional'


def test_resources(spec, platform):
    trainer = _container(spec, 'trainer')
    assert trainer['image'] == 'capsnet:latest-gpu'
    assert _container(spec, 'pusher')['image'] == 'capsnet:latest'
    expected = {
        'accelerator': {'count': '2', 'type': 'nvidia.com/gpu'},
        'cpuLimit': 8.0,
        'cpuRequest': 4.0,
        'memoryLimit': 8 * 1.024**3,
        'memoryRequest': 4 * 1.024**3,
    }
    assert _without_what_newer_kfp_adds(trainer['resources'], expected) == expected
    assert spec['root']['dag']['tasks']['trainer']['retryPolicy'] == {
        'backoffDuration': '5s',
        'backoffFactor': 2.0,
        'backoffMaxDuration': '600s',
        'maxRetryCount': 7,
    }
    executors = platform['platforms']['kubernetes']['deploymentSpec']['executors']
    expected = {
        'activeDeadlineSeconds': '600',
        'imagePullPolicy': 'IfNotPresent',
        'imagePullSecret': [{'secretName': 'registry'}],
        'nodeSelector': {'labels': {'accelerator': 'h100'}},
        'pvcMount': [{'constant': 'capsnet-var', 'mountPath': '/var/capsnet'}],
        'secretAsEnv': [
            {
                'keyToEnv': [
                    {'envVar': 'METADATA_USER', 'secretKey': 'username'},
                    {'envVar': 'METADATA_PASSWORD', 'secretKey': 'password'},
                ],
                'secretName': 'capsnet-mysql',
            }
        ],
        'secretAsVolume': [{'mountPath': '/keys', 'secretName': 'bucket-key'}],
        'tolerations': [{'effect': 'NoSchedule', 'key': 'nvidia.com/gpu', 'operator': 'Exists'}],
    }
    assert _without_what_newer_kfp_adds(executors['exec-trainer'], expected) == expected
    assert executors['exec-pusher']['tolerations'] == [
        {'effect': 'NoExecute', 'operator': 'Exists', 'tolerationSeconds': '0'}
    ]
    assert 'tolerations' not in executors['exec-evaluator']
    pusher = _container(spec, 'pusher')['resources']
    assert pusher['memoryRequest'] == 2 * 1.024**3
    assert 'memoryLimit' not in pusher


def test_file_is_what_kubeflow_pipelines_reads(compiled, spec, platform):
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform['platforms']['kubernetes']['deploymentSpec']['executors']
    newer = {'activeDeadlineSeconds', 'imagePullPolicy', 'imagePullSecret', 'tolerations'}
    for executor in executors.values():
        known = {name: value for name, value in executor.items() if name not in newer}
        json_format.ParseDict(known, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    component = components.load_component_from_text(compiled.read_text())
    assert component.name == 'capsnet-tiny'
    assert 'epochs' in component.component_spec.inputs


def test_same_settings_give_the_same_bytes_and_no_secret(compiled, settings, tmp_path):
    _compile(tmp_path / 'again.yaml', settings, _SETTINGS)
    assert (tmp_path / 'again.yaml').read_bytes() == compiled.read_bytes()
    assert b'hidden' not in compiled.read_bytes()
    assert str(tmp_path.parent.parent).encode() not in compiled.read_bytes()


def test_settings_that_change_the_graph(tmp_path):
    path = tmp_path / 'capsnet.yaml'
    _compile(path, cluster.load(), {'TUNER': 'yes', 'WARM_START': 'yes'})
    spec = next(yaml.safe_load_all(path.read_text()))
    tasks = spec['root']['dag']['tasks']
    assert tasks['trainer']['dependentTasks'] == [
        *('import-schema-gen', 'transform', 'tuner', 'warm-start-resolver')
    ]
    assert {'name': 'TUNER', 'value': 'yes'} in _container(spec, 'pusher')['env']


def test_a_folder_of_pictures_need_not_be_here(tmp_path):
    path = tmp_path / 'capsnet.yaml'
    _compile(path, cluster.load(), {'IMAGES': 'gs://bucket/pets'})
    spec = next(yaml.safe_load_all(path.read_text()))
    tasks = spec['root']['dag']['tasks']
    assert tasks['image-folder-example-gen']['dependentTasks'] == ['prepare-dataset']
    assert 'tfds-example-gen' not in tasks
    environment = {each['name']: each['value'] for each in _container(spec, 'trainer')['env']}
    assert environment['IMAGES'] == 'gs://bucket/pets'
    assert 'DATASET' not in environment
    assert spec['root']['inputDefinitions']['parameters']['preset']['defaultValue'] == 'folder'
    arguments = submit.Compiled(path).arguments({'EPOCHS': '3', 'IMAGES': 'gs://bucket/pets/'})
    assert arguments == {'epochs': '3'}


def test_members_of_an_ensemble_need_not_be_here(tmp_path):
    path = tmp_path / 'capsnet.yaml'
    members = '/var/capsnet/serving_model/capsnet,gs://bucket/cnn'
    _compile(path, cluster.load(), {'NETWORK': 'ensemble', 'MEMBERS': members})
    spec = next(yaml.safe_load_all(path.read_text()))
    assert spec['root']['inputDefinitions']['parameters']['members']['defaultValue'] == members
    assert 'trainer' in spec['root']['dag']['tasks']
    assert {'name': 'NETWORK', 'value': 'ensemble'} in _container(spec, 'trainer')['env']
    here = '/var/capsnet/a,var/b'
    compiled_before = submit.Compiled(path)
    for refused in (
        lambda: runner.compile_pipeline(
            path, cluster.load(), {'NETWORK': 'ensemble', 'MEMBERS': here}
        ),
        lambda: compiled_before.arguments({'MEMBERS': here}),
    ):
        with pytest.raises(
            configs.SettingError, match='such as /var/capsnet/var/b, or in a bucket'
        ):
            refused()
    with pytest.raises(configs.SettingError, match="IMAGES is 'pets': on a cluster, it must name"):
        runner.compile_pipeline(path, cluster.load(), {'IMAGES': 'pets'})
    with pytest.raises(
        configs.SettingError, match='ensemble, which is not trained: leave out TUNER'
    ):
        runner.compile_pipeline(path, cluster.load(), {'NETWORK': 'ensemble', 'TUNER': 'yes'})


def test_wrong_settings_are_refused(settings, tmp_path):
    with pytest.raises(configs.SettingError, match="EPOCHS is '0'"):
        runner.compile_pipeline(tmp_path / 'x.yaml', settings, {'EPOCHS': '0'})
    other = tmp_path / 'other.yaml'
    other.write_text('nodes: {Trianer: {gpus: 1}}')
    with pytest.raises(configs.SettingError, match='resources for Trianer, but the nodes are Prep'):
        runner.compile_pipeline(tmp_path / 'x.yaml', cluster.load(other), {})
    assert not (tmp_path / 'x.yaml').exists()


def test_name_of_the_first_task_is_no_nodes(spec):
    assert run_node.PREPARE_DATASET == 'PrepareDataset'
    assert _container(spec, 'prepare-dataset')['args'][1] == run_node.PREPARE_DATASET
