"""Starts the process that trains and waits for it."""

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
from capsmodel.networks.settings import NetworkConfig
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import Diverged, TrainingError, out_of_memory
from capsmodel.training.request import TrainingRequest

_REQUEST = 'request.json'


def train(request: TrainingRequest, strategy: str = 'auto') -> Checkpoints:
    """Trains in a process of its own.

    It writes the request as `request.json` to its `checkpoint_root`, for workers on other machines.
    The process's messages to a person go to standard error, its other output to the log. It gets
    the SIGTERM and SIGINT that this process gets.

    Args:
        request: What to train.
        strategy: Where to train, one of settings.STRATEGIES.

    Returns:
        The checkpoints of the training, the last of which is its end.

    Raises:
        TrainingError: The training is not complete; the message says why.
        KeyboardInterrupt: The training was interrupted, and has stopped.
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
        # How the training ended, and its last `phase`.
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
        phase = outcome.get('phase', '')
        raise TrainingError(_ended_by(-process.returncode, phase, request.network))
    raise RuntimeError(outcome.get('failure', f'exit code {process.returncode}'))


@contextlib.contextmanager
def _own_copy(request: TrainingRequest) -> Iterator[pathlib.Path]:
    """A copy of the request: another run of the pipeline may overwrite `request.json`."""
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
        stdin=subprocess.PIPE,  # it ends when this process is gone
        start_new_session=True,  # otherwise a terminal's Ctrl-C would reach it twice
        stdout=subprocess.PIPE,
        text=True,
        errors='replace',
    ) as process:
        yield process


@contextlib.contextmanager
def _signals_handed_on(process: subprocess.Popen[str]) -> Iterator[set[int]]:
    """Interrupts the other process when this one gets a signal; yields the signals' numbers."""
    received: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def hand_on(number: int, _: object) -> None:
        received.add(number)
        # SIGINT also ends a process that still waits for other workers; SIGTERM does not.
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
    """The phase or the outcome that a line of output reports; empty for any other line."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _ended_by(number: int, phase: str, network: NetworkConfig) -> str:
    ended = f'The training process was ended by {signal.Signals(number).name}'
    if number == signal.SIGKILL:
        return out_of_memory(f'{ended}, as the system does when memory runs out,', phase, network)
    return f'{ended}: the same command resumes from its last checkpoint.'
