"""States of a training on disk: each is whole, or is not used.

A training has a folder of its own, named by a fingerprint of all that decides its result. A state
in it is a folder `step-00000200` with what tf.train.Checkpoint writes, `progress.json`, and the
checksums of both in `SHA256SUMS`, which `sha256sum --check` reads as well. It is written beside its
place and renamed when all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.summaries.console import reason, say
from capsmodel.training.errors import TrainingError

# Marks the folder of a training whose model is exported: it has served its purpose.
FINISHED = 'finished'

_KEPT = 2  # states: the last one, and one before it should that be damaged
_SUMS = 'SHA256SUMS'
_PROGRESS = 'progress.json'
_LOG = 'log'
_LOG_DIR = 'log_dir'


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is, beside the values of its variables.

    Attributes:
        step: Steps made.
        best: Accuracy and negative margin loss of the best epoch's evaluation; None before any.
    """

    step: int = 0
    best: tuple[float, float] | None = None


def fingerprint(settings: Any, arrays: Sequence[np.ndarray]) -> str:
    """16 hexadecimal digits that stand for values which JSON can carry, and for arrays."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        digest.update(f'{array.dtype} {array.shape} '.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


class Checkpoints:
    """The states of one training.

    Args:
        folder: The training's own.
        every_steps: How many steps lie between two states; 0: only each epoch's end has one.
    """

    def __init__(self, folder: str | os.PathLike, every_steps: int = 0) -> None:
        self.folder = pathlib.Path(folder)
        self.every_steps = every_steps

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from the same training; waits for one that is at it already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / 'lock', 'w', encoding='utf-8') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say('another process is at the same training: waiting for it to end')
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def save(self, variables: tf.train.Checkpoint, progress: Progress) -> None:
        """Writes a state and removes those before the last two.

        Raises:
            TrainingError: It cannot be written; the states that were there are untouched.
        """
        path = self._path(progress.step)
        unfinished = path.with_name(f'{path.name}.unfinished')
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            variables.write(str(unfinished / 'variables'))
            (unfinished / _PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))
            sums = ''.join(f'{_sha256(file)}  {file.name}\n' for file in _files(unfinished))
            (unfinished / _SUMS).write_text(sums)
            for written in (*_files(unfinished), unfinished):
                _sync(written)
            shutil.rmtree(path, ignore_errors=True)
            unfinished.rename(path)
            _sync(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise TrainingError(self._not_written(progress.step, error)) from error
        for _, older in self._states()[_KEPT:]:
            shutil.rmtree(older, ignore_errors=True)

    def restore(self, variables: tf.train.Checkpoint) -> Progress:
        """Reads the last state that is whole; without one, nothing is read and step is 0.

        What is damaged is named on standard error.

        Raises:
            AssertionError, ValueError: The state is one of other variables.
        """
        for step, path in self._states():
            damage = _damage(path)
            if damage:
                say(f'the checkpoint of step {step:,} is damaged, {damage}: it is not used')
                continue
            variables.read(str(path / 'variables')).assert_existing_objects_matched()
            progress = json.loads((path / _PROGRESS).read_text())
            return Progress(progress['step'], progress['best'] and tuple(progress['best']))
        return Progress()

    def set_log(self, log_dir: str) -> None:
        """Remembers where this training's log is written, as seen from here: VAR may be moved."""
        is_local = '://' not in log_dir
        log = os.path.relpath(log_dir, self.folder) if is_local else log_dir
        with contextlib.suppress(OSError):  # as in `keep_log`
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _LOG_DIR).write_text(log)

    def earlier_log(self) -> str | None:
        """The folder that `set_log` was told last, or what `keep_log` copied if it is gone."""
        with contextlib.suppress(FileNotFoundError):
            for log in ((self.folder / _LOG_DIR).read_text(), _LOG):
                path = os.path.normpath(self.folder / log)
                if os.path.isdir(path):
                    return path
        return None

    def keep_log(self, log_dir: str) -> None:
        """Copies a log: TFX removes what a failed execution wrote."""
        shutil.rmtree(self.folder / _LOG, ignore_errors=True)
        with contextlib.suppress(OSError):  # curves are not worth another error
            shutil.copytree(log_dir, self.folder / _LOG)

    def finish(self) -> None:
        """Marks the folder as one that may be removed."""
        (self.folder / FINISHED).touch()

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f'step-{step:08}'

    def _states(self) -> list[tuple[int, pathlib.Path]]:
        """Steps and folders, the last one first."""
        states = [
            (int(path.name.removeprefix('step-')), path)
            for path in self.folder.glob('step-*')
            if path.name.removeprefix('step-').isdigit()
        ]
        return sorted(states, reverse=True)

    def _not_written(self, step: int, error: Exception) -> str:
        kept = [str(at) for at, path in self._states() if not _damage(path)]
        rest = f'that of step {kept[0]} is kept' if kept else 'there is none before it'
        return (
            f'The checkpoint of step {step} cannot be written to {self.folder}: {reason(error)}; '
            f'{rest}. Free some space there: the same command goes on from the last checkpoint.'
        )


def _damage(path: pathlib.Path) -> str:
    """Says what is wrong with a state; empty where nothing is."""
    try:
        lines = (path / _SUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split('  ', 1) for line in lines)}
        if sums.keys() != {file.name for file in _files(path)} - {_SUMS}:
            return f'its files are not those of {_SUMS}'
        for name, digest in sums.items():
            if _sha256(path / name) != digest:
                return f'{name} does not have its checksum'
    except FileNotFoundError:
        return f'{_SUMS} is missing'
    except (OSError, ValueError) as error:
        return f'it cannot be read: {error}'
    return ''


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
