"""The operations of this project's own, in C++: for CPUs, in training."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from capsmodel.networks import native_build


def why_not() -> str:
    """Says why the operations cannot be loaded; empty if they can."""
    try:
        operations()
    except RuntimeError as error:
        return str(error)
    return ''


@functools.cache
def operations() -> Any:
    """The operations `capsnet_routing`, `capsnet_routing_grad` and `capsnet_transform`.

    With `instructions`, one of `native_build.INSTRUCTIONS`, each takes that instruction set instead
    of the fastest one of the machine.

    Raises:
        RuntimeError: They are not compiled, or TensorFlow cannot load them.
    """
    library = native_build.library()
    if not library.exists():
        raise RuntimeError('it is not compiled: `make setup` does that where there is a compiler')
    try:
        return tf.load_op_library(str(library))
    except (tf.errors.OpError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RuntimeError(f'TensorFlow cannot load {library}: {reason}') from error
