"""Executes a compiled pipeline on this machine as Kubeflow Pipelines v2 does on a cluster.

What it does is written after KFP's driver and launcher (backend/src/v2 of kubeflow/pipelines): the
inputs of a task are constants, in which a lone placeholder stands for the run's id, or parameters
of the run; they replace the placeholders in the command of the task's container; the environment
is the container's and that of Secrets. A task starts when those that it depends on have succeeded,
and starts anew as often as its retry policy says. Each is a process that shares nothing with the
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
        self._folder = pathlib.Path(folder)
        self._secrets = secrets or {}

    def run(self, run_id, on_start=None, **parameters):
        """Runs the pipeline to its end.

        Args:
            run_id: What KFP would give the run as its UUID.
            on_start: Called with the name of a task and its process, once that has started.
            **parameters: Of the run, in place of the pipeline's defaults.

        Returns:
            The Run.
        """
        defined = self._spec['root']['inputDefinitions']['parameters']
        unknown = parameters.keys() - defined.keys()
        assert not unknown, f'not among the parameters of the pipeline: {unknown}'
        values = {name: each.get('defaultValue') for name, each in defined.items()} | parameters
        tasks = self._spec['root']['dag']['tasks']
        run = Run()
        done = {name: threading.Event() for name in tasks}

        def execute(name):
            task = tasks[name]
            before = task.get('dependentTasks', [])
            for each in before:
                done[each].wait()
            if all(run.states.get(tasks[each]['taskInfo']['name']) == SUCCEEDED for each in before):
                self._attempt(task, run_id, values, run, on_start)
            done[name].set()

        with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
            for future in [pool.submit(execute, name) for name in tasks]:
                future.result()
        return run

    def _attempt(self, task, run_id, values, run, on_start):
        name = task['taskInfo']['name']
        attempts = run.attempts.setdefault(name, [])
        for _ in range(1 + task.get('retryPolicy', {}).get('maxRetryCount', 0)):
            attempts.append(self.start(task, run_id, values, on_start))
            if attempts[-1].returncode == 0:
                run.states[name] = SUCCEEDED
                return
        run.states[name] = FAILED

    def start_task(self, name, run_id, **parameters):
        """One attempt of the task with that display name, whatever it depends on."""
        defined = self._spec['root']['inputDefinitions']['parameters']
        values = {key: each.get('defaultValue') for key, each in defined.items()} | parameters
        (task,) = [
            each
            for each in self._spec['root']['dag']['tasks'].values()
            if each['taskInfo']['name'] == name
        ]
        return self.start(task, run_id, values)

    def start(self, task, run_id, values, on_start=None):
        """One attempt of a task."""
        inputs = {
            name: _resolved(source, run_id, values)
            for name, source in task['inputs']['parameters'].items()
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
            if on_start:
                on_start(task['taskInfo']['name'], process)
            stdout, stderr = process.communicate()
        return Attempt(process.returncode, stdout, stderr)

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
