"""The compiled pipeline, executed as Kubeflow Pipelines would, on one ML Metadata store in MariaDB.

The tests stand in the order of a story, on one volume that is empty at the beginning.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections import Counter

import mariadb
import ml_metadata as mlmd
import numpy as np
import plain_tensorflow
import pytest
import tensorflow_datasets as tfds
import yaml
from beam_job_service import beam_job_service
from kfp_backend import FAILED, SUCCEEDED, Backend, kill
from ml_metadata.proto import metadata_store_pb2

from pipeline import configs, metadata

pytestmark = pytest.mark.slow
_after_the_first_run = pytest.mark.goes_on_from(
    'test_empty_volume_to_pushed_model_with_a_training_that_is_killed'
)

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED

# Many checkpoints, so that there is one soon.
_OF_THE_FIRST_RUN = {'epochs': '5', 'checkpoint_steps': '5'}

# Learns nothing.
_REJECTED = {'epochs': '1', 'learning_rate': '0'}


class Cluster:
    """A cluster on this machine: a volume, a database, and the pipeline uploaded."""

    def __init__(self, root, folder, port):
        self.var = folder / 'volume'
        self.var.mkdir()
        self.config = configs.from_preset(
            'tiny',
            var=str(self.var),
            metadata=f'mysql://127.0.0.1:{port}/{mariadb.DATABASE}',
        )
        settings = folder / 'cluster.yaml'
        settings.write_text(
            yaml.safe_dump(
                {
                    'var': str(self.var),
                    'volumes': {'capsnet-var': str(self.var)},
                    'metadata': self.config.metadata,
                    'defaults': {'retries': 1},
                }
            )
        )
        names = {name.upper() for name in configs.Config.__dataclass_fields__}
        others = {name: value for name, value in os.environ.items() if name not in names}
        compiled = folder / 'capsnet.yaml'
        subprocess.run(
            [
                *(sys.executable, '-m', 'kubeflow.runner'),
                *(f'--cluster={settings}', f'--output={compiled}'),
            ],
            cwd=root,
            env={**others, 'PRESET': 'tiny', 'PYTHONWARNINGS': 'ignore'},
            check=True,
        )
        (folder / 'containers').mkdir()
        self._secrets = {'username': mariadb.USER, 'password': mariadb.PASSWORD}
        self.backend = Backend(compiled, folder / 'containers', {'capsnet-mysql': self._secrets})

    def store(self):
        login = {'METADATA_USER': mariadb.USER, 'METADATA_PASSWORD': mariadb.PASSWORD}
        return mlmd.MetadataStore(metadata.connection_config(self.config, login))

    def executions(self, run_id):
        """Each execution of a run with the id of its node."""
        store = self.store()
        run = store.get_context_by_type_and_name('pipeline_run', run_id)
        prefix = f'{self.config.pipeline_name}.'
        return [
            (context.name.removeprefix(prefix), execution)
            for execution in store.get_executions_by_context(run.id)
            for context in store.get_contexts_by_execution(execution.id)
            if context.type == 'node'
        ]

    def versions(self):
        folder = pathlib.Path(self.config.serving_model_dir)
        return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope='module')
def job_service(tmp_path_factory):
    """Beam's options for its job service, and the file with what that says of its jobs."""
    with beam_job_service(tmp_path_factory.mktemp('beam')) as (address, log):
        yield f'--runner=PortableRunner --job_endpoint={address} --environment_type=LOOPBACK', log


