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


def measure(
    programs: Mapping[str, Function | Command], turns: int, seconds: float
) -> dict[str, Timing]:
    """Runs each program in turn, `turns` times.

    Args:
        programs: The programs by name.
        turns: The number of turns of each program.
        seconds: The least time of a turn; a turn has at least one call.
    """
    with contextlib.ExitStack() as stack:
        channels = {
            name: stack.enter_context(
                _command(name, program) if isinstance(program, Command) else _function(program)
            )
            for name, program in programs.items()
        }
        name = ''
        try:
            # All programs prepare at the same time, but each call is timed alone.
            facts = {}
            for name, channel in channels.items():
                facts[name] = channel.recv()
            calls = {}
            for name, channel in channels.items():
                channel.send(1)
                calls[name] = max(1, round(seconds / channel.recv()[0]))
            turns_of: dict[str, list[list[float]]] = {name: [] for name in channels}
            for _ in range(turns):
                for name, channel in channels.items():
                    channel.send(calls[name])
                    turns_of[name].append(channel.recv())
        except (EOFError, OSError) as error:
            said = str(error) if isinstance(error, _Ended) else 'see what it says above'
            raise SystemExit(f"The measured program '{name}' has ended early: {said}") from None
    medians = {
        name: [statistics.median(values) for values in zip(*timings, strict=True)]
        for name, timings in turns_of.items()
    }
    return {
        name: Timing(wall, cpu, peak_rss_mb, facts[name])
        for name, (wall, cpu, peak_rss_mb) in medians.items()
    }


@contextlib.contextmanager
def _function(program: Function) -> Iterator[Any]:
    context = multiprocessing.get_context('spawn')
    pipe, end = context.Pipe()
    process = context.Process(target=_serve, args=(end, *program), daemon=True)
    process.start()
    end.close()
    try:
        yield pipe
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Any, prepare: Callable[..., Callable[[], object]], arguments: Any) -> None:
    start_tensorflow.load()
    serve(prepare(*arguments), {}, pipe.recv, pipe.send)


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
