"""Serves another version of a model by writing models.config, which running servers read again.

`python -m serving.rollback --model_config_file F --model_name M` goes back to the version before
the one that is served. It is pinned by `model_version_policy { specific }` and gets the label
`stable`.

TensorFlow Serving, and our server with it, applies the labels of a new models.config before its
versions, and refuses all of it where a label is to move to a version that is not loaded. Under a
running server the file is therefore written twice: first with both versions and the labels as they
are; then, when the server says that the other version is available, with that one and its label. No
request fails meanwhile. If the server does not come that far, the file is put back as it was.

Servers that start with such a file need --allow_version_labels_for_unavailable_models, since no
version is loaded yet when they read its labels.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import shutil
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import ServingError
from serving.model_config import read_model_config, single_model_config
from serving.versions import aspired_versions, find_versions

STABLE = 'stable'
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 10.0

# State and error message of each version.
_Status = dict[int, tuple[str, str]]


class Refused(Exception):
    """It cannot be done; the message says why. models.config is as it was."""


class Server:
    """What a running server tells of the versions of a model.

    Args:
        url: Where its REST interface is.
        model: The name of the model.
        timeout: Seconds that it may take to read models.config again and to load a version.
    """

    def __init__(self, url: str, model: str, timeout: float) -> None:
        self.url = url.rstrip('/')
        self._status_url = f'{self.url}/v1/models/{urllib.parse.quote(model, safe="")}'
        self._timeout = timeout
        self._before: _Status = {}
        # No proxy stands between a server and who administers it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def available(self) -> list[int]:
        """The versions that answer requests; none where no server does, or not for the model."""
        self._before = self._status()
        return _available(self._before)

    def wait(self, version: int, reached: Callable[[Collection[int]], bool]) -> None:
        """Waits until `reached` is true of the available versions.

        Raises:
            Refused: It takes too long, or `version` fails to load.
        """
        deadline = time.monotonic() + self._timeout
        while not reached(_available(status := self._status())):
            is_late = time.monotonic() > deadline
            _, error = status.get(version, ('', ''))
            # It may have failed long ago, and be tried again now.
            if error and (is_late or status[version] != self._before.get(version)):
                raise Refused(f'The server at {self.url} cannot serve version {version}: {error}')
            if is_late:
                raise Refused(
                    f'The server at {self.url} did not come to serve version {version} within '
                    f'{self._timeout:g} seconds. Was it started with this --model_config_file, and '
                    'with --model_config_file_poll_wait_seconds?'
                )
            time.sleep(_POLL_SECONDS)

    def _status(self) -> _Status:
        try:
            with self._opener.open(self._status_url, timeout=_ANSWER_SECONDS) as response:
                answer = json.load(response)
            return {
                int(status['version']): (status['state'], status['status']['error_message'])
                for status in answer['model_version_status']
            }
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return {}


def _available(status: _Status) -> list[int]:
    return [version for version, (state, _) in status.items() if state == 'AVAILABLE']


def roll_back(
    path: str,
    model_name: str,
    server: Server,
    *,
    base_path: str | None = None,
    version: int | None = None,
    latest: bool = False,
) -> str:
    """Has another version of a model served.

    Args:
        path: models.config. If it is not there it is made, with its folders.
        model_name: The model.
        server: Waited for if it answers.
        base_path: Where the model's versions are, for a new models.config.
        version: Which one to pin; the one before the present one if neither this nor `latest`.
        latest: Whether to pin none and serve the newest version.

    Returns:
        What is served now, in a sentence; nothing if what was served is not changed.

    Raises:
        Refused: It cannot be done.
        ServingError: models.config cannot be read.
    """
    path = os.path.realpath(path)
    is_new = not os.path.exists(path)
    if is_new and not base_path:
        raise Refused(f'There is no {path}: say by --model_base_path where the versions are.')
    before = single_model_config(model_name, base_path or '') if is_new else read_model_config(path)
    config = ModelServerConfig.FromString(before.SerializeToString())
    model = _find(config, model_name, path)
    versions = _versions(model, may_be_missing=latest)
    # A file that is not there is read by no server.
    available = [] if is_new else server.available()
    target: int | None
    if latest:
        target = max(versions, default=None)
        removed = _unpin(model, target)
    else:
        served = max(available or aspired_versions(model), default=None)
        target = _choose(model, versions, served, version)
        removed = _pin(model, versions, target)
    if not is_new and config == before:
        return '' if latest else f'{model_name} is pinned to version {target} already.'
    with _put_back_on_failure(path):
        if target is None or not available:
            _write(path, config)
        else:
            if target not in available:
                policy = _find(before, model_name, path).model_version_policy
                policy.specific.versions[:] = sorted({*available, target})
                _write(path, before)
                server.wait(target, lambda answering: target in answering)
            _write(path, config)
            server.wait(target, lambda answering: max(answering, default=None) == target)
    if is_new and latest:
        return ''
    what = f'the newest version of {model_name}' if latest else f'version {target} of {model_name}'
    where = f'{server.url} serves {what} now'
    if not available:
        where = f'The next server that reads {path} serves {what}'
    back = '--version pins another one' if latest else '--latest goes back to the newest one'
    labels = ''.join(f' Its label {label} is removed.' for label in removed)
    return f'{where}; {back}.{labels}'


def _find(config: ModelServerConfig, name: str, path: str) -> ModelConfig:
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise Refused(f'{path} has no model {name}, only {", ".join(models) or "none at all"}.')
    return models[name]


def _versions(model: ModelConfig, may_be_missing: bool) -> set[int]:
    try:
        return set(find_versions(model.base_path))
    except OSError as error:
        if may_be_missing:
            return set()
        raise Refused(f'Cannot read {model.base_path}: {error.strerror}.') from error


def _choose(model: ModelConfig, versions: set[int], served: int | None, asked: int | None) -> int:
    """The version to pin."""
    found = [version for version in versions if served is not None and version < served]
    wanted = f'before {served}'
    if asked is not None:
        found = [asked] if asked in versions else []
        wanted = str(asked)
    if not found:
        there = ', '.join(map(str, sorted(versions))) or 'none'
        raise Refused(
            f'There is no version {wanted} of {model.name} at {model.base_path}, only {there}.'
        )
    return max(found)


def _pin(model: ModelConfig, versions: set[int], target: int) -> list[str]:
    """Has `target` served, and below it what other labels stand for; gives the labels removed."""
    kept = {
        label: version
        for label, version in model.version_labels.items()
        if label != STABLE and version in versions and version < target
    }
    # A request that names neither version nor label is for the highest one.
    model.model_version_policy.specific.versions[:] = sorted({*kept.values(), target})
    return _relabel(model, {**kept, STABLE: target})


def _unpin(model: ModelConfig, newest: int | None) -> list[str]:
    """Has the newest version served; gives the labels removed."""
    model.ClearField('model_version_policy')
    kept = {
        label: version
        for label, version in model.version_labels.items()
        if label != STABLE and version == newest
    }
    return _relabel(model, kept)


def _relabel(model: ModelConfig, labels: dict[str, int]) -> list[str]:
    removed = sorted(model.version_labels.keys() - labels.keys())
    model.version_labels.clear()
    model.version_labels.update(labels)
    return removed


@contextlib.contextmanager
def _put_back_on_failure(path: str) -> Iterator[None]:
    text = None
    if os.path.exists(path):
        with open(path, 'rb') as opened:
            text = opened.read()
    try:
        yield
    except BaseException:
        if text is not None:
            _replace(path, text)
        elif os.path.exists(path):
            os.remove(path)
        raise


def _write(path: str, config: ModelServerConfig) -> None:
    """Writes the file anew, under the comments that stand at its top."""
    comments = b''
    if os.path.exists(path):
        with open(path, 'rb') as opened:
            top = itertools.takewhile(lambda line: line.startswith((b'#', b'\n')), opened)
            comments = b''.join(top)
    _replace(path, comments + text_format.MessageToString(config).encode())


def _replace(path: str, text: bytes) -> None:
    unfinished = f'{path}.{os.getpid()}.unfinished'  # of no other process
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(unfinished, 'wb') as opened:
            opened.write(text)
        if os.path.exists(path):
            shutil.copymode(path, unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise Refused(f'Cannot write {path}: {error.strerror}.') from error


def main() -> int:
    """Runs the command; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m serving.rollback', description=__doc__.splitlines()[0], allow_abbrev=False
    )
    add = parser.add_argument
    add('--model_config_file', required=True, help='models.config; made if it is not there')
    add('--model_name', required=True, help='the model')
    add('--model_base_path', help='where its versions are, for a models.config that is not there')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--version', type=int, help='serve this one, not the one before')
    which.add_argument('--latest', action='store_true', help='serve the newest one again')
    add('--url', default='http://127.0.0.1:8501', help='the running server')
    add('--timeout', type=float, default=60.0, help='seconds to wait for the running server')
    arguments = parser.parse_args()
    if not arguments.url.startswith(('http://', 'https://')):
        parser.error(f"--url must begin with http:// or https://, not '{arguments.url}'")
    server = Server(arguments.url, arguments.model_name, arguments.timeout)
    try:
        sentence = roll_back(
            arguments.model_config_file,
            arguments.model_name,
            server,
            base_path=arguments.model_base_path,
            version=arguments.version,
            latest=arguments.latest,
        )
    except (Refused, ServingError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('error: interrupted; nothing has changed', file=sys.stderr)
        return 130
    if sentence:
        print(sentence)
    return 0


if __name__ == '__main__':
    sys.exit(main())
