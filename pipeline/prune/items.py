"""Finds the folders and files that no kept run needs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Collection, Iterator

from components import locks
from pipeline import disk_usage, var_folder
from pipeline.prune.needed import Artifact, Needed
from pipeline.settings import Config

# What is being removed has this behind its name: no server and no run looks at it any more.
REMOVED = '.pruned'

ARTIFACTS, TENSORBOARD = 'artifacts', 'TensorBoard'
CHECKPOINTS, VERSIONS, LOGS = 'checkpoints', 'versions', 'logs'
OF_TFX = "TFX's own"
KINDS = (ARTIFACTS, TENSORBOARD, CHECKPOINTS, VERSIONS, LOGS, OF_TFX)

# Where a node has its artifacts, with the id of an execution for a name, and TFX its own files.
_OF_TFX = os.path.join('.system', 'executor_execution')
# In the folder of a training's checkpoints; see capsmodel/training/checkpoints.py.
_LOG_DIR, _LOCK = 'log_dir', 'lock'


@dataclasses.dataclass(frozen=True)
class Item:
    """A folder or file to remove.

    Attributes:
        kind: One of KINDS.
        path: Where it lies. It ends in REMOVED if a run of `make prune` was killed over it.
        size: Bytes on the disk.
        artifacts: The ids of the artifacts that lie there and are not marked as deleted yet.
    """

    kind: str
    path: str
    size: int
    artifacts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path as it was before."""
        return os.path.basename(self.path).removesuffix(REMOVED)


def find(config: Config, needed: Needed, served: Collection[str]) -> list[Item]:
    """All that can be removed.

    What ML Metadata does not know stays: a version or an artifact that was copied there, or whose
    records were lost.

    Args:
        config: The settings.
        needed: What stays.
        served: The versions that are served.
    """
    return [
        *_artifacts(config, needed),
        *_checkpoints(config, needed),
        *_versions(config, needed, served),
        *_logs(config, needed),
    ]


def versions_there(config: Config) -> set[str]:
    """The numbers of the versions on the disk."""
    return {entry.name for entry in _entries(config.serving_model_dir) if _is_number(entry.name)}


def _artifacts(config: Config, needed: Needed) -> Iterator[Item]:
    of_path: dict[str, list[Artifact]] = {}
    for artifact in needed.artifacts:
        path = os.path.normpath(var_folder.located(artifact.uri, config))
        of_path.setdefault(path, []).append(artifact)
    for node in _folders(config.pipeline_root):
        outputs = [entry.path for entry in _folders(node.path) if entry.name != '.system']
        for output in [*outputs, os.path.join(node.path, _OF_TFX)]:
            for entry in _folders(output):
                name = entry.name.removesuffix(REMOVED)
                path = os.path.join(output, name)
                there = of_path.get(os.path.normpath(path), [])
                is_older = name.isdecimal() and int(name) in needed.older_executions
                is_left = entry.name != name
                if not is_left and (
                    any(each.id in needed.kept for each in there) or not (there or is_older)
                ):
                    continue
                marked = [each.id for each in there if each.state != Artifact.DELETED]
                yield _item(_kind(output, config), entry.path, marked)


def _kind(output: str, config: Config) -> str:
    if output.endswith(_OF_TFX):
        return OF_TFX
    is_log = os.path.normpath(output) == os.path.normpath(config.tensorboard_dir)
    return TENSORBOARD if is_log else ARTIFACTS


def _checkpoints(config: Config, needed: Needed) -> Iterator[Item]:
    for entry in _folders(config.checkpoint_dir):
        if entry.name.endswith(REMOVED):
            yield _item(CHECKPOINTS, entry.path)
            continue
        execution = ''
        with contextlib.suppress(OSError), open(os.path.join(entry.path, _LOG_DIR)) as file:
            execution = os.path.basename(file.read().strip())
        if execution.isdecimal() and int(execution) in needed.older_executions | needed.executions:
            is_needed = int(execution) in needed.executions
        else:
            is_needed = _changed(entry.path) >= needed.since
        if not is_needed and not _is_locked(os.path.join(entry.path, _LOCK)):
            yield _item(CHECKPOINTS, entry.path)


def _versions(config: Config, needed: Needed, served: Collection[str]) -> Iterator[Item]:
    for entry in _folders(config.serving_model_dir):
        name = entry.name
        is_older = name in needed.older_versions and name not in served
        if is_older or (name.endswith(REMOVED) and _is_number(name.removesuffix(REMOVED))):
            yield _item(VERSIONS, entry.path)


def _logs(config: Config, needed: Needed) -> Iterator[Item]:
    # The time and the process, or the run and the node: see pipeline/console.py.
    own = re.compile(rf'{re.escape(config.pipeline_name)}-\d{{8}}-\d{{6}}-\d+\.log')
    of_runs = tuple(f'{config.pipeline_name}-{run}-' for run in needed.older_runs)
    for entry in _entries(config.log_dir):
        is_old = own.fullmatch(entry.name) and _changed(entry.path) < needed.since
        if is_old or (of_runs and entry.name.startswith(of_runs)):
            yield _item(LOGS, entry.path)


def _item(kind: str, path: str, artifacts: Collection[int] = ()) -> Item:
    size, _ = disk_usage.measured(path)
    return Item(kind, path, size, tuple(artifacts))


def _is_locked(path: str) -> bool:
    """Whether another process is in this training."""
    if not os.path.exists(path):
        return False
    with open(path, 'a') as file:
        return not locks.take(file.fileno())


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return float('inf')


def _is_number(name: str) -> bool:
    return name.isdecimal() and name.isascii()


def _folders(folder: str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if entry.is_dir(follow_symlinks=False)]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, in order; nothing if the folder is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: (len(entry.name), entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
