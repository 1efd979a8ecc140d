"""The main memory that an evaluation or training takes, and the network's estimates.

`python -m benchmarks.memory` evaluates the paper's network, untrained, on noise of several sizes
and for several numbers of classes. With `--train` it trains it for a few steps on coloured noise,
with the stem that STEM=auto gives it. Each case has a process of its own, and the growth of its
peak resident memory is compared with the estimate.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import resource
import subprocess
import sys
import time
from typing import Any

import start_tensorflow
from benchmarks.interleaved import report
from capsmodel.networks.settings import CapsNetConfig

# Pixels, classes, images a step.
CASES = (
    (28, 10, 100),
    (28, 10, 500),
    (28, 100, 500),
    (28, 1000, 100),
    (64, 10, 8),
    (64, 10, 50),
    (64, 10, 150),
    (64, 100, 50),
    (96, 10, 8),
    (96, 10, 60),
)

TRAINED_CASES = (
    (28, 10, 32),
    (28, 10, 400),
    (28, 100, 128),
    (64, 10, 32),
    (64, 10, 128),
    (96, 10, 32),
    (96, 10, 128),
    (224, 10, 16),
    (224, 10, 64),
)

_COLUMNS = {
    'pixels': '',
    'classes': '',
    'images': '',
    'estimate_mb': ',.0f',
    'measured_mb': ',.0f',
    'ratio': '.2f',
    'seconds': '.1f',
}
_MB = 2**20


def measure(pixels: int, classes: int, images: int) -> dict[str, Any]:
    """Measures one evaluation, which must be the first one of this process."""
    import numpy as np

    from capsmodel.data import dataset
    from capsmodel.networks import capsnet
    from capsmodel.training import evaluation

    config = CapsNetConfig(pixels, pixels, classes, stem='none')
    model = capsnet.CapsNet(config)
    shape = (2 * images, pixels, pixels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labeled = dataset.LabeledImages(noise, np.arange(2 * images) % classes)
    before = _peak()
    started = time.monotonic()
    evaluation.evaluate(model, labeled, batch_size=images)
    seconds = time.monotonic() - started
    once, each = model.bytes_to_evaluate()
    return _row(pixels, classes, images, once + images * each, _peak() - before, seconds)


def measure_training(pixels: int, classes: int, images: int) -> dict[str, Any]:
    """Measures the steps of one training, which must be the first one of this process."""
    import numpy as np

    from capsmodel.data import dataset
    from capsmodel.training import loop
    from capsmodel.training.settings import TrainingConfig

    config = CapsNetConfig(pixels, pixels, classes, image_channels=3)
    shape = (3 * images, *config.image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labeled = dataset.LabeledImages(noise, np.arange(len(noise)) % classes)
    few = dataset.LabeledImages(labeled.images[:2], labeled.labels[:2])
    training = TrainingConfig(batch_size=images, augmentation='none')
    # The memory and the time before each step.
    before: list[tuple[int, float]] = []

    def should_stop() -> bool:
        before.append((_peak(), time.monotonic()))
        return False

    model = loop.train(
        config,
        training,
        labeled,
        few,
        None,
        should_stop=should_stop,
        eval_batch_size=1,
    )
    (at_first, _), *_, (_, last) = before
    estimate = model.bytes_to_train(images)
    seconds = time.monotonic() - last
    return _row(pixels, classes, images, estimate, _peak() - at_first, seconds)


def _row(
    pixels: int, classes: int, images: int, estimate: int, measured: int, seconds: float
) -> dict[str, Any]:
    return {
        'pixels': pixels,
        'classes': classes,
        'images': images,
        'estimate_mb': estimate / _MB,
        'measured_mb': measured / _MB,
        'ratio': estimate / measured,
        'seconds': seconds,
    }


def _peak() -> int:
    """The peak of the resident memory so far, in bytes.

    It is read from /proc if there is one: until exec, getrusage also counts the memory of the
    process that started this one.
    """
    try:
        (line,) = re.findall(
            r'^VmHWM:\s*(\d+) kB$', pathlib.Path('/proc/self/status').read_text(), re.M
        )
        return int(line) * 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == 'darwin' else peak * 1024


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--case', type=int, nargs=3, help='pixels, classes, images: measure only this'
    )
    parser.add_argument('--train', action='store_true', help='measure training, not evaluation')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    start_tensorflow.load()
    if arguments.case:
        print(json.dumps((measure_training if arguments.train else measure)(*arguments.case)))
        return
    rows = []
    for case in TRAINED_CASES if arguments.train else CASES:
        command = [sys.executable, '-m', 'benchmarks.memory', '--case', *map(str, case)]
        command += ['--train'] * arguments.train
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f'{case}: {rows[-1]["measured_mb"]:,.0f} MB', file=sys.stderr)
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
