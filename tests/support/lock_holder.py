"""A process that holds locks, as another run does."""

import contextlib
import os
import subprocess
import sys

from project_paths import PROGRAMS


@contextlib.contextmanager
def held_elsewhere(*paths):
    """Yields the process, which holds the locks of the files until its end."""
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with subprocess.Popen(
        [sys.executable, '-S', PROGRAMS / 'hold_locks.py', *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == 'held\n'
        yield process
        process.kill()
