"""Measures programs in turns, each in a process of its own, so that all meet the same load."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import start_tensorflow
from benchmarks.turns import serve


class Timing(NamedTuple):
    """Medians over the turns of a program.

    Attributes:
        wall: Seconds for each call.
        cpu: Seconds of CPU for each call, all threads together.
        peak_rss_mb: The peak memory of its process, in MB.
        facts: What the program reports about itself.
    """

    wall: float
    cpu: float
    peak_rss_mb: float
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Command:
    """A program that benchmarks.peers.protocol serves, in an interpreter of its own.

    Attributes:
        arguments: The command line.
        environment: Variables in addition to those of this process.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


# A function and its arguments: in a new process, it returns the function to be timed.
Function = tuple[Callable[..., Callable[[], object]], tuple[Any, ...]]


class Turn(NamedTuple):
    """What a program did when it was its turn.

    Attributes:
        wall: Seconds for each call.
        cpu: Seconds of CPU for each call, all threads together.
        peak_rss_mb: The peak memory of its process until then, in MB.
        result: What the last call has returned if that is a number, else None.
    """

    wall: float
    cpu: float
    peak_rss_mb: float
    result: float | None


class Programs:
    """Programs that have started, by name, and wait for their turns.

    Attributes:
        facts: What each program reports about itself.
    """

    def __init__(self, channels: Mapping[str, Any]):
        """Waits until all are ready, which they become at the same time."""
        self._channels = channels
        self.facts = {name: self._received(name) for name in channels}

    def turn(self, name: str, calls: int = 1) -> Turn:
        """Lets a program make some calls, and waits for them."""
        with _explained(name):
            self._channels[name].send(calls)
        return Turn(*self._received(name))

    def _received(self, name: str) -> Any:
        with _explained(name):
            return self._channels[name].recv()


@contextlib.contextmanager
def started(programs: Mapping[str, Function | Command], warm_ups: int = 2) -> Iterator[Programs]:
    """Starts each program in a process of its own, and ends it at the end of the context.

    Args:
        programs: The programs by name.
        warm_ups: For each function, the calls before its first turn; a command has its own.

    Raises:
        SystemExit: A program has ended early; the message says why.
    """
    with contextlib.ExitStack() as stack:
        yield Programs(
            {
                name: stack.enter_context(
                    _command(name, program)
                    if isinstance(program, Command)
                    else _function(program, warm_ups)
                )
                for name, program in programs.items()
            }
        )


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        said = str(error) if isinstance(error, _Ended) else 'see what it says above'
        raise SystemExit(f"The measured program '{name}' has ended early: {said}") from None


def measure(
    programs: Mapping[str, Function | Command], turns: int, seconds: float
) -> dict[str, Timing]:
    """Runs each program in turn, `turns` times.

    Args:
        programs: The programs by name.
        turns: The number of turns of each program.
        seconds: The least time of a turn; a turn has at least one call.
    """
    with started(programs) as running:
        calls = {name: max(1, round(seconds / running.turn(name).wall)) for name in programs}
        turns_of: dict[str, list[Turn]] = {name: [] for name in programs}
        for _ in range(turns):
            for name in programs:
                turns_of[name].append(running.turn(name, calls[name]))
    timings = {}
    for name, of_program in turns_of.items():
        wall, cpu, peak_rss_mb = (
            statistics.median(figures) for figures in list(zip(*of_program, strict=True))[:3]
        )
        timings[name] = Timing(wall, cpu, peak_rss_mb, running.facts[name])
    return timings


@contextlib.contextmanager
def _function(program: Function, warm_ups: int) -> Iterator[Any]:
    context = multiprocessing.get_context('spawn')
    pipe, end = context.Pipe()
    process = context.Process(target=_serve, args=(end, warm_ups, *program), daemon=True)
    process.start()
    end.close()
    try:
        yield pipe
    finally:
        process.terminate()
        process.join()


def _serve(
    pipe: Any, warm_ups: int, prepare: Callable[..., Callable[[], object]], arguments: Any
) -> None:
    start_tensorflow.load()
    serve(prepare(*arguments), {}, pipe.recv, pipe.send, warm_ups)


class _Ended(EOFError):
    """A command ended early; the message is the last line that it wrote."""


class _Lines:
    """Sends lines of JSON to a command and receives them from it."""

    def __init__(self, process: subprocess.Popen[str], errors: Any):
        self._process = process
        self._errors = errors

    def send(self, message: Any) -> None:
        assert self._process.stdin
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
        except OSError:
            raise self._ended() from None

    def recv(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> _Ended:
        status = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        return _Ended(said[-1] if said else f'it says nothing, its exit code is {status}')


@contextlib.contextmanager
def _command(name: str, command: Command) -> Iterator[_Lines]:
    with tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace') as errors:
        try:
            process = subprocess.Popen(
                command.arguments,
                env={**os.environ, **command.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        except OSError as error:
            raise SystemExit(f"The measured program '{name}' does not start: {error}") from None
        with process:
            try:
                yield _Lines(process, errors)
            finally:
                process.kill()


def report(rows: list[dict[str, Any]], columns: Mapping[str, str], path: str | None) -> None:
    """Prints rows as a table.

    Args:
        rows: The results; a value may be missing or None.
        columns: The fields to print, with their formats, such as '.1f'.
        path: A file for all fields as JSON; None: no file.
    """
    lines = [list(columns)]
    for row in rows:
        values = ((row.get(name), form) for name, form in columns.items())
        lines.append(['-' if value is None else format(value, form) for value, form in values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print('  '.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if path:
        with open(f'{path}.unfinished', 'w', encoding='utf-8') as file:
            json.dump(rows, file, indent=1)
        os.replace(f'{path}.unfinished', path)
