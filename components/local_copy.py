"""A model's folder that every process of this machine can read."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from tfx.utils import io_utils


@contextlib.contextmanager
def on_this_machine(model_dir: str) -> Iterator[str]:
    """The model's folder, or a copy of it on this machine if it is in a bucket (`gs://...`)."""
    if '://' not in model_dir:
        yield model_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, 'model')
        io_utils.copy_dir(model_dir, copy)
        yield copy
