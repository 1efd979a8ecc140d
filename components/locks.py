"""Locks between processes on one machine. The system releases a lock when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def held(path: str, waiting: str = '') -> Iterator[None]:
    """Holds the lock of a file, which it makes, with its folder, if the file is missing.

    Args:
        path: The file. It is not removed afterwards.
        waiting: A line to print if another process holds the lock.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'a') as file:
        if not take(file.fileno()):
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take(file: int) -> bool:
    """Takes the lock of an open file, unless another process holds it; returns whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
