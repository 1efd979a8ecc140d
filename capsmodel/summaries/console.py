"""The lines of a training on the terminal."""

from __future__ import annotations

import sys

import tqdm


def say(text: str) -> None:
    """Writes a line to standard error, indented below the line of the node that runs."""
    print(f'  {text}', file=sys.stderr)


def reason(error: Exception) -> str:
    """One line that says why something failed, without the details for TensorFlow's developers."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorFlow's errors look like this: {{...}} path; what the system says [Op:...]
    (line, *_) = [*str(error).strip().splitlines(), type(error).__name__]
    return line.rsplit('; ', 1)[-1].split(' [Op:', 1)[0]


class _Lines:
    """A file for a progress bar where there is no terminal: prints each update as a line."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(done: int, total: int) -> tqdm.tqdm:
    """A progress bar of images on a terminal; elsewhere it prints a line every half minute.

    Args:
        done: How many images are done at the start.
        total: How many images there are.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        initial=done,
        total=total,
        unit=' images',
        unit_scale=True,
        dynamic_ncols=on_terminal,
        file=sys.stderr if on_terminal else _Lines(),
        mininterval=0.5 if on_terminal else 30,
        maxinterval=60,
        delay=0 if on_terminal else 30,  # without a delay the first line would say 0%
        leave=False,
        disable=done == total,
    )
