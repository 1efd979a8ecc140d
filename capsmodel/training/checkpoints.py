"""Checkpoints of a training on disk: each one is either complete or not used.

A training has a folder of its own, named by a fingerprint of everything that decides its result. A
checkpoint in it is a folder such as `step-00000200` with the files of tf.train.Checkpoint,
`progress.json`, and `SHA256SUMS` with the checksums of both, which `sha256sum --check` can read. It
is written under another name and renamed once all of it is on the disk.
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

from capsmodel.data.stored_images import StoredImages, pieces
from capsmodel.summaries.console import reason, say
from capsmodel.training.errors import TrainingError

# Marks the folder of a training whose model is exported: its checkpoints are not needed any more.
FINISHED = 'finished'

_KEPT = 2  # checkpoints: the last one, and the one before it in case the last is damaged
_SUMS = 'SHA256SUMS'
_PROGRESS = 'progress.json'
_LOG = 'log'
_LOG_DIR = 'log_dir'


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is; the values of its variables are stored elsewhere.

    Attributes:
        step: The number of steps done.
        best: Accuracy and negative classification loss of the best epoch; None before the first
            evaluation.
    """

    step: int = 0
    best: tuple[float, float] | None = None


def fingerprint(settings: Any, arrays: Sequence[np.ndarray | StoredImages]) -> str:
    """A hash, 16 hexadecimal digits, of settings that JSON can hold and of arrays."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        digest.update(f'{array.dtype} {array.shape} '.encode())
        for piece in pieces(array):
            digest.update(piece.tobytes())
    return digest.hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: The folder of this training.
        every_steps: Steps between two checkpoints; 0: one at the end of each epoch only.
    """

    def __init__(self, folder: str | os.PathLike, every_steps: int = 0) -> None:
        self.folder = pathlib.Path(folder)
        self.every_steps = every_steps

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of this training; waits if another one is in it already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / 'lock', 'w', encoding='utf-8') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say('another process is at the same training: waiting for it to end')
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def save(self, variables: tf.train.Checkpoint, progress: Progress) -> None:
        """Writes a checkpoint and removes all but the last two.

        Raises:
            TrainingError: It cannot be written; earlier checkpoints are untouched.
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
        for _, older in self._saved()[_KEPT:]:
            shutil.rmtree(older, ignore_errors=True)

    def restore(self, variables: tf.train.Checkpoint) -> Progress:
        """Reads the last checkpoint that is not damaged, and names the damaged ones to the user.

        Returns:
            The progress of that checkpoint. Without a checkpoint it reads nothing, and `step` is 0.

        Raises:
            AssertionError, ValueError: The checkpoint does not have these variables.
        """
        for step, path in self._saved():
            damage = _damage(path)
            if damage:
                say(f'the checkpoint of step {step:,} is damaged, {damage}: it is not used')
                continue
            variables.read(str(path / 'variables')).assert_existing_objects_matched()
            progress = json.loads((path / _PROGRESS).read_text())
            return Progress(progress['step'], progress['best'] and tuple(progress['best']))
        return Progress()

    def set_log(self, log_dir: str) -> None:
        """Stores the log's folder relative to the checkpoints', since VAR may be moved."""
        is_local = '://' not in log_dir
        log = os.path.relpath(log_dir, self.folder) if is_local else log_dir
        with contextlib.suppress(OSError):  # as in `keep_log`
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _LOG_DIR).write_text(log)

    def earlier_log(self) -> str | None:
        """The last folder given to `set_log`, or the copy that `keep_log` made if it is gone."""
        with contextlib.suppress(FileNotFoundError):
            for log in ((self.folder / _LOG_DIR).read_text(), _LOG):
                path = os.path.normpath(self.folder / log)
                if os.path.isdir(path):
                    return path
        return None

    def keep_log(self, log_dir: str) -> None:
        """Copies a log, because TFX removes the output of a failed execution."""
        shutil.rmtree(self.folder / _LOG, ignore_errors=True)
        with contextlib.suppress(OSError):  # losing the curves is not worth another error
            shutil.copytree(log_dir, self.folder / _LOG)

    def finish(self) -> None:
        """Marks the folder as ready to be removed."""
        (self.folder / FINISHED).touch()

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f'step-{step:08}'

    def _saved(self) -> list[tuple[int, pathlib.Path]]:
        """Steps and folders of the checkpoints, the last one first."""
        saved = [
            (int(path.name.removeprefix('step-')), path)
            for path in self.folder.glob('step-*')
            if path.name.removeprefix('step-').isdigit()
        ]
        return sorted(saved, reverse=True)

    def _not_written(self, step: int, error: Exception) -> str:
        kept = [str(at) for at, path in self._saved() if not _damage(path)]
        rest = f'that of step {kept[0]} is kept' if kept else 'there is no earlier checkpoint'
        return (
            f'The checkpoint of step {step} cannot be written to {self.folder}: {reason(error)}; '
            f'{rest}. Free some space there: the same command resumes from the last checkpoint.'
        )


def _damage(path: pathlib.Path) -> str:
    """Says what is wrong with a checkpoint; empty if it is complete."""
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
