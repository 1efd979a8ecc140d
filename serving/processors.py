"""The number of processors."""

import os


def processors() -> int:
    """The number of the machine's processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to a processor
