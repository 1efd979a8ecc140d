"""What a training says to the person who started it."""

import sys


def say(text: str) -> None:
    """Writes a line to standard error, set in like all that a stage says before it ends."""
    print(f'  {text}', file=sys.stderr)
