"""Serves another version of a model by writing models.config, which running servers read again.

`python -m serving.rollback --model_config_file F --model_name M` goes back to the version before
the one that is served. It pins that version (`model_version_policy { specific }`) and gives it the
label `stable`. It leaves out versions that do not load. A running server finds out which these are;
if none runs, or if it failed to load a version before, this process loads the version.

TensorFlow Serving and our server apply the labels of a new models.config before its versions, and
refuse the whole file if a label moves to a version that is not loaded. So if a server runs, the
file is written twice: first with both versions and the old labels; then, once the server says that
the other version is available, with that version and its label alone. No request fails meanwhile.
If the server does not get that far, the file is restored.

Servers that start with such a file need --allow_version_labels_for_unavailable_models, since no
version is loaded yet when they read its labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.config_files import (
    read_model_config,
    restored_on_failure,
    single_model_config,
    write_model_config,
)
from serving.errors import ServingError
from serving.models.loadable import load_error
from serving.models.versions import find_versions
from serving.running_server import Server

STABLE = 'stable'


class Refused(Exception):
    """The rollback cannot be done; the message says why. models.config is as it was before."""


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
    """Changes which version of a model is served.

    Args:
        path: models.config. If the file is missing, it is made, with its folders.
        model_name: The model.
        server: A server that may be running. If it answers, this function waits for it.
        base_path: The folder of the model's versions. Needed if models.config is missing; corrects
            the path in it if the folder was moved or copied together with models.config.
        version: The version to pin. By default, without `latest` and `keep`, it is the one before
            the version that is served.
        latest: Whether to remove the pin and serve the newest version.
        keep: Whether to change nothing but `base_path`.

    Returns:
        A sentence that says what is served now, and which versions were left out; '' if nothing
        has changed.

    Raises:
        Refused: It cannot be done.
        ServingError: models.config cannot be read or written, or the server does not follow it.
    """
    path = os.path.realpath(path)
    is_new = not os.path.exists(path)
    if is_new and not base_path:
        raise Refused(f'There is no {path}: say by --model_base_path where the versions are.')
    before = single_model_config(model_name, base_path or '') if is_new else read_model_config(path)
    is_moved = bool(base_path and _set_base_path(_find(before, model_name, path), base_path))
    if keep:
        if is_new or is_moved:
            write_model_config(path, before)
        return ''
    config = ModelServerConfig.FromString(before.SerializeToString())
    model = _find(config, model_name, path)
    versions = _versions(model, may_be_missing=latest)
    # No server reads a file that is missing.
    available = [] if is_new else server.available()
    trials = _Trials(path, before, model_name, versions, server, available)
    with restored_on_failure(path) as restore:
        if latest:
            # A new file without a pin only says what servers do by themselves: try no version.
            candidates = [] if is_new else sorted(versions, reverse=True)
            target, errors = trials.first_that_loads(candidates)
            removed = _unpin(model, target)
        else:
            target, errors = _choose(model, versions, available, version, trials)
            removed = _pin(model, versions, target)
        if not is_new and not is_moved and config == before:
            restore()
            return '' if latest else f'{model_name} is pinned to version {target} already.'
        write_model_config(path, config)
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


@dataclasses.dataclass(frozen=True)
class _Trials:
    """Finds out which versions of a model can be served."""

    path: str
    config: ModelServerConfig
    model_name: str
    versions: Mapping[int, str]  # their folders
    server: Server
    available: Collection[int]  # the versions that the server serves; empty if none runs

    def first_that_loads(self, numbers: Iterable[int]) -> tuple[int | None, dict[int, str]]:
        """The first of some versions that can be served, and the errors of those before it."""
        errors: dict[int, str] = {}
        for number in numbers:
            if not (error := self._error(number)):
                return number, errors
            errors[number] = error
        return None, errors

    def _error(self, number: int) -> str:
        """Why a version cannot be served; '' if it can."""
        if number in self.available:
            return ''
        if not self.available or self.server.has_failed(number):
            error = load_error(self.versions[number])
            if error or not self.available:
                return error
        both = ModelServerConfig.FromString(self.config.SerializeToString())
        policy = _find(both, self.model_name, self.path).model_version_policy
        policy.specific.versions[:] = sorted({*self.available, number})
        write_model_config(self.path, both)
        try:
            return self.server.wait(number, lambda answering: number in answering)
        except ServingError:
            # TensorFlow Serving tries a version that does not load for minutes.
            if error := load_error(self.versions[number]):
                return error
            raise


def _find(config: ModelServerConfig, name: str, path: str) -> ModelConfig:
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise Refused(f'{path} has no model {name}, only {", ".join(models) or "none at all"}.')
    return models[name]


def _set_base_path(model: ModelConfig, base_path: str) -> bool:
    """Corrects the folder of a model's versions; returns whether it was wrong."""
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
    trials: _Trials,
) -> tuple[int, dict[int, str]]:
    """The version to pin, and the errors of the versions that were tried before it."""
    pinned = model.model_version_policy.specific.versions
    served = max(available or pinned or versions, default=None)
    candidates = [version for version in versions if served is not None and version < served]
    wanted = f'before {served}'
    if asked is not None:
        candidates = [asked] if asked in versions else []
        wanted = str(asked)
    target, errors = trials.first_that_loads(sorted(candidates, reverse=True))
    if target is None:
        there = ', '.join(map(str, sorted(versions))) or 'none'
        loads = ' that loads' if errors else ''
        raise Refused(
            f'There is no version {wanted} of {model.name} at {model.base_path}{loads}, only '
            f'{there}.{_left_out(errors)}'
        )
    return target, errors


def _left_out(errors: Mapping[int, str]) -> str:
    return ''.join(
        f' Version {version} is left out, since it does not load: {error.rstrip(".")}.'
        for version, error in errors.items()
    )


def _pin(model: ModelConfig, versions: Collection[int], target: int) -> list[str]:
    """Pins `target`, and the older versions that have labels; returns the labels removed."""
    kept = {
        label: version
        for label, version in model.version_labels.items()
        if label != STABLE and version in versions and version < target
    }
    # A request that names neither version nor label is for the highest one.
    model.model_version_policy.specific.versions[:] = sorted({*kept.values(), target})
    return _relabel(model, {**kept, STABLE: target})


def _unpin(model: ModelConfig, newest: int | None) -> list[str]:
    """Removes the pin; returns the labels removed."""
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


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m serving.rollback', description=__doc__.splitlines()[0], allow_abbrev=False
    )
    add = parser.add_argument
    add('--model_config_file', required=True, help='models.config; made if it is missing')
    add('--model_name', required=True, help='the model')
    add('--model_base_path', help='folder of its versions, if models.config is new or moved')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--version', type=int, help='serve this version, not the one before')
    which.add_argument('--latest', action='store_true', help='serve the newest version again')
    which.add_argument(
        '--keep', action='store_true', help='serve the same version, only write --model_base_path'
    )
    add('--url', default='http://127.0.0.1:8501', help='address of the running server')
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
