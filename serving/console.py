"""Lines for the person who runs the server."""

from __future__ import annotations

import contextlib
import os
import select


def say(line: str) -> None:
    """Writes a line to standard output."""
    _write(1, line)


def complain(line: str) -> None:
    """Writes a line to standard error."""
    _write(2, line)


def _write(file: int, line: str) -> None:
    # Nobody may be there to read. That must not stop the server, so a line that would have to wait
    # is dropped.
    with contextlib.suppress(OSError):
        if select.select([], [file], [], 0)[1]:
            os.write(file, f'{line}\n'.encode(errors='replace'))
