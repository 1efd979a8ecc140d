"""The TFX component that lets a model be pushed only when it can be served.

TFX's own InfraValidator needs TensorFlow Serving in docker or on Kubernetes; without either it ends
in success and blesses nothing. This one asks of the machine no more than TensorFlow: it starts the
server of serving/, and beside it a process that loads the model too and compares what both answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any, TextIO

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from components.gate import GateRefused

# As TFX's InfraValidator marks a blessing, which is what the Pusher looks for.
_BLESSED_FILE = 'INFRA_BLESSED'
_BLESSED_PROPERTY = 'blessed'
# Which model was blessed.
MODEL_ID_PROPERTY = 'current_model_id'

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PROBE = os.path.join(_FOLDER, 'probe.py')
# Where the package `serving` is; python -m looks into the working directory first.
_PACKAGES = os.path.dirname(os.path.dirname(_FOLDER))


class InfraCheckSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of InfraCheck."""

    PARAMETERS = {
        'timeout': component_spec.ExecutionParameter(type=int),
        'code_version': component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {'model': component_spec.ChannelParameter(type=standard_artifacts.Model)}
    OUTPUTS = {'blessing': component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class InfraCheckExecutor(base_executor.BaseExecutor):
    """Loads the exported model in two fresh processes and asks both through each signature."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing.

        Raises:
            GateRefused: The model did not load, or did not answer as it should. The execution fails
                rather than recording a refusal, so that running again checks again.
        """
        model = artifact_utils.get_single_instance(input_dict['model'])
        blessing = artifact_utils.get_single_instance(output_dict['blessing'])
        with on_this_machine(path_utils.serving_model_path(model.uri)) as model_dir:
            answered = probe(model_dir, exec_properties['timeout'])
        logging.info('InfraCheck: %s', answered)
        io_utils.write_string_file(os.path.join(blessing.uri, _BLESSED_FILE), '')
        blessing.set_int_custom_property(_BLESSED_PROPERTY, 1)
        blessing.set_int_custom_property(MODEL_ID_PROPERTY, model.id)


class InfraCheck(base_component.BaseComponent):
    """Blesses a model that answers its warm-up requests in a fresh process, and over REST alike.

    Outputs: `blessing`, an InfraBlessing for the Pusher.
    """

    SPEC_CLASS = InfraCheckSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(InfraCheckExecutor)

    def __init__(self, model: types.BaseChannel, timeout: int, code_version: str = ''):
        """Describes the check of one model.

        Args:
            model: A Model.
            timeout: Seconds in which it must load and answer.
            code_version: Of this check; another one makes it anew.
        """
        blessing = types.Channel(type=standard_artifacts.InfraBlessing)
        super().__init__(
            InfraCheckSpec(
                model=model, timeout=timeout, code_version=code_version, blessing=blessing
            )
        )


@contextlib.contextmanager
def on_this_machine(model_dir: str) -> Iterator[str]:
    """A folder of this machine with the model: a copy when it lies in a bucket (`gs://...`)."""
    if '://' not in model_dir:
        yield model_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, 'model')
        io_utils.copy_dir(model_dir, copy)
        yield copy


def probe(model_dir: str, timeout: float) -> dict[str, int]:
    """Asks a SavedModel, in a process of its own and of a server that speaks REST.

    Args:
        model_dir: The SavedModel.
        timeout: Seconds.

    Returns:
        Number of requests answered both ways, by signature.

    Raises:
        GateRefused: It did not load or did not answer as it should.
    """
    refused = 'The exported model failed the infra check: '
    with tempfile.TemporaryFile('w+', errors='replace') as server_errors:
        try:
            with _serving(model_dir, server_errors) as server_output:
                # -I: neither working directory nor environment add to what can be imported.
                done = subprocess.run(
                    [sys.executable, '-I', '-W', 'ignore', PROBE, model_dir],
                    stdin=server_output,
                    capture_output=True,
                    text=True,
                    errors='replace',
                    timeout=timeout,
                    check=False,
                    env=_environment(),
                )
        except subprocess.TimeoutExpired:
            raise GateRefused(
                f'{refused}it did not load and answer within {timeout:g} seconds '
                '(INFRA_CHECK_TIMEOUT).'
            ) from None
        server_errors.seek(0)
        server_said = server_errors.read()
    for who, said in (('process', done.stderr), ('server', server_said)):
        if said:
            logging.info('InfraCheck, the %s said:\n%s', who, said)
    report = _report(done.stdout)
    if done.returncode or report is None:
        raise GateRefused(
            f'{refused}the process ended with exit code {done.returncode} and said: '
            f'{_last_line(done.stderr)}'
        )
    if 'unserved' in report:
        raise GateRefused(f'{refused}the server did not start: {_last_line(server_said)}')
    if 'refused' in report:
        raise GateRefused(f'{refused}{report["refused"]}')
    return report['answered']


@contextlib.contextmanager
def _serving(model_dir: str, errors: TextIO) -> Iterator[IO[str] | None]:
    """A server of serving/ that loads the model: what it prints, while the context lasts.

    Args:
        model_dir: The SavedModel.
        errors: Where it writes what goes wrong.
    """
    with tempfile.TemporaryDirectory() as base_path:
        os.symlink(os.path.abspath(model_dir), os.path.join(base_path, '1'))
        with subprocess.Popen(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'serving.server'),
                *('--rest_api_port=0', f'--model_base_path={base_path}'),
            ],
            cwd=_PACKAGES,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(),
        ) as server:
            try:
                yield server.stdout
            finally:
                # Whatever it is doing, nobody waits for it any more.
                server.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, 'CUDA_VISIBLE_DEVICES': '-1', 'TF_CPP_MIN_LOG_LEVEL': '3'}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ['nothing'])[-1]


def _report(output: str) -> dict[str, Any] | None:
    """The report in the last line, or None where there is none."""
    try:
        report = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return None
    known = {'answered', 'refused', 'unserved'}
    return report if isinstance(report, dict) and report.keys() & known else None
