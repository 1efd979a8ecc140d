"""Where this process, and those that it starts, write temporary files."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Has temporary files written to `folder` while the context lasts."""
    variable, tempdir = os.environ.get('TMPDIR'), tempfile.tempdir
    os.environ['TMPDIR'] = tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = tempdir
        if variable is None:
            del os.environ['TMPDIR']
        else:
            os.environ['TMPDIR'] = variable
