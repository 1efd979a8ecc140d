"""Uploads the compiled pipeline, starts a run and follows it (`make kubeflow-run HOST=...`).

A setting in the environment becomes a parameter of the run. The exit code is 0 when the run has
succeeded.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import kfp
import kfp_server_api
import urllib3
import yaml

from kubeflow.runner import COMPILED, PARAMETERS, PLACES, check_folders
from pipeline import configs, console
from pipeline.run_node import FIXED, check_preset

# A run may take days, and a connection to the server less: so often it is asked in vain, at most.
_FAILED_LOOKS = 60
_LOG_IN = 'if it wants you to log in, give it your token with `export KFP_TOKEN=...`'
_ENDED = ('SUCCEEDED', 'FAILED', 'SKIPPED', 'CANCELED')


class SubmissionError(Exception):
    """The run cannot be started or followed, or has not succeeded: the message says why."""


class Compiled:
    """A file that `kubeflow.runner` has written."""

    def __init__(self, path: str | os.PathLike):
        """Reads it; raises SubmissionError."""
        self.path = pathlib.Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise SubmissionError(
                f'{path} cannot be read: {error.strerror}. `make kubeflow` writes it'
            ) from error
        self.version = hashlib.sha256(content).hexdigest()[:12]
        try:
            spec = next(yaml.safe_load_all(content))
            self.name = spec['pipelineInfo']['name']
            # The server calls a task by its key; people know it by its display name.
            self.nodes = {
                key: task['taskInfo']['name'] for key, task in spec['root']['dag']['tasks'].items()
            }
            self._defaults = {
                name.upper(): parameter.get('defaultValue', '')
                for name, parameter in spec['root']['inputDefinitions']['parameters'].items()
            }
            executor = next(iter(spec['deploymentSpec']['executors'].values()))
            self._fixed = {each['name']: each['value'] for each in executor['container']['env']}
        except (StopIteration, yaml.YAMLError, LookupError, TypeError, AttributeError):
            raise SubmissionError(
                f'{path} is empty or damaged, or not a compiled pipeline: write it again with '
                '`make kubeflow`'
            ) from None

    def arguments(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The parameters of a run that `environment` asks for.

        Raises:
            SettingError: A setting cannot be used, or is fixed in the file with another value, or
                PRESET sets one that is.
        """
        environment = configs.given(environment)
        if environment.get('DATASET'):
            # It may bring the version along.
            named = {name: environment.get(name, '') for name in ('DATASET', 'DATASET_VERSION')}
            asked = configs.from_environment(named)
            named = {'DATASET': asked.dataset, 'DATASET_VERSION': asked.dataset_version}
            environment = {**environment, **named}
        for name in (*FIXED, *PLACES):
            given = environment.get(name.upper())
            # make hands VAR on in any case: it is this machine's.
            if given and name != 'var':
                self._check_fixed(name, given)
        arguments = {
            name: environment[name.upper()] for name in PARAMETERS if environment.get(name.upper())
        }
        changes = {name.upper(): value for name, value in arguments.items()}
        compiled = {**self._fixed, **self._defaults}
        check_preset(environment.get('PRESET', ''), compiled, str(self.path))
        configs.from_environment({**compiled, **changes})
        check_folders(changes)
        return arguments

    def _check_fixed(self, name: str, given: str) -> None:
        variable = name.upper()
        fixed = self._fixed.get(variable, '')
        asked, has = (
            getattr(configs.from_environment({variable: value}), name) for value in (given, fixed)
        )
        if asked != has:
            raise configs.SettingError(
                f"{variable} is '{given}', but {self.path} was compiled with "
                f"'{fixed or has}': it cannot be changed for one run, so compile again with "
                f'`make kubeflow`'
            )


class _Client(kfp.Client):
    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Asks once: kfp's own tries for 25 seconds, and does not say what the server answered.

        Raises:
            ApiValueError: Something else than Kubeflow Pipelines answers, such as a login page:
                for kfp, this is an answer in which nothing is set.
        """
        del sleep_duration
        # The name in kfp-server-api 2.0, and the one since.
        names = ('get_healthz_with_http_info', 'healthz_service_get_healthz_with_http_info')
        (ask,) = [getattr(self._healthz_api, n) for n in names if hasattr(self._healthz_api, n)]
        health, _, headers = ask()
        if 'json' not in headers.get('Content-Type', ''):
            raise kfp_server_api.ApiValueError('the answer is not JSON')
        return health


def connected(host: str, namespace: str | None, token: str) -> kfp.Client:
    """A client of the server, which has answered.

    Args:
        host: The server's address.
        namespace: The user's, on a server for several users.
        token: Of the user, or ''.

    Raises:
        SubmissionError: The host, the token or the namespace cannot be used.
        ApiException: The server refuses.
        ApiValueError: It is not Kubeflow Pipelines.
        HTTPError: It cannot be reached.
    """
    if not re.match('https?://.', host):
        raise SubmissionError(
            f"HOST is '{host}': it must begin with http:// or https://, such as "
            'http://localhost:8080'
        )
    if not re.fullmatch('[!-~]*', token):
        raise SubmissionError(
            'KFP_TOKEN has a character that is in no token, such as a space: export it again'
        )
    client = _Client(host, namespace=namespace or 'kubeflow', existing_token=token or None)
    if client.get_kfp_healthz().multi_user and not client.get_user_namespace():
        raise SubmissionError(
            f'Kubeflow Pipelines at {host} is for several users: add your namespace, such as '
            'NAMESPACE=my-profile'
        )
    return client


def start(client: kfp.Client, compiled: Compiled, arguments: Mapping[str, str]) -> str:
    """Uploads the pipeline where this version of it is not there yet; gives a new run's id."""
    namespace = client.get_user_namespace() or None
    # Its get_pipeline_id finds only pipelines that all namespaces share (kubeflow/pipelines#10609).
    pipelines = client.list_pipelines(
        page_size=1, filter=_named(compiled.name), namespace=namespace
    ).pipelines
    pipeline = (
        pipelines[0]
        if pipelines
        else client.upload_pipeline(str(compiled.path), compiled.name, namespace=namespace)
    ).pipeline_id
    versions = client.list_pipeline_versions(
        pipeline, page_size=1, filter=_named(compiled.version)
    ).pipeline_versions
    version = (
        versions[0]
        if versions
        else client.upload_pipeline_version(
            str(compiled.path), compiled.version, pipeline_id=pipeline
        )
    )
    experiment = client.create_experiment(compiled.name, namespace=namespace)
    return client.run_pipeline(
        experiment.experiment_id,
        f'{compiled.name} {time.strftime("%Y-%m-%d %H:%M:%S")}',
        params=dict(arguments),
        pipeline_id=pipeline,
        version_id=version.pipeline_version_id,
        enable_caching=False,
    ).run_id


