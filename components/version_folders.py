"""The folder of a model's versions, as the pipeline writes it.

For servers, each sub-folder with a number for a name is a version, and the highest number is the
newest. On this machine's disks a version appears in one step, by renaming. In a bucket (`gs://...`,
or `/gcs/...` where Vertex AI mounts one) nothing can be renamed in one step. There the pipeline
writes saved_model.pb last, because our server ignores a folder without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import IO

from absl import logging
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2
from tfx.dsl.io import fileio

from components.push_error import PushError

MAX_VERSION = 2**63 - 1  # TensorFlow Serving's

_GRAPH = 'saved_model.pb'
_UNFINISHED = '.unfinished'
# The files and folders that TensorFlow writes into a SavedModel.
_SAVED_MODEL = {'assets', 'assets.extra', 'fingerprint.pb', 'variables', _GRAPH}
_CHUNK = 1 << 20


def find(base_directory: str) -> dict[int, str]:
    """Number and path of everything whose name is a version's number, even if it is no version."""
    if not fileio.isdir(base_directory):
        return {}
    names = sorted(name.rstrip('/') for name in fileio.listdir(base_directory))
    return {
        int(name): os.path.join(base_directory, name)
        for name in names
        if re.fullmatch('[0-9]+', name) and int(name) <= MAX_VERSION
    }


def next_version(taken: Collection[int], now: float) -> int:
    """The number of a new version: the time, or one more than the highest number if that is later.

    Args:
        taken: The numbers in use.
        now: Seconds since 1970.

    Raises:
        PushError: There is no higher number.
    """
    version = max(int(now), max(taken, default=0) + 1)
    if version > MAX_VERSION:
        raise PushError(
            f'The model is not pushed: there is a version {MAX_VERSION}, the highest number that '
            'servers know, and they would go on serving that one. Remove or rename its folder.'
        )
    return version


def digests(folder: str) -> dict[str, str]:
    """SHA-256 of each file below a folder, by relative path."""
    found = {}
    for name in _files(folder):
        digest = hashlib.sha256()
        with fileio.open(os.path.join(folder, name), 'rb') as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
        found[name] = digest.hexdigest()
    return found


@contextlib.contextmanager
def locked(base_directory: str) -> Iterator[None]:
    """Makes the folder if it is missing, and lets in one process of this machine at a time.

    So no process takes for a leftover what another is still copying.
    """
    if _in_bucket(base_directory):
        yield
        return
    os.makedirs(base_directory, exist_ok=True)
    descriptor = os.open(base_directory, os.O_RDONLY)
    try:
        # Some network file systems cannot lock folders.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(base_directory: str) -> None:
    """Removes the remains of killed pushes: unfinished copies, and halves that TFX's Pusher left.

    In a bucket it removes nothing, because another process may be writing what looks like half a
    version.
    """
    if _in_bucket(base_directory):
        return
    for name in os.listdir(base_directory):
        if re.fullmatch(f'[0-9]+{re.escape(_UNFINISHED)}', name):
            _remove(os.path.join(base_directory, name))
    for path in find(base_directory).values():
        if _is_half(path):
            # Renamed first, in one step, so that no server finds even less of it.
            os.rename(path, path + _UNFINISHED)
            _remove(path + _UNFINISHED)


def publish(model: str, path: str, extras: Mapping[str, str] | None = None) -> None:
    """Copies a SavedModel to the folder of a new version, which appears whole or not at all.

    Args:
        model: The SavedModel.
        path: The folder.
        extras: See `copy`.
    """
    if _in_bucket(path):
        copy(model, path, extras)
        return
    unfinished = path + _UNFINISHED
    try:
        copy(model, unfinished, extras)
        os.rename(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _write_through(os.path.dirname(path))


def copy(model: str, folder: str, extras: Mapping[str, str] | None = None) -> None:
    """Copies the files of a SavedModel, and waits until they are on the disk.

    Args:
        model: The SavedModel.
        folder: Where to.
        extras: Further files, by their path in the folder.
    """
    files = {name: os.path.join(model, name) for name in _files(model)} | dict(extras or {})
    for name in sorted(files, key=lambda name: (name == _GRAPH, name)):
        path = os.path.join(folder, name)
        fileio.makedirs(os.path.dirname(path))
        with fileio.open(files[name], 'rb') as source, _writing(path) as target:
            shutil.copyfileobj(source, target, _CHUNK)
    if not _in_bucket(folder):
        for written, _, _ in os.walk(folder):
            _write_through(written)


def _remove(unfinished: str) -> None:
    shutil.rmtree(unfinished)
    logging.warning('%s is removed: it was left by a push that was interrupted.', unfinished)


def _is_half(path: str) -> bool:
    """Whether a folder is an unfinished copy of a SavedModel.

    It is only if no server could ever load it, and if it has nothing but parts of a SavedModel.
    TFX's Pusher writes saved_model.pb last: if that file is whole, the others are.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    try:
        if set(os.listdir(path)) - _SAVED_MODEL:
            return False
        with open(os.path.join(path, _GRAPH), 'rb') as opened:
            return not saved_model_pb2.SavedModel.FromString(opened.read()).meta_graphs
    except (FileNotFoundError, message.DecodeError):
        return True
    except OSError:  # unknown
        return False


def _files(folder: str) -> list[str]:
    return [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in fileio.walk(folder)
        for name in names
    ]


@contextlib.contextmanager
def _writing(path: str) -> Iterator[IO[bytes]]:
    if _in_bucket(path):
        with fileio.open(path, 'wb') as opened:
            yield opened
        return
    with open(path, 'wb') as opened:
        yield opened
        opened.flush()
        os.fsync(opened.fileno())


def _write_through(folder: str) -> None:
    """Writes the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_bucket(path: str) -> bool:
    return '://' in path or path.startswith('/gcs/')
