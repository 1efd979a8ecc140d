"""How much disk files take."""

from __future__ import annotations

import os
import time

_BLOCK = 512  # what st_blocks counts in, whatever the file system's own blocks are
_UNITS = ('bytes', 'kB', 'MB', 'GB', 'TB')
# Above this, a run says how to free some.
MUCH = 5e9
# A run does not wait longer for the size of VAR: a network's file system may be slow.
_SECONDS = 3.0


def measured(path: str, seconds: float = float('inf')) -> tuple[int, bool]:
    """The bytes of disk that a file, or all of a folder, takes.

    It does not follow links. What disappears meanwhile does not count.

    Args:
        path: The file or folder; 0 bytes if it is not there.
        seconds: How long this may take.

    Returns:
        The bytes, and whether that is all: not if the time was over.
    """
    deadline = time.monotonic() + seconds
    try:
        total = os.lstat(path).st_blocks * _BLOCK
    except OSError:
        return 0, True
    folders = [path] if os.path.isdir(path) and not os.path.islink(path) else []
    while folders:
        if time.monotonic() > deadline:
            return total, False
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue
    return total, True


def in_words(number: float) -> str:
    """A number of bytes, as in `1.2 GB`."""
    unit = 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number /= 1000
        unit += 1
    digits = 0 if not unit or number >= 99.95 else 1
    return f'{number:.{digits}f} {_UNITS[unit]}'


def of_folder(folder: str, prune: str) -> str:
    """Says how much disk a folder takes, and if it is much, the command that lists what can go."""
    number, is_all = measured(folder, _SECONDS)
    text = f'{"" if is_all else "more than "}{in_words(number)} in {folder}'
    return f'{text}; what can go: {prune}' if number > MUCH or not is_all else text
