"""The folder for temporary files of this process, and of those that it starts."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Makes `folder` the folder for temporary files inside the context."""
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
