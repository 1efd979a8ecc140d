"""FLOPs, bytes and memory of the training step and of routing, as XLA counts them; needs no GPU.

`python -m benchmarks.cost` writes the programs that TensorFlow hands to XLA. JAX, in an interpreter
of its own, compiles and counts them for this CPU and, without having one, for an H100. `--hlo DIR`
keeps the programs in a folder, for `python -m benchmarks.gpu_hlo DIR` on a machine with a GPU.

`benchmarks.programs` describes the rows. XLA does not count inside loops, so a program with a loop
is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import start_tensorflow
from benchmarks.interleaved import report
from benchmarks.programs import write_programs

COMPILERS = ('CPU', 'H100')

_JAX_PYTHON = '.venv-bench/bin/python'

_COLUMNS = {
    'part': '',
    'gradient_mode': '',
    'compiler': '',
    'name': '',
    'gflop': '.2f',
    'mb_accessed': ',.0f',
    'ratio_to_textbook': '.2f',
    'memory_mb': ',.0f',
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides XLA's log lines, unless an error is raised inside."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _counted(folder: str, python: str, compilers: list[str]) -> list[dict[str, Any]]:
    """The rows of benchmarks/hlo_cost.py for the programs in a folder."""
    path = os.path.join(folder, 'cost.json')
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [os.path.abspath(python), '-m', 'benchmarks.hlo_cost', os.path.abspath(folder)]
    command += ['--compilers', *compilers]
    # JAX prints warnings to standard output.
    if subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit('The programs could not be counted: see what is said above.')
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds `ratio_to_textbook`, the ratio of the bytes accessed, to the rows."""
    keys = ('part', 'gradient_mode', 'compiler')
    textbook = {
        tuple(row[key] for key in keys): row['mb_accessed']
        for row in rows
        if row['name'] == 'textbook'
    }
    return [
        {**row, 'ratio_to_textbook': row['mb_accessed'] / textbook[tuple(row[key] for key in keys)]}
        for row in rows
    ]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=128, help='images a step')
    parser.add_argument(
        '--jax_python',
        default=_JAX_PYTHON,
        help='an interpreter with the packages of requirements/bench.txt; `make bench` sets it up',
    )
    parser.add_argument(
        '--compilers',
        nargs='+',
        choices=COMPILERS,
        default=COMPILERS,
        help='what XLA compiles for; an H100 and a batch of few images take very long',
    )
    parser.add_argument('--hlo', help='a new folder to keep the programs in')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if not os.access(arguments.jax_python, os.X_OK):
        sys.exit(f'There is no {arguments.jax_python}: `make setup-bench` makes it.')
    if arguments.hlo and os.path.exists(arguments.hlo):
        sys.exit(f'{arguments.hlo} is there already: name a new folder.')
    start_tensorflow.load()
    with tempfile.TemporaryDirectory() as temporary:
        folder = f'{arguments.hlo}.unfinished' if arguments.hlo else temporary
        os.makedirs(folder, exist_ok=True)
        with _quiet():
            write_programs(folder, arguments.batch)
        rows = with_ratios(_counted(folder, arguments.jax_python, arguments.compilers))
        if arguments.hlo:
            os.rename(folder, arguments.hlo)
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
