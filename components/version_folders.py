"""The folder of a model's versions, as a pipeline writes it.

Servers take each sub-folder that is named by a number for a version, the highest for the newest. On
this machine's disks a version appears in one step, by renaming. In a bucket (`gs://...`, or where
Vertex AI mounts one, `/gcs/...`) nothing can be renamed in one step: there saved_model.pb, without
which a folder is no version to our server, is written last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from typing import IO

from absl import logging
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2
from tfx.dsl.io import fileio

from components.push_error import PushError

MAX_VERSION = 2**63 - 1  # of TensorFlow Serving

_GRAPH = 'saved_model.pb'
_UNFINISHED = '.unfinished'
# All that TensorFlow writes into a SavedModel.
_SAVED_MODEL = {'assets', 'assets.extra', 'fingerprint.pb', 'variables', _GRAPH}
_CHUNK = 1 << 20


def find(base_directory: str) -> dict[int, str]:
    """Number and path of whatever is named by a version's number, even if it is none."""
    if not fileio.isdir(base_directory):
        return {}
    names = sorted(name.rstrip('/') for name in fileio.listdir(base_directory))
    return {
        int(name): os.path.join(base_directory, name)
        for name in names
        if re.fullmatch('[0-9]+', name) and int(name) <= MAX_VERSION
    }


def next_version(taken: Collection[int], now: float) -> int:
    """The number of a new version: the time, or more where a clock that was wrong gave a later one.

    Args:
        taken: The numbers that are taken.
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
    """Makes the folder where it is missing, and lets one process of this machine in at a time.

    What another process is still copying is no leftover.
    """
    if _in_bucket(base_directory):
        yield
        return
    os.makedirs(base_directory, exist_ok=True)
    descriptor = os.open(base_directory, os.O_RDONLY)
    try:
        # Some network file systems lock no folders.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(base_directory: str) -> None:
    """Removes what killed pushes left: unfinished copies, and the halves of TFX's own Pusher.

    In a bucket it removes nothing: what looks like half a version may be one that another process
    is writing.
    """
    if _in_bucket(base_directory):
        return
    unfinished = [
        os.path.join(base_directory, name)
        for name in os.listdir(base_directory)
        if re.fullmatch(f'[0-9]+{re.escape(_UNFINISHED)}', name)
    ]
    for path in find(base_directory).values():
        if _is_half(path):
            # In one step, so that no server meets even less of it.
            os.rename(path, path + _UNFINISHED)
            unfinished.append(path + _UNFINISHED)
    for path in unfinished:
        shutil.rmtree(path)
        logging.warning('%s is removed: a push was killed while it wrote it.', path)


def publish(model: str, path: str) -> None:
    """Copies a SavedModel to the folder of a new version, which appears complete or not at all."""
    if _in_bucket(path):
        copy(model, path)
        return
    unfinished = path + _UNFINISHED
    try:
        copy(model, unfinished)
        os.rename(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _write_through(os.path.dirname(path))


def copy(model: str, folder: str) -> None:
    """Copies the files of a SavedModel; what is copied to this machine's disks is on them then."""
    for name in sorted(_files(model), key=lambda name: (name == _GRAPH, name)):
        path = os.path.join(folder, name)
        fileio.makedirs(os.path.dirname(path))
        with fileio.open(os.path.join(model, name), 'rb') as source, _writing(path) as target:
            shutil.copyfileobj(source, target, _CHUNK)
    if not _in_bucket(folder):
        for written, _, _ in os.walk(folder):
            _write_through(written)


def _is_half(path: str) -> bool:
    """Whether a folder is a copy of a SavedModel that was broken off.

    It is one only if no server could ever load it, and if it holds nothing but parts of a
    SavedModel. TFX's Pusher writes saved_model.pb last: where that is whole, all else is.
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
    except OSError:  # Nobody can tell.
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
    """Has the names in a folder written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_bucket(path: str) -> bool:
    return '://' in path or path.startswith('/gcs/')
