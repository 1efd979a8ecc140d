"""The peer's side of benchmarks.interleaved.Command: JSON over standard input and output."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.turns import serve

# The step that is an epoch of the peer's own training, with an evaluation.
EPOCH = 'epoch'
Prepare = Callable[[argparse.Namespace], 'tuple[Callable[[], object], int]']


def run(prepare: Prepare) -> None:
    """Serves the step that `prepare` makes, until standard input ends.

    Args:
        prepare: Takes the options `checkout`, the peer's folder; `data`, an .npz file of `images`
            uint8 [n, rows, columns] and `labels` int64 [n]; `batch`, the images a step; `threads`,
            the number of threads; and `step`, one of the peer's steps, or EPOCH. It
            returns a function that makes a step, and the number of trained parameters. An epoch
            is not warmed up; its images are followed by `eval_images` and `eval_labels` in `data`,
            and it returns their share in per cent that it takes for something else.
    """
    parser = argparse.ArgumentParser()
    for name, kind in {'checkout': str, 'data': str, 'batch': int, 'threads': int}.items():
        parser.add_argument(f'--{name}', type=kind, required=True)
    parser.add_argument('--step', required=True)
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), 'w')
    # Lines that the peer prints must not come between the answers.
    os.dup2(2, 1)
    sys.path.insert(0, arguments.checkout)

    def send(message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    call, parameters = prepare(arguments)
    with contextlib.suppress(EOFError):
        warm_ups = 0 if arguments.step == EPOCH else 2
        serve(call, {'parameters': parameters}, lambda: int(json.loads(input())), send, warm_ups)
