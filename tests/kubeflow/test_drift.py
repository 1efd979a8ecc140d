"""The compiled check for drift."""

import concurrent.futures
import subprocess
import sys

import outer_environment
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import cluster, drift
from pipeline import configs


@pytest.fixture(scope='module')
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp('compiled') / 'drift.yaml'
    mine = tmp_path_factory.mktemp('cluster') / 'mine.yaml'
    mine.write_text('nodes: {DriftCheck: {memory_limit: 3Gi, timeout: 600}}')
    # In a thread: kfp looks for the module of each caller, and pytest's are many.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        settings = {'PRESET': 'tiny', 'METADATA_PASSWORD': 'hidden'}
        thread.submit(drift.compile_drift_check, path, cluster.load(mine), settings).result()
    assert 'hidden' not in path.read_text()
    return [*yaml.safe_load_all(path.read_text())]


def test_it_is_one_task_that_is_neither_cached_nor_tried_again(documents):
    spec, _ = documents
    assert spec['pipelineInfo']['name'] == 'capsnet-tiny-drift'
    ((_, task),) = spec['root']['dag']['tasks'].items()
    assert task['taskInfo']['name'] == 'DriftCheck'
    assert 'retryPolicy' not in task
    assert not task['cachingOptions']
    assert {*spec['root']['inputDefinitions']['parameters']} == {'requests', 'models'}


def test_it_runs_the_check_on_the_volume_with_the_settings_of_the_pipeline(documents):
    spec, platform = documents
    ((_, executor),) = spec['deploymentSpec']['executors'].items()
    container = executor['container']
    assert container['command'] == ['python', '-m', 'pipeline.drift']
    environment = {each['name']: each['value'] for each in container['env']}
    assert environment['VAR'] == '/var/capsnet'
    assert configs.from_environment(environment).pipeline_name == 'capsnet-tiny'
    ((_, on_kubernetes),) = platform['platforms']['kubernetes']['deploymentSpec'][
        'executors'
    ].items()
    assert on_kubernetes['activeDeadlineSeconds'] == '600'
    ((volume),) = on_kubernetes['pvcMount']
    assert volume['mountPath'] == '/var/capsnet'


def test_the_file_is_what_kubeflow_pipelines_reads(documents):
    spec, platform = documents
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())


@pytest.mark.parametrize('given', ['', '/somewhere'])
def test_the_command_takes_the_folders_of_the_run(documents, root, tmp_path, given):
    spec, _ = documents
    ((_, executor),) = spec['deploymentSpec']['executors'].items()
    values = {'requests': given, 'models': given}
    arguments = []
    for text in executor['container']['args']:
        for name, value in values.items():
            text = text.replace(f"{{{{$.inputs.parameters['{name}']}}}}", value)  # noqa: PLW2901
        arguments.append(text)
    assert not any('{{' in text for text in arguments)
    done = subprocess.run(
        [sys.executable, *executor['container']['command'][1:], *arguments],
        cwd=root,
        env={**outer_environment.without_settings(), 'VAR': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    said = f'No request was kept in {given}' if given else f'No model is pushed to {tmp_path}'
    assert said in done.stderr