@pytest.fixture(scope='module')
def cluster(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cluster')
    server = folder / 'mariadb'
    server.mkdir()
    with mariadb.mariadb_server(server) as port:
        yield Cluster(root, folder, port)


def test_empty_volume_to_pushed_model_with_a_training_that_is_killed(cluster, job_service):
    killed: list[subprocess.Popen] = []

    def kill_first_training(name, process):
        if name == 'Trainer' and not killed:
            while not list(pathlib.Path(cluster.config.checkpoint_dir).glob('*/step-*[0-9]')):
                assert process.poll() is None
                time.sleep(0.1)
            kill(process)
            killed.append(process)

    beam_args, log = job_service
    run = cluster.backend.run(
        'first', kill_first_training, beam_args=beam_args, **_OF_THE_FIRST_RUN
    )
    assert Counter(run.states.values()) == {SUCCEEDED: 19}, run.output()
    assert {name for name, attempts in run.attempts.items() if len(attempts) > 1} == {'Trainer'}
    first, second = run.attempts['Trainer']
    assert first.returncode < 0
    assert re.search(r'resuming from the checkpoint of step \d+ of 200', second.stderr)
    executions = cluster.executions('first')
    assert Counter(node for node, _ in executions) == dict.fromkeys(
        run.states.keys() - {'PrepareDataset'}, 1
    )
    assert {execution.last_known_state for _, execution in executions} == {COMPLETE}
    trainer = dict(executions)['Trainer']
    training = json.loads(trainer.custom_properties['custom_config'].string_value)['training']
    assert training['epochs'] == 5
    assert len(cluster.versions()) == 1
    # Examples, statistics, transformation and evaluation went to Beam's job service.
    jobs = log.read_text()
    assert jobs.count('with state DONE') >= 4, jobs


@_after_the_first_run
def test_pushed_model_answers(cluster, mnist_dir, tmp_path):
    digits = tfds.as_numpy(
        tfds.load('mnist', split='test[:100]', data_dir=mnist_dir, batch_size=-1)
    )
    (version,) = cluster.versions()
    model = os.path.join(cluster.config.serving_model_dir, version)
    pixels = {'pixels': digits['image'][..., 0]}
    answers = plain_tensorflow.answers(model, {'pixels': pixels}, tmp_path)
    assert np.mean(answers['pixels']['label'] == digits['label']) >= 0.8


@_after_the_first_run
def test_two_runs_at_once_one_cached_and_one_rejected(cluster, job_service):
    versions = cluster.versions()
    # Beam's options are part of what TFX's cache goes by.
    beam_args, _ = job_service
    with concurrent.futures.ThreadPoolExecutor() as pool:
        again, rejected = (
            pool.submit(cluster.backend.run, name, beam_args=beam_args, **parameters)
            for name, parameters in (('again', _OF_THE_FIRST_RUN), ('rejected', _REJECTED))
        )
        again, rejected = again.result(), rejected.result()

    assert Counter(again.states.values()) == {SUCCEEDED: 19}, again.output()
    executions = dict(cluster.executions('again'))
    assert len(executions) == len(cluster.executions('again')) == 18
    assert {
        node for node, execution in executions.items() if execution.last_known_state != CACHED
    } == {'EarlierStatistics', 'BaselineResolver', 'Pusher', 'CheckpointRemoval'}
    assert cluster.versions() == versions

    # The gate's refusal is known when the task is tried again: it does not work a second time.
    assert {name for name, state in rejected.states.items() if state == FAILED} == {
        'EvaluationGate'
    }, rejected.output()
    assert not {'InfraCheck', 'Pusher', 'CheckpointRemoval'} & rejected.attempts.keys()
    first, second = rejected.attempts['EvaluationGate']
    assert first.returncode == second.returncode == 1
    assert first.stderr.startswith('The model is rejected: ')
    assert first.stderr == second.stderr
    log = cluster.var / 'logs' / f'{cluster.config.pipeline_name}-rejected-EvaluationGate.log'
    assert log.read_text().count('Going to run a new execution:') == 1

    # Each run has its own executions, and its own model.
    states = Counter(execution.last_known_state for _, execution in cluster.executions('rejected'))
    assert states == {CACHED: 9, COMPLETE: 5, metadata_store_pb2.Execution.FAILED: 1}
    assert _models(cluster, 'again') == _models(cluster, 'first')
    assert not _models(cluster, 'rejected') & _models(cluster, 'first')


@pytest.mark.goes_on_from('test_two_runs_at_once_one_cached_and_one_rejected')
def test_consumer_of_a_deleted_artifact_fails(cluster):
    ((_, uri),) = _models(cluster, 'rejected')
    shutil.rmtree(cluster.var / uri)
    attempt = cluster.backend.start('InfraCheck', 'rejected', **_REJECTED)
    assert attempt.returncode == 1
    assert attempt.stderr.startswith('The exported model failed the infra check: ')
    assert 'Traceback' not in attempt.stderr


def _models(cluster, run_id):
    store = cluster.store()
    run = store.get_context_by_type_and_name('pipeline_run', run_id)
    trainers = [execution.id for node, execution in cluster.executions(run_id) if node == 'Trainer']
    outputs = {
        event.artifact_id
        for event in store.get_events_by_execution_ids(trainers)
        if event.type == metadata_store_pb2.Event.OUTPUT
    }
    return {
        (artifact.id, artifact.uri)
        for artifact in store.get_artifacts_by_context(run.id)
        if artifact.id in outputs and artifact.type == 'Model'
    }
