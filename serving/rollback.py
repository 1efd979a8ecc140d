"""Serves another version of a model by writing models.config, which running servers read again.

`python -m serving.rollback --model_config_file F --model_name M` goes back to the version before
the one that is served. It is pinned by `model_version_policy { specific }` and gets the label
`stable`. Versions that do not load are left out. A running server finds out which these are;
without one, or where it has failed to load a version before, this process loads the version.

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
import itertools
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.config_files import read_model_config, single_model_config
from serving.errors import ServingError
from serving.models.loadable import load_error
from serving.models.versions import find_versions
from serving.running_server import Server

STABLE = 'stable'


class Refused(Exception):
    """It cannot be done; the message says why. models.config is as it was."""


def roll_back(
    path: str,
    model_name: str,
    server: Server,
    *,
    base_path: str | None = None,
    version: int | None = None,
    latest: bool = False,
    keep: bool = False,
) -> str:
    """Has another version of a model served.

    Args:
        path: models.config. If it is not there it is made, with its folders.
        model_name: The model.
        server: Waited for if it answers.
        base_path: Where the model's versions are, for a new models.config, and for one that names
            another folder because it was moved or copied together with this one.
        version: Which one to pin; by default, without `latest` and `keep`, the one before the
            present one.
        latest: Whether to pin none and serve the newest version.
        keep: Whether to serve what was served, and only to write `base_path`.

    Returns:
        What is served now, and which versions were left out; nothing if nothing is changed.

    Raises:
        Refused: It cannot be done.
        ServingError: models.config cannot be read, or the server does not follow it.
    """
    path = os.path.realpath(path)
    is_new = not os.path.exists(path)
    if is_new and not base_path:
        raise Refused(f'There is no {path}: say by --model_base_path where the versions are.')
    before = single_model_config(model_name, base_path or '') if is_new else read_model_config(path)
    is_moved = bool(base_path and _set_base_path(_find(before, model_name, path), base_path))
    if keep:
        if is_new or is_moved:
            _write(path, before)
        return ''
    config = ModelServerConfig.FromString(before.SerializeToString())
    model = _find(config, model_name, path)
    versions = _versions(model, may_be_missing=latest)
    # A file that is not there is read by no server.
    available = [] if is_new else server.available()

    def why_not(number: int) -> str:
        """Why a version cannot be served; empty if it can."""
        if number in available:
            return ''
        if not available or server.has_failed(number):
            error = load_error(versions[number])
            if error or not available:
                return error
        both = ModelServerConfig.FromString(before.SerializeToString())
        policy = _find(both, model_name, path).model_version_policy
        policy.specific.versions[:] = sorted({*available, number})
        _write(path, both)
        try:
            return server.wait(number, lambda answering: number in answering)
        except ServingError:
            # TensorFlow Serving tries a version that does not load for minutes.
            if error := load_error(versions[number]):
                return error
            raise

    with _put_back_on_failure(path) as put_back:
        if latest:
            # Who makes the file by this only says what servers do by themselves.
            candidates = [] if is_new else sorted(versions, reverse=True)
            target, errors = _first_without_error(candidates, why_not)
            removed = _unpin(model, target)
        else:
            target, errors = _choose(model, versions, available, version, why_not)
            removed = _pin(model, versions, target)
        if not is_new and not is_moved and config == before:
            put_back()
            return '' if latest else f'{model_name} is pinned to version {target} already.'
        _write(path, config)
        if target is not None and available:
            error = server.wait(target, lambda answering: max(answering, default=None) == target)
            if error:
                raise Refused(f'The server at {server.url} cannot serve {target}: {error}')
    if is_new and latest:
        return ''
    what = f'the newest version of {model_name}' if latest else f'version {target} of {model_name}'
    where = f'{server.url} serves {what} now'
    if not available:
        where = f'The next server that reads {path} serves {what}'
    back = '--version pins another one' if latest else '--latest goes back to the newest one'
    labels = ''.join(f' Its label {label} is removed.' for label in removed)
    return f'{where}; {back}.{labels}{_left_out(errors)}'


def _find(config: ModelServerConfig, name: str, path: str) -> ModelConfig:
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise Refused(f'{path} has no model {name}, only {", ".join(models) or "none at all"}.')
    return models[name]


def _set_base_path(model: ModelConfig, base_path: str) -> bool:
    """Corrects where the versions of a model are; gives whether it was wrong."""
    before, model.base_path = model.base_path, os.path.abspath(base_path)
    return model.base_path != before


def _versions(model: ModelConfig, may_be_missing: bool) -> dict[int, str]:
    try:
        return find_versions(model.base_path)
    except OSError as error:
        if may_be_missing:
            return {}
        raise Refused(f'Cannot read {model.base_path}: {error.strerror}.') from error


def _choose(
    model: ModelConfig,
    versions: Collection[int],
    available: Collection[int],
    asked: int | None,
    why_not: Callable[[int], str],
) -> tuple[int, dict[int, str]]:
    """The version to pin, and why those that would have come before it cannot be served."""
    pinned = model.model_version_policy.specific.versions
    served = max(available or pinned or versions, default=None)
    candidates = [version for version in versions if served is not None and version < served]
    wanted = f'before {served}'
    if asked is not None:
        candidates = [asked] if asked in versions else []
        wanted = str(asked)
    target, errors = _first_without_error(sorted(candidates, reverse=True), why_not)
    if target is None:
        there = ', '.join(map(str, sorted(versions))) or 'none'
        loads = ' that loads' if errors else ''
        raise Refused(
            f'There is no version {wanted} of {model.name} at {model.base_path}{loads}, only '
            f'{there}.{_left_out(errors)}'
        )
    return target, errors


def _first_without_error(
    numbers: Iterable[int], why_not: Callable[[int], str]
) -> tuple[int | None, dict[int, str]]:
    errors: dict[int, str] = {}
    for number in numbers:
        if not (error := why_not(number)):
            return number, errors
        errors[number] = error
    return None, errors


def _left_out(errors: Mapping[int, str]) -> str:
    return ''.join(
        f' Version {version} is left out, since it does not load: {error.rstrip(".")}.'
        for version, error in errors.items()
    )


def _pin(model: ModelConfig, versions: Collection[int], target: int) -> list[str]:
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
def _put_back_on_failure(path: str) -> Iterator[Callable[[], None]]:
    """Yields what puts the file back in another case, too."""
    text = _read(path)

    def put_back() -> None:
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        elif text != _read(path):
            _replace(path, text)

    try:
        yield put_back
    except BaseException:
        put_back()
        raise


def _read(path: str) -> bytes | None:
    if not os.path.exists(path):
        return None
    with open(path, 'rb') as opened:
        return opened.read()


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
    add('--model_base_path', help='where its versions are, if models.config is new or moved')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--version', type=int, help='serve this one, not the one before')
    which.add_argument('--latest', action='store_true', help='serve the newest one again')
    which.add_argument(
        '--keep', action='store_true', help='serve the same one, only write --model_base_path'
    )
    add('--url', default='http://127.0.0.1:8501', help='the running server')
    add('--timeout', type=float, default=60.0, help='seconds to wait for the running server')
    arguments = parser.parse_args()
    if not arguments.url.startswith(('http://', 'https://')):
        parser.error(f"--url must begin with http:// or https://, not '{arguments.url}'")
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    server = Server(arguments.url, arguments.model_name, arguments.timeout)
    try:
        sentence = roll_back(
            arguments.model_config_file,
            arguments.model_name,
            server,
            base_path=arguments.model_base_path,
            version=arguments.version,
            latest=arguments.latest,
            keep=arguments.keep,
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
