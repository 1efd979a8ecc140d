"""Programs for `benchmarks.interleaved` that run the training steps of peers."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from benchmarks.interleaved import Command
from benchmarks.peers import PEERS


def peer_programs(
    checkouts: Mapping[str, str],
    pythons: Mapping[str, str],
    data_path: str,
    batch_size: int,
    threads: int,
    steps: Sequence[str] = (),
) -> dict[str, Command]:
    """The steps of peers, by the names of their rows.

    Args:
        checkouts: The folders of peers, by their names in PEERS.
        pythons: Their interpreters, likewise; by default this one.
        data_path: As for `benchmarks.train_step.prepare_step`.
        batch_size: Images a step.
        threads: How many threads a peer may use.
        steps: Those of each peer; by default the steps that PEERS names.
    """
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
    # Nothing may be written to a checkout, not even compiled modules.
    environment = {'PYTHONPATH': root, 'PYTHONDONTWRITEBYTECODE': '1'}
    options = {'data': data_path, 'batch': batch_size, 'threads': threads}
    programs = {}
    for name, checkout in checkouts.items():
        for step in steps or PEERS[name].steps:
            said = {**options, 'checkout': os.path.abspath(checkout), 'step': step}
            programs[f'{name} {step}'] = Command(
                (
                    pythons.get(name, sys.executable),
                    *('-m', f'benchmarks.peers.{name}'),
                    *itertools.chain(*((f'--{key}', str(value)) for key, value in said.items())),
                ),
                environment,
            )
    return programs


def checkout(text: str) -> tuple[str, str]:
    """Name and folder of the option `--peer NAME=FOLDER`."""
    name, value = _named(text)
    file = PEERS[name].file
    if not os.path.isfile(os.path.join(value, file)):
        raise argparse.ArgumentTypeError(
            f"'{value}' has no {file}: it must be a checkout of {PEERS[name].repository}"
        )
    return name, value


def python(text: str) -> tuple[str, str]:
    """Name and interpreter of the option `--peer_python NAME=PYTHON`."""
    name, value = _named(text)
    if not shutil.which(value):
        raise argparse.ArgumentTypeError(f"'{value}' is no program")
    return name, value


def _named(text: str) -> tuple[str, str]:
    name, _, value = text.partition('=')
    if name not in PEERS or not value:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be NAME=VALUE with a NAME of {', '.join(PEERS)}"
        )
    return name, value
