"""Where training runs: on one device, on several GPUs of a machine, or on several machines.

Several machines find each other by TF_CONFIG, in the form of
https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable:
it holds the addresses of all workers, and says which of them a process is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from capsmodel.summaries.console import say
from capsmodel.training.errors import TrainingError
from capsmodel.training.settings import STRATEGIES

_CONFIG = 'TF_CONFIG'
_JOBS = ('chief', 'worker')
# The errors that a worker gets when another one is gone.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def make(name: str) -> tf.distribute.Strategy:
    """Makes a strategy; one of several workers waits here for the others.

    Args:
        name: One of STRATEGIES. `default` is one device, `mirrored` all GPUs of this machine, and
            `multi_worker` all devices of the workers in TF_CONFIG. `auto` is `multi_worker` if
            TF_CONFIG has several workers, else `mirrored` if there are several GPUs, else
            `default`.

    Raises:
        TrainingError: TF_CONFIG does not say who the workers are, or is wrong.
        ValueError: There is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(f'strategy must be one of {", ".join(STRATEGIES)}, not {name!r}')
    workers = _workers() if name in ('auto', 'multi_worker') else 0
    if name == 'auto':
        gpus = len(tf.config.list_physical_devices('GPU'))
        name = 'multi_worker' if workers > 1 else 'mirrored' if gpus > 1 else 'default'
    if name == 'default':
        return tf.distribute.get_strategy()
    if name == 'mirrored':
        return tf.distribute.MirroredStrategy()
    if not workers:
        raise TrainingError(
            f'STRATEGY is multi_worker, but {_CONFIG} names no workers: it must hold their '
            'addresses, and which of them this process is'
        )
    if workers > 1:
        say(f'waiting until all {workers} workers are there')
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except ValueError as error:
        raise TrainingError(f'{_CONFIG} is wrong: {error}') from error


def has_several_workers(name: str) -> bool:
    """Whether `make` would wait for other processes.

    Raises:
        TrainingError: TF_CONFIG is wrong.
    """
    return name in ('auto', 'multi_worker') and _workers() > 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes files: it is `chief` or, without a chief, the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if 'chief' in resolver.cluster_spec().jobs:
        return resolver.task_type == 'chief'
    return resolver.task_id == 0


def assert_same_on_all_workers(strategy: tf.distribute.Strategy, text: str, what: str) -> None:
    """Checks that all workers call this with the same text.

    Args:
        strategy: The strategy of all workers.
        text: Any text.
        what: What the text stands for, for the message.

    Raises:
        TrainingError: The workers' texts differ.
    """
    digest = hashlib.sha256(text.encode()).digest()
    if len(_gathered(strategy, int.from_bytes(digest[:8], 'little', signed=True))) > 1:
        raise TrainingError(
            f'The workers do not have the same {what}: they must see the same files, run the same '
            'code, and be started together'
        )


def replicas_here(strategy: tf.distribute.Strategy) -> int:
    """The number of replicas in this process."""
    return len(strategy.experimental_local_results(_distributed(strategy, 0)))


def least(strategy: tf.distribute.Strategy, value: int) -> int:
    """The smallest of the values that the workers call this with."""
    return min(_gathered(strategy, value))


def _gathered(strategy: tf.distribute.Strategy, value: int) -> set[int]:
    return {int(each) for each in strategy.gather(_distributed(strategy, value), axis=0)}


def _distributed(strategy: tf.distribute.Strategy, value: int) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant([value], tf.int64)
    )


@contextlib.contextmanager
def report_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into one sentence.

    Raises:
        TrainingError: Another worker is gone.
    """
    try:
        yield
    except _LOST as error:
        if strategy.cluster_resolver is None:
            raise
        raise TrainingError(
            'Another worker is gone, and training cannot go on without it: started again, all '
            'workers resume from the last checkpoint'
        ) from error


def _workers() -> int:
    """The number of workers in TF_CONFIG; 0 if it is not set."""
    text = os.environ.get(_CONFIG)
    if not text:
        return 0
    try:
        config = json.loads(text)
        cluster, task = config['cluster'], config['task']
        if task['type'] not in _JOBS:
            raise ValueError(f'the type of a task must be one of {", ".join(_JOBS)}')
        _ = cluster[task['type']][int(task['index'])]
        return sum(len(cluster.get(job, [])) for job in _JOBS)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TrainingError(
            f'{_CONFIG} must hold the addresses of all workers as `cluster`, and which of them '
            f'this process is as `task`: {type(error).__name__}: {error}'
        ) from error
