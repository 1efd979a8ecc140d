"""A process that holds locks, as another run does."""

import contextlib
import os
import subprocess
import sys

_SCRIPT = """
import fcntl, sys
files = [open(path, 'a') for path in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(*paths):
    """Yields the process, which holds the locks of the files until its end."""
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with subprocess.Popen(
        [sys.executable, '-S', '-c', _SCRIPT, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == 'held\n'
        yield process
        process.kill()
