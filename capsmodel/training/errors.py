"""The errors of a training that cannot start or cannot go on."""

import contextlib
import errno
import math
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from capsmodel.networks.settings import NetworkConfig


class TrainingError(Exception):
    """Training is not complete; the message is for the person who started it."""


class Diverged(TrainingError):
    """The loss is no longer finite."""


def check_finite(step: int, loss: float, learning_rate: Callable[[int], Any]) -> None:
    """Checks the loss of a step.

    Args:
        step: Counted from 0.
        loss: Its loss.
        learning_rate: Maps a step to its learning rate.

    Raises:
        Diverged: The loss is not finite.
    """
    if not math.isfinite(loss):
        raise Diverged(
            f'The loss is {loss} at step {step}, where the learning rate is '
            f'{float(learning_rate(step)):g}: lower LEARNING_RATE'
        )


@contextlib.contextmanager
def report_full_disk() -> Iterator[None]:
    """Around `load_examples`: turns the error of a full disk into a sentence.

    Raises:
        TrainingError: There is no space left for the temporary file with the images.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            'The transformed images do not fit on the disk of the folder for temporary files, '
            f'{tempfile.gettempdir()}: free some space there, or have VAR (in a container: TMPDIR) '
            'name a folder on another disk'
        ) from error


def out_of_memory(what: str, phase: str, network: NetworkConfig) -> str:
    """The message for a training that ran out of memory: when, and which settings to lower.

    Args:
        what: What happened, as the beginning of a sentence.
        phase: What the training was doing, as `loop.train` reports it; empty before the first step.
        network: What was trained.
    """
    when = f' while it was {phase}' if phase else ''
    first = 'EVAL_BATCH_SIZE or BATCH_SIZE'
    if phase.startswith('training'):
        first = 'BATCH_SIZE (or BATCH_SIZE_PER_REPLICA)'
    elif phase.startswith('evaluating'):
        first = 'EVAL_BATCH_SIZE below that, which does not restart the training'
    return (
        f'{what}{when}. Lower {first}, or what makes the network large: {network.sizes}. With '
        'unchanged settings the same command resumes from the last checkpoint.'
    )
