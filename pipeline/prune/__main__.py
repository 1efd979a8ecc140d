"""Lists what no kept run of the pipeline needs, and removes it with `--delete yes`.

`python -m pipeline.prune --keep 5` looks at artifacts, TensorBoard's folders, checkpoints, pushed
versions and logs. It first marks artifacts as deleted in ML Metadata, so that no run takes them
from the cache or compares a model with them, then renames everything, then removes it. If it is
killed, the next call completes what it began.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence

import ml_metadata as mlmd

from components import locks
from pipeline import configs, disk_usage, metadata_check
from pipeline.lineage.graph import LineageError, open_store
from pipeline.make_commands import make_command
from pipeline.metadata_error import MetadataError
from pipeline.prune import items, needed, served
from pipeline.prune.errors import PruneError
from pipeline.prune.items import Item
from pipeline.settings import Config

_WIDTH = 72


def prune(config: Config, keep: int, url: str, *, delete: bool = False) -> list[str]:
    """Removes what no kept run needs.

    Args:
        config: The settings.
        keep: How many of the newest runs are kept.
        url: The address of a server that may be running: it names the versions that it serves.
        delete: Whether to remove anything, or only to say what would be removed.

    Returns:
        Lines that say what that is.

    Raises:
        PruneError: Nothing can be removed, or not all.
        LineageError: There is no ML Metadata.
        MetadataError: ML Metadata cannot be used.
        SettingError: METADATA lacks a user.
    """
    if '://' in config.pipeline_root:
        raise PruneError(
            f'PIPELINE_ROOT is {config.pipeline_root}: make prune removes folders of this machine '
            'only, and a bucket has rules of its own for old files'
        )
    with metadata_check.explained_errors(config):
        store = open_store(config)
        with _no_run(config) if delete else contextlib.nullcontext():
            stay = needed.read(store, config, keep)
            there = items.versions_there(config)
            found = items.find(config, stay, served.versions(config, there, url))
            if delete:
                _remove(store, found)
    return _lines(config, stay, found, keep, delete)


@contextlib.contextmanager
def _no_run(config: Config) -> Iterator[None]:
    """Keeps runs of the pipeline on this machine from starting; raises PruneError during one."""
    path = os.path.join(config.lock_dir, 'pipelines', config.pipeline_name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'a') as file:
        if not locks.take(file.fileno()):
            raise PruneError(
                f'A run of {config.pipeline_name} is going on, and nothing is removed: do it when '
                'the run has ended'
            )
        yield


def _remove(store: mlmd.MetadataStore, found: Sequence[Item]) -> None:
    ids = sorted({id_ for item in found for id_ in item.artifacts})
    if ids:
        artifacts = store.get_artifacts_by_id(ids)
        for artifact in artifacts:
            artifact.state = needed.Artifact.DELETED
        store.put_artifacts(artifacts)
    try:
        # Once each: what a killed call has left may lie where another folder is put aside.
        paths = dict.fromkeys([_put_aside(item) for item in found])
        for path in paths:
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
    except OSError as error:
        raise PruneError(
            f'{error.filename} cannot be removed: {error.strerror}. Once that is mended, the same '
            'command removes the rest'
        ) from error


def _put_aside(item: Item) -> str:
    """Renames a folder, so that nobody finds a part of it; returns its path.

    A training that is made again has the name that it had before a call was killed over it.
    """
    if item.path.endswith(items.REMOVED) or not os.path.isdir(item.path):
        return item.path
    aside = item.path + items.REMOVED
    if os.path.isdir(aside):
        shutil.rmtree(aside)
    os.rename(item.path, aside)
    return aside


def _lines(
    config: Config, stay: needed.Needed, found: Sequence[Item], keep: int, delete: bool
) -> list[str]:
    runs = len(stay.runs) + len(stay.older_runs)
    newest = f'the newest {len(stay.runs)} of ' if stay.older_runs else ''
    of_runs = f'{newest}{runs} runs of {config.pipeline_name}'
    lines = [f'What {of_runs} need stays, and so does what is served or is a baseline.']
    for kind in items.KINDS:
        of_kind = [item for item in found if item.kind == kind]
        size = disk_usage.in_words(sum(item.size for item in of_kind))
        lines.append(f'{kind:12} {len(of_kind):5,} {size:>10}')
        if kind != items.OF_TFX:  # empty folders with numbers for names
            lines += _names(config, of_kind)
    total = disk_usage.in_words(sum(item.size for item in found))
    if delete:
        left, _ = disk_usage.measured(config.var)
        lines.append(f'Removed: {total}. {config.var} takes {disk_usage.in_words(left)} now')
    elif found:
        command = make_command('prune', config, KEEP=str(keep), DELETE='yes')
        lines.append(f'Nothing is removed yet. To remove {total}: {command}')
    else:
        lines.append('There is nothing to remove')
    return lines


def _names(config: Config, of_kind: Sequence[Item]) -> Iterator[str]:
    """A line for each folder in which something is removed."""
    by_folder: dict[str, list[str]] = {}
    for item in of_kind:
        by_folder.setdefault(os.path.dirname(item.path), []).append(item.name)
    for folder, names in sorted(by_folder.items()):
        shown = os.path.relpath(folder, config.var)
        where = folder if shown.startswith('..') else shown
        text = f'  {where}: {", ".join(names[:1])}'
        for number, name in enumerate(names[1:], 1):
            if len(text) + len(name) > _WIDTH:
                text += f' and {len(names) - number} more'
                break
            text += f', {name}'
        yield text


def main() -> None:
    """Prints what the Makefile asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--keep', default='', help='how many of the newest runs are kept')
    parser.add_argument('--delete', default='', help='yes removes; otherwise it is only said')
    parser.add_argument(
        '--url', default='http://127.0.0.1:8501', help='address of a server that may be running'
    )
    arguments = parser.parse_args()
    config = configs.from_environment_or_exit()
    if not (arguments.keep.isdecimal() and int(arguments.keep)):
        said = f'KEEP is {arguments.keep!r}: it' if arguments.keep else 'KEEP'
        sys.exit(
            f'{said} must say how many of the newest runs to keep, at least 1: '
            f'{make_command("prune", config, KEEP="5")}'
        )
    if arguments.delete not in ('', 'yes', 'no'):
        sys.exit(f'DELETE is {arguments.delete!r}: it must be yes or no')
    try:
        lines = prune(config, int(arguments.keep), arguments.url, delete=arguments.delete == 'yes')
    except (PruneError, LineageError, MetadataError, configs.SettingError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('Interrupted: the same command removes the rest')
    print(*lines, sep='\n')


if __name__ == '__main__':
    main()
