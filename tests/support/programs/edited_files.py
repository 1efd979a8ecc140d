"""Edits files one after the other."""

import pathlib
from collections.abc import Iterator


def before_and_after_each_edit(files: list[str]) -> Iterator[None]:
    """Yields at first, and then whenever a line is added to the next of the files."""
    yield
    for file in map(pathlib.Path, files):
        file.write_text(f'{file.read_text()}# edited\n')
        yield
