"""A pipeline in a folder of its own, driven by the real tfx CLI, and what ML Metadata has of it."""

import os
import pathlib
import subprocess
import sys

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

from pipeline import configs

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED
FAILED = metadata_store_pb2.Execution.FAILED


class Project:
    """The pipeline as its user has it: commands, settings, and one folder for results."""

    def __init__(self, root, var, **settings):
        self.runner = os.path.join(root, 'pipeline', 'local_runner.py')
        self.settings = {'PRESET': 'tiny', **settings}
        self._use(var)

    def _use(self, var):
        self.var = pathlib.Path(var)
        self.settings['VAR'] = str(var)
        self.config = configs.from_environment(self.settings)

    def move(self):
        """Moves the folder for results, as its user may at any time."""
        moved = self.var.with_name(f'{self.var.name}-moved')
        os.rename(self.var, moved)
        self._use(moved)

    def environment(self, **settings):
        own = {field.upper() for field in configs.Config.__dataclass_fields__}
        return {
            **{name: value for name, value in os.environ.items() if name not in own},
            'PYTHONWARNINGS': 'ignore',
            'TF_CPP_MIN_LOG_LEVEL': '3',
            'HOME': str(self.var / 'home'),
            'LOCAL_HOME': str(self.var / 'tfx'),
            'KERAS_HOME': str(self.var / 'cache' / 'keras'),
            **self.settings,
            **settings,
        }

    def command(self, *arguments):
        tfx = [sys.executable, '-m', 'start_tensorflow', 'tfx']
        return [*tfx, *arguments, '--engine=local']

    def tfx(self, *arguments, **settings):
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            check=False,
        )

    def create(self):
        return self.tfx('pipeline', 'create', f'--pipeline_path={self.runner}')

    def start(self, *command, start_new_session=False, **settings):
        """Starts a command in the project's folder; `finished` waits for its end."""
        return subprocess.Popen(
            command,
            start_new_session=start_new_session,
            cwd=os.path.dirname(os.path.dirname(self.runner)),
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_by_tfx(self, **settings):
        return self.tfx('run', 'create', f'--pipeline_name={self.config.pipeline_name}', **settings)

    def run(self, **settings):
        """What `make run` starts, and `tfx run create` after ten seconds of its own."""
        with self.start(sys.executable, self.runner, **settings) as process:
            return finished(process)

    def versions(self):
        folder = pathlib.Path(self.config.serving_model_dir)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def states(self):
        """State of each node's execution in the latest run."""
        store = mlmd.MetadataStore(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(self.config.metadata_path)
        )
        run = max(store.get_contexts_by_type('pipeline_run'), key=lambda context: context.id)
        prefix = f'{self.config.pipeline_name}.'
        return {
            context.name.removeprefix(prefix): execution.last_known_state
            for execution in store.get_executions_by_context(run.id)
            for context in store.get_contexts_by_execution(execution.id)
            if context.type == 'node'
        }


def finished(process):
    """The result of a process, when it has ended."""
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def sentence(done):
    """The last thing that a run said."""
    return done.stderr.strip().splitlines()[-1]
