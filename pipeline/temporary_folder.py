"""The folder for the temporary files of a run, which leaves none behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from components import locks
from components.temporary_files import temporary_files_in
from pipeline.settings import Config

# In each folder: locked by the process that uses it.
_IN_USE = '.in-use'


@contextlib.contextmanager
def temporary_folder(config: Config) -> Iterator[None]:
    """Has temporary files written to a folder in VAR, which is removed in the end.

    What killed processes have left is removed at the start.
    """
    root = os.path.join(config.var, 'tmp')
    os.makedirs(root, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with locks.held(os.path.join(config.lock_dir, 'temporary-folders')):
            _remove_unused(root)
            folder = tempfile.mkdtemp(dir=root, prefix='')
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            in_use = stack.enter_context(open(os.path.join(folder, _IN_USE), 'w'))
            locks.take(in_use.fileno())
        with temporary_files_in(folder):
            yield


def _remove_unused(root: str) -> None:
    for entry in os.scandir(root):
        # What else could be wrong with a folder is no reason not to run.
        with contextlib.suppress(OSError), open(os.path.join(entry.path, _IN_USE), 'a') as in_use:
            if locks.take(in_use.fileno()):
                shutil.rmtree(entry.path, ignore_errors=True)