def _named(name: str) -> str:
    predicate = {'operation': 'EQUALS', 'key': 'display_name', 'stringValue': name}
    return json.dumps({'predicates': [predicate]})


def follow(client: kfp.Client, compiled: Compiled, run_id: str, interval: float) -> None:
    """Prints a line for each node that ends, until the run has ended.

    Args:
        client: Of the server.
        compiled: What runs.
        run_id: Which run.
        interval: Seconds between two looks.

    Raises:
        SubmissionError: It has not succeeded.
    """
    said: dict[str, str] = {}
    failed_looks = 0
    while True:
        try:
            run = client.get_run(run_id)
            if run.run_id != run_id:  # as of a page that asks to log in again
                raise kfp_server_api.ApiValueError('the answer is no run')
            failed_looks = 0
        except (kfp_server_api.OpenApiException, urllib3.exceptions.HTTPError):
            failed_looks += 1
            if failed_looks == _FAILED_LOOKS:
                raise
            time.sleep(interval)
            continue
        tasks = run.run_details.task_details if run.run_details else None
        for task in tasks or ():
            node = compiled.nodes.get(task.display_name, task.display_name)
            if node in compiled.nodes.values() and node not in said and task.state in _ENDED:
                said[node] = task.state
                print(f'[{len(said):2}/{len(compiled.nodes)}] {node:18} {_ended(task)}', flush=True)
        if run.state in _ENDED:
            break
        time.sleep(interval)
    if run.state != 'SUCCEEDED':
        at = [node for node, state in said.items() if state == 'FAILED']
        where = f' at {" and ".join(at)}' if at else ''
        raise SubmissionError(f'The run ended with {run.state}{where}; its log says why')


def _ended(task: Any) -> str:
    if task.state == 'SUCCEEDED' and task.start_time and task.end_time:
        return console.duration((task.end_time - task.start_time).total_seconds())
    return task.state.lower()


def main() -> None:
    """Submits as the command line and the environment say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--host', required=True, help='address of Kubeflow Pipelines, with http://')
    parser.add_argument('--namespace', help="the user's namespace, on a server for several users")
    parser.add_argument('--compiled', default=COMPILED)
    parser.add_argument(
        '--interval', type=float, default=5, help='seconds between two looks at the run'
    )
    arguments = parser.parse_args()
    # urllib3 would cover the terminal with each attempt to reach the server.
    logging.disable(logging.WARNING)
    page = ''
    configs.print_notice()
    try:
        compiled = Compiled(arguments.compiled)
        parameters = compiled.arguments(os.environ)
        token = os.environ.get('KFP_TOKEN', '').strip()
        client = connected(arguments.host, arguments.namespace, token)
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints an address a call
            run_id = start(client, compiled, parameters)
        page = f'{arguments.host.rstrip("/")}/#/runs/details/{run_id}'
        print(f'Started: {page}', flush=True)
        follow(client, compiled, run_id, arguments.interval)
    except configs.SettingError as error:
        sys.exit(f'Wrong setting: {error}')
    except SubmissionError as error:
        sys.exit(str(error))
    except kfp_server_api.ApiException as error:
        sys.exit(f'Kubeflow Pipelines at {arguments.host} refused: {error.status} {_said(error)}')
    except (kfp_server_api.OpenApiException, UnicodeDecodeError):
        sys.exit(
            f'{arguments.host} does not answer as Kubeflow Pipelines does; {_LOG_IN}, or name '
            'another address as HOST'
        )
    except urllib3.exceptions.HTTPError as error:
        sys.exit(f'Kubeflow Pipelines cannot be reached at {arguments.host}: {error}')
    except KeyboardInterrupt:
        sys.exit(f'No longer followed, but the run goes on: {page}' if page else 'Interrupted.')
    print('The run has succeeded.')


def _said(error: kfp_server_api.ApiException) -> str:
    try:
        said = json.loads(error.body)['error']
    except (ValueError, KeyError, TypeError):
        said = str(error.reason)
    return f'{said}; {_LOG_IN}, and add NAMESPACE=...' if error.status in (401, 403) else said


if __name__ == '__main__':
    main()
