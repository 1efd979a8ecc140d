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

`--promote N` gives version N the label `stable` and serves it beside the newest version. If that
is another one, it gets the label `canary`, and requests without version or label are for it.

Servers that start with such a file need --allow_version_labels_for_unavailable_models, since no
version is loaded yet when they read its labels.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Collection, Mapping

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.config_files import (
    read_model_config,
    restored_on_failure,
    single_model_config,
    write_model_config,
)
from serving.errors import ServingError
from serving.models.versions import find_versions
from serving.running_server import Server
from serving.trials import Refused, Trials, find

STABLE, CANARY = 'stable', 'canary'


def roll_back(
    path: str,
    model_name: str,
    server: Server,
    *,
    base_path: str | None = None,
    version: int | None = None,
    latest: bool = False,
    keep: bool = False,
    promote: int | None = None,
) -> str:
    """Changes which version of a model is served.

    Args:
        path: models.config. If the file is missing, it is made, with its folders.
        model_name: The model.
        server: A server that may be running. If it answers, this function waits for it.
        base_path: The folder of the model's versions. Needed if models.config is missing; corrects
            the path in it if the folder was moved or copied together with models.config.
        version: The version to pin. By default, without the arguments below, it is the one with the
            label `stable` if another one is the canary, and otherwise the one before the version
            that is served.
        latest: Whether to remove the pin and serve the newest version.
        keep: Whether to change nothing but `base_path`.
        promote: The version to call stable, with the newest one as canary.

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
    is_moved = bool(base_path and _set_base_path(find(before, model_name, path), base_path))
    if keep:
        if is_new or is_moved:
            write_model_config(path, before)
        return ''
    config = ModelServerConfig.FromString(before.SerializeToString())
    model = find(config, model_name, path)
    versions = _versions(model, may_be_missing=latest)
    # No server reads a file that is missing.
    available = set() if is_new else set(server.available())
    trials = Trials(path, before, model_name, versions, server, available)
    with restored_on_failure(path) as restore:
        if latest:
            # A new file without a pin only says what servers do by themselves: try no version.
            candidates = [] if is_new else sorted(versions, reverse=True)
            target, errors = trials.first_that_loads(candidates)
            removed = _unpin(model, target)
            what = f'the newest version of {model_name}'
        elif promote is not None:
            target, errors, removed, what = _promote(model, versions, promote, trials)
        else:
            target, errors = _choose(model, versions, available, version, trials)
            removed = _pin(model, versions, target)
            what = f'version {target} of {model_name}'
        if not is_new and not is_moved and config == before:
            restore()
            return '' if latest else f'{path} already says to serve {what}.'
        write_model_config(path, config)
        if target is not None and available:
            error = server.wait(target, lambda answering: max(answering, default=None) == target)
            if error:
                raise Refused(f'The server at {server.url} cannot serve {target}: {error}')
            if promote is not None:
                server.wait_for_label(STABLE, promote)
    if is_new and latest:
        return ''
    who = f'{server.url} serves' if available else f'The next server that reads {path} serves'
    now = ' now' if available else ''
    back = '--version pins another one' if latest else '--latest goes back to the newest one'
    labels = ''.join(f' Its label {label} is removed.' for label in removed)
    return f'{who} {what}{now}; {back}.{labels}{_left_out(errors)}'


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
    trials: Trials,
) -> tuple[int, dict[int, str]]:
    """The version to pin, and the errors of the versions that were tried before it."""
    pinned = model.model_version_policy.specific.versions
    served = max(available or pinned or versions, default=None)
    candidates = [version for version in versions if served is not None and version < served]
    wanted = f'before {served}'
    if CANARY in model.version_labels and STABLE in model.version_labels:
        # Those between the stable version and its canary were never called stable.
        candidates = [each for each in candidates if each <= model.version_labels[STABLE]]
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


def _promote(
    model: ModelConfig, versions: Collection[int], stable: int, trials: Trials
) -> tuple[int, dict[int, str], list[str], str]:
    """Calls a version stable, and a newer one canary, if there is one that loads.

    Returns:
        The version that answers requests without a label; the errors of those that do not load;
        the labels removed; and words for what is served.
    """
    target, _ = _choose(model, versions, (), stable, trials)
    newer = sorted((number for number in versions if number > target), reverse=True)
    canary, errors = trials.first_that_loads(newer)
    removed = _pin(model, versions, target, canary)
    if canary is None:
        return target, errors, removed, f'version {target} of {model.name} as {STABLE}'
    what = (
        f'version {target} of {model.name} as {STABLE}, and version {canary} as {CANARY} and to '
        'requests without a label'
    )
    return canary, errors, removed, what


def _left_out(errors: Mapping[int, str]) -> str:
    return ''.join(
        f' Version {version} is left out, since it does not load: {error.rstrip(".")}.'
        for version, error in errors.items()
    )


def _pin(
    model: ModelConfig, versions: Collection[int], stable: int, canary: int | None = None
) -> list[str]:
    """Pins one or two versions, and the older ones that have labels; returns the labels removed."""
    # A request that names neither version nor label is for the highest one.
    served = stable if canary is None else canary
    kept = {
        label: version
        for label, version in model.version_labels.items()
        if label not in (STABLE, CANARY) and version in versions and version <= served
    }
    own = {STABLE: stable} if canary is None else {STABLE: stable, CANARY: canary}
    model.model_version_policy.specific.versions[:] = sorted({*kept.values(), *own.values()})
    return _relabel(model, {**kept, **own})


def _unpin(model: ModelConfig, newest: int | None) -> list[str]:
    """Removes the pin; returns the labels removed."""
    model.ClearField('model_version_policy')
    kept = {
        label: version
        for label, version in model.version_labels.items()
        if label not in (STABLE, CANARY) and version == newest
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
    which.add_argument(
        '--promote', type=int, help='call this version stable, and serve the newest one as canary'
    )
    add('--url', default='http://127.0.0.1:8501', help='address of the running server')
    add('--timeout', type=float, default=60.0, help='seconds to wait for the running server')
    arguments = parser.parse_args()
    if not arguments.url.startswith(('http://', 'https://')):
        parser.error(f"--url must begin with http:// or https://, not '{arguments.url}'")
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    server = Server(arguments.url, arguments.model_name, arguments.timeout)
    # As for Ctrl-C: what was written to try versions is taken back.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)
    try:
        sentence = roll_back(
            arguments.model_config_file,
            arguments.model_name,
            server,
            base_path=arguments.model_base_path,
            version=arguments.version,
            latest=arguments.latest,
            keep=arguments.keep,
            promote=arguments.promote,
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
