"""Executes a compiled pipeline on this machine as Kubeflow Pipelines v2 does on a cluster.

What it does is written after KFP's driver and launcher (backend/src/v2 of kubeflow/pipelines): the
inputs of a task are constants, in which a lone placeholder stands for the run's id, or parameters
of the run; they replace the placeholders in the command of the task's container; the environment
is the container's and that of Secrets. A task starts when those that it depends on have succeeded,
and starts again as often as its retry policy says. Each is a process that shares nothing with the
others but folders and servers. Waits between attempts are left out.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import threading

import psutil
import yaml

SUCCEEDED = 'SUCCEEDED'
FAILED = 'FAILED'


@dataclasses.dataclass
class Attempt:
    """A process that ran a task."""

    returncode: int
    stdout: str
    stderr: str


class Run:
    """How the tasks of a run went, by their display names."""

    def __init__(self):
        self.states: dict[str, str] = {}
        self.attempts: dict[str, list[Attempt]] = {}

    def output(self):
        """All that the tasks said, for a message of a test."""
        return '\n'.join(
            f'{name}, exit code {attempt.returncode}: {attempt.stdout}{attempt.stderr}'
            for name, attempts in self.attempts.items()
            for attempt in attempts
        )


class Backend:
    """Kubeflow Pipelines, with one pipeline uploaded."""

    def __init__(self, compiled, folder, secrets=None):
        """Reads the compiled pipeline.

        Args:
            compiled: The file.
            folder: An empty one, for the working directories of the containers.
            secrets: What the cluster's Secrets hold: their names to keys to values.
        """
        self._spec, platform = yaml.safe_load_all(pathlib.Path(compiled).read_text())
        self._platform = platform['platforms']['kubernetes']['deploymentSpec']['executors']
        self._tasks = {
            task['taskInfo']['name']: task for task in self._spec['root']['dag']['tasks'].values()
        }
        self._folder = pathlib.Path(folder)
        self._secrets = secrets or {}
        self._running = set()
        self._interrupted = False

    def run(self, run_id, on_start=None, **parameters):
        """Runs the pipeline to its end.

        Args:
            run_id: What KFP would give the run as its UUID.
            on_start: Called with the name of a task and its process, once that has started.
            **parameters: Of the run, instead of the pipeline's defaults.

        Returns:
            The Run.
        """
        run = Run()
        names = {
            key: task['taskInfo']['name']
            for key, task in self._spec['root']['dag']['tasks'].items()
        }
        ended = {name: threading.Event() for name in self._tasks}

        def execute(name, task):
            try:
                before = [names[key] for key in task.get('dependentTasks', [])]
                for each in before:
                    ended[each].wait()
                if all(run.states.get(each) == SUCCEEDED for each in before):
                    self._attempt(name, run_id, run, on_start, parameters)
            finally:
                ended[name].set()

        with concurrent.futures.ThreadPoolExecutor(len(self._tasks)) as pool:
            futures = [pool.submit(execute, *each) for each in self._tasks.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                # Nobody waits for the run of a test that is over.
                self._interrupted = True
                for process in list(self._running):
                    kill(process)
                raise
        return run

    def _attempt(self, name, run_id, run, on_start, parameters):
        attempts = run.attempts.setdefault(name, [])
        run.states[name] = FAILED
        for _ in range(1 + self._tasks[name].get('retryPolicy', {}).get('maxRetryCount', 0)):
            if self._interrupted:
                return
            attempts.append(self.start(name, run_id, on_start, **parameters))
            if attempts[-1].returncode == 0:
                run.states[name] = SUCCEEDED
                return

    def start(self, name, run_id, on_start=None, **parameters):
        """One attempt of a task, whatever it depends on; arguments as in `run`."""
        task = self._tasks[name]
        values = self._parameters(parameters)
        inputs = {
            key: _resolved(source, run_id, values)
            for key, source in task['inputs']['parameters'].items()
        }
        label = self._spec['components'][task['componentRef']['name']]['executorLabel']
        container = self._spec['deploymentSpec']['executors'][label]['container']
        command = [
            re.sub(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", lambda m: inputs[m[1]], word)
            for word in [*container['command'], *container['args']]
        ]
        folder = self._folder / f'{run_id}-{label}'
        folder.mkdir(exist_ok=True)
        with subprocess.Popen(
            command,
            cwd=folder,
            env={
                # What an image brings.
                'PATH': f'{os.path.dirname(sys.executable)}:/usr/bin:/bin',
                'HOME': '/nowhere',
                **{each['name']: each['value'] for each in container.get('env', [])},
                **self._from_secrets(label),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self._running.add(process)
            if on_start:
                on_start(name, process)
            stdout, stderr = process.communicate()
            self._running.remove(process)
        return Attempt(process.returncode, stdout, stderr)

    def _parameters(self, given):
        defined = self._spec['root']['inputDefinitions']['parameters']
        unknown = given.keys() - defined.keys()
        assert not unknown, f'not among the parameters of the pipeline: {unknown}'
        return {name: each.get('defaultValue') for name, each in defined.items()} | given

    def _from_secrets(self, label):
        return {
            each['envVar']: self._secrets[secret['secretName']][each['secretKey']]
            for secret in self._platform[label].get('secretAsEnv', [])
            for each in secret['keyToEnv']
        }


def _resolved(source, run_id, values):
    if 'componentInputParameter' in source:
        return values[source['componentInputParameter']]
    constant = source['runtimeValue']['constant']
    return run_id if constant == '{{$.pipeline_job_uuid}}' else constant


def kill(process):
    """Ends a task as the kubelet does with a pod that has had its time: all processes at once."""
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        each.kill()
