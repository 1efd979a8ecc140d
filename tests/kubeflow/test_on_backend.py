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
import pytest
import yaml
from kfp_backend import FAILED, SUCCEEDED, Backend, kill
from ml_metadata.proto import metadata_store_pb2

from pipeline import configs, metadata

pytestmark = pytest.mark.slow

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED

# Of every run: checkpoints often, so that there is one soon.
SETTINGS = {'EPOCHS': '5', 'CHECKPOINT_STEPS': '5'}


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
        self.backend = Backend(
            compiled, folder / 'containers', {'capsnet-mysql': self._secrets}
        )

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
def cluster(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cluster')
    server = folder / 'mariadb'
    server.mkdir()
    with mariadb.mariadb_server(server) as port:
        yield Cluster(root, folder, port)


def test_empty_volume_to_pushed_model_with_a_training_that_is_killed(cluster):
    killed = []

    def kill_first_training(name, process):
        if name == 'Trainer' and not killed:
            while not list(pathlib.Path(cluster.config.checkpoint_dir).glob('*/step-*[0-9]')):
                assert process.poll() is None
                time.sleep(0.1)
            kill(process)
            killed.append(process)

    run = cluster.backend.run('first', kill_first_training, epochs='5', checkpoint_steps='5')
    assert Counter(run.states.values()) == {SUCCEEDED: 14}, run.output()
    assert {name for name, attempts in run.attempts.items() if len(attempts) > 1} == {'Trainer'}
    first, second = run.attempts['Trainer']
    assert first.returncode < 0
    assert re.search(r'going on from the checkpoint of step \d+ of 200', second.stderr)
    executions = cluster.executions('first')
    assert Counter(node for node, _ in executions) == dict.fromkeys(
        run.states.keys() - {'PrepareDataset'}, 1
    )
    assert {execution.last_known_state for _, execution in executions} == {COMPLETE}
    trainer = dict(executions)['Trainer']
    training = json.loads(trainer.custom_properties['custom_config'].string_value)['training']
    assert training['epochs'] == 5
    assert len(cluster.versions()) == 1
