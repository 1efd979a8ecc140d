"""The TFX component that lets a model be pushed only if it can be served.

TFX's own InfraValidator needs TensorFlow Serving in docker or on Kubernetes; without either it ends
in success and blesses nothing. This component needs only TensorFlow: it starts the server of
serving/, and a process that loads the model as well and compares the answers of both.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any, TextIO

from absl import logging
from tfx import v1 as tfx
from tfx.utils import io_utils, path_utils

from components.gate import GateRefused
from components.local_copy import on_this_machine

# TFX's InfraValidator marks a blessing in this way, and the Pusher looks for it.
_BLESSED_FILE = 'INFRA_BLESSED'
_BLESSED_PROPERTY = 'blessed'
# The property with the id of the blessed model.
MODEL_ID_PROPERTY = 'current_model_id'

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PROBE = os.path.join(_FOLDER, 'probe.py')
# The folder of the package `serving`: `python -m` looks into the working directory first.
_PACKAGES = os.path.dirname(os.path.dirname(_FOLDER))


@tfx.dsl.components.component
def InfraCheck(  # noqa: N802 (a component is named like a class)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    blessing: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.InfraBlessing],
    timeout: tfx.dsl.components.Parameter[int],
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Blesses a model that answers its warm-up requests, in a fresh process and over REST alike.

    Args:
        model: The exported model.
        blessing: Written for the Pusher.
        timeout: Seconds in which the model must load and answer.
        code_version: Version of this code; part of the cache key.

    Raises:
        GateRefused: The model did not load, or did not answer as it should. The execution fails
            instead of recording a refusal, so that the next run checks again.
    """
    with on_this_machine(path_utils.serving_model_path(model.uri)) as model_dir:
        answered = probe(model_dir, timeout)
    logging.info('InfraCheck: %s', answered)
    io_utils.write_string_file(os.path.join(blessing.uri, _BLESSED_FILE), '')
    blessing.set_int_custom_property(_BLESSED_PROPERTY, 1)
    blessing.set_int_custom_property(MODEL_ID_PROPERTY, model.id)


def probe(model_dir: str, timeout: float) -> dict[str, int]:
    """Has a SavedModel answer its warm-up requests, in a process of its own and in a server.

    Args:
        model_dir: The SavedModel.
        timeout: Seconds in which it must load and answer.

    Returns:
        The number of requests that each signature answered both ways.

    Raises:
        GateRefused: The model did not load or did not answer as it should.
    """
    refused = 'The exported model failed the infra check: '
    with tempfile.TemporaryFile('w+', errors='replace') as server_errors:
        try:
            with _serving(model_dir, timeout, server_errors) as server_output:
                # -I: Python imports nothing from the working directory or from PYTHONPATH.
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
def _serving(model_dir: str, timeout: float, errors: TextIO) -> Iterator[IO[str] | None]:
    """Runs the server of serving/ on a model, and yields its standard output.

    Args:
        model_dir: The SavedModel.
        timeout: Seconds in which it must load.
        errors: The server's standard error.
    """
    with tempfile.TemporaryDirectory() as base_path:
        os.symlink(os.path.abspath(model_dir), os.path.join(base_path, '1'))
        with subprocess.Popen(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'serving.server'),
                *('--rest_api_port=0', f'--model_base_path={base_path}'),
                f'--max_load_seconds={timeout:g}',
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
                server.kill()  # nobody waits for it any more


def _environment() -> dict[str, str]:
    return {**os.environ, 'CUDA_VISIBLE_DEVICES': '-1', 'TF_CPP_MIN_LOG_LEVEL': '3'}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ['nothing'])[-1]


def _report(output: str) -> dict[str, Any] | None:
    """The report in the last line; None if that line is something else."""
    try:
        report = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return None
    known = {'answered', 'refused', 'unserved'}
    return report if isinstance(report, dict) and report.keys() & known else None
