"""Files that are whole or not there."""

from __future__ import annotations

import os


def write(path: str, text: str) -> None:
    """Writes a file beside its place, and then renames it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = f'{path}.{os.getpid()}.unfinished'
    try:
        with open(unfinished, 'w', encoding='utf-8') as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(unfinished, path)
    except BaseException:
        if os.path.exists(unfinished):
            os.remove(unfinished)
        raise
