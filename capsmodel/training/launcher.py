"""Starts the process that trains, and waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from absl import logging

import start_tensorflow
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import Diverged, TrainingError, out_of_memory
from capsmodel.training.request import TrainingRequest

_REQUEST = 'request.json'


def train(request: TrainingRequest, strategy: str = 'auto') -> Checkpoints:
    """Trains in a process of its own and returns the checkpoints, of which the last is the end.

    The request lies as `request.json` in its `checkpoint_root`, for the workers on other machines.

    What the process shows to a person goes to standard error, what else it says to the log.
    SIGTERM and SIGINT are handed on to it.

    Raises:
        TrainingError: Training has not come to its end; the message says why.
        KeyboardInterrupt: It was interrupted, and has stopped.
    """
    request = request.with_absolute_paths()
    path = pathlib.Path(request.checkpoint_root, _REQUEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    request.write(path)
    with (
        _own_copy(request) as copy,
        _started(copy, strategy) as process,
        _signals_handed_on(process) as received,
    ):
        # How the training ended, and what it was at last: `phase`.
        outcome: dict[str, str] = {}
        for line in process.stdout or ():
            logging.info('The training process: %s', line.rstrip())
            outcome |= _said(line)
        process.wait()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if 'folder' in outcome:
        return Checkpoints(outcome['folder'])
    if 'diverged' in outcome:
        raise Diverged(outcome['diverged'])
    if 'error' in outcome:
        raise TrainingError(outcome['error'])
    if process.returncode < 0:
        raise TrainingError(_ended_by(-process.returncode, outcome.get('phase', '')))
    raise RuntimeError(outcome.get('failure', f'exit code {process.returncode}'))


@contextlib.contextmanager
def _own_copy(request: TrainingRequest) -> Iterator[pathlib.Path]:
    """A file that another run of the pipeline, at the same time, does not write its request to."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, _REQUEST)
        request.write(path)
        yield path


@contextlib.contextmanager
def _started(request: pathlib.Path, strategy: str) -> Iterator[subprocess.Popen[str]]:
    root = os.fspath(pathlib.Path(__file__).parents[2])
    environment = start_tensorflow.training_environment()
    path = [root, *filter(None, [environment.get('PYTHONPATH')])]
    with subprocess.Popen(
        [
            *(sys.executable, '-m', 'capsmodel.training.worker', '--supervised'),
            *('--strategy', strategy, os.fspath(request)),
        ],
        env={**environment, 'PYTHONPATH': os.pathsep.join(path)},
        stdin=subprocess.PIPE,  # its end tells the process that this one is gone
        start_new_session=True,  # or a terminal's Ctrl-C would reach it twice
        stdout=subprocess.PIPE,
        text=True,
        errors='replace',
    ) as process:
        yield process


@contextlib.contextmanager
def _signals_handed_on(process: subprocess.Popen[str]) -> Iterator[set[int]]:
    """Interrupts the other process when this one gets signals, and collects their numbers."""
    received: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def hand_on(number: int, _: object) -> None:
        received.add(number)
        # The one of the two that also ends a process which still waits for other workers.
        process.send_signal(signal.SIGINT)

    previous = {
        number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _said(line: str) -> dict[str, str]:
    """What a line says of where the training is, or of how it ended; empty where it does not."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _ended_by(number: int, phase: str) -> str:
    ended = f'The training process was ended by {signal.Signals(number).name}'
    if number == signal.SIGKILL:
        return out_of_memory(f'{ended}, as the system does when memory runs out,', phase)
    return f'{ended}: the same command goes on from its last checkpoint.'
