"""How long until a network knows MNIST: ours and those of peers, each by its own recipe.

`python -m benchmarks.time_to_accuracy --peer capsnet_keras=FOLDER` trains on the first 55,000
images, and after each epoch evaluates on the other 5,000 of the training set. The next epoch is of
the program that has used the least time, so that all meet the same load. A program ends when it has
reached the highest accuracy, when it has used `--minutes`, or when its recipe is over. Ours is the
preset `quick` with the settings of `--settings`. The time is that of whole epochs, with their
evaluations. The first epoch of a program has the tracing of its graphs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import start_tensorflow
from benchmarks import epochs
from benchmarks.interleaved import report, started
from benchmarks.peers import checkouts, protocol
from benchmarks.train_step import read_mnist
from pipeline import configs, run_node

_TRAINING_IMAGES = 55000  # of 60,000; the others are what EVAL_SPLIT shows by default
_TARGETS = (99.0, 99.5, 99.6)
# The average of the weights is evaluated, which does not wait for the learning rate to fall.
_SETTINGS = (
    'EPOCHS=16 BATCH_SIZE=128 LEARNING_RATE=1e-3 LEARNING_RATE_WARMUP=0 LEARNING_RATE_FLOOR=0.01 '
    'AUGMENTATION=shift:2 EMA_DECAY=0.998'
)
_PEER_BATCH_SIZE = 100  # the default of CapsNet-Keras
_COLUMNS = {
    'name': '',
    'target_percent': '.1f',
    'epochs': '',
    'minutes': '.1f',
    'cpu_minutes': '.1f',
    'ratio_to_ours': '.1f',
    'cpu_ratio_to_ours': '.1f',
}


def prepare(settings: dict[str, str], data_path: str) -> Callable[[], float]:
    """Returns a function that trains for an epoch and returns the error on the other images in %.

    Args:
        settings: See `benchmarks.epochs.mnist_training`.
        data_path: As for `benchmarks.peers.protocol.run`.
    """
    from capsmodel.data.dataset import LabeledImages

    with np.load(data_path) as arrays:
        images = LabeledImages(arrays['images'], arrays['labels'])
        evaluated = LabeledImages(arrays['eval_images'], arrays['eval_labels'])
    training = epochs.Training(*epochs.mnist_training(settings), images)

    def epoch() -> float:
        training.epoch()
        is_averaged = bool(training.config.ema_decay)
        return 100 * (1 - training.evaluate(evaluated, is_averaged=is_averaged).accuracy)

    return epoch


@dataclasses.dataclass
class Progress:
    """How far a program has come.

    Attributes:
        most_epochs: After which it ends.
        epochs: Those that are over.
        seconds: Of them.
        cpu_seconds: Of them, of all threads.
        best: The highest accuracy in per cent.
        reached: For each target, the epochs, seconds and CPU seconds until then.
    """

    most_epochs: int
    epochs: int = 0
    seconds: float = 0
    cpu_seconds: float = 0
    best: float = 0
    reached: dict[float, tuple[int, float, float]] = dataclasses.field(default_factory=dict)

    def add(self, seconds: float, cpu_seconds: float, accuracy: float) -> None:
        """Counts an epoch."""
        self.epochs += 1
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        self.best = max(self.best, accuracy)
        for target in _TARGETS:
            # The accuracies are multiples of 0.02.
            if self.best > target - 0.01:
                self.reached.setdefault(target, (self.epochs, self.seconds, self.cpu_seconds))

    def is_over(self, most_seconds: float) -> bool:
        """Whether it has reached everything, or may not go on."""
        return (
            len(self.reached) == len(_TARGETS)
            or self.epochs >= self.most_epochs
            or self.seconds >= most_seconds
        )


def rows(results: dict[str, Progress]) -> list[dict[str, Any]]:
    """The rows of the table, with the times that the first program took as the unit."""
    first, table = next(iter(results)), []
    for name, progress in results.items():
        for target in _TARGETS:
            row: dict[str, Any] = {'name': name, 'target_percent': target}
            if target in progress.reached:
                count, seconds, cpu_seconds = progress.reached[target]
                row |= {
                    'epochs': count,
                    'minutes': seconds / 60,
                    'cpu_minutes': cpu_seconds / 60,
                }
                if target in results[first].reached:
                    _, unit, cpu_unit = results[first].reached[target]
                    row['ratio_to_ours'] = seconds / unit
                    row['cpu_ratio_to_ours'] = cpu_seconds / cpu_unit
            table.append(row)
    return table


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--settings', default=_SETTINGS, help='of ours')
    parser.add_argument('--seed', default='1', help='of ours')
    parser.add_argument('--minutes', type=float, default=120, help='the most for each program')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    parser.add_argument(
        '--peer',
        action='append',
        default=[],
        type=checkouts.checkout,
        metavar='NAME=FOLDER',
        help='capsnet_keras and the folder of its checkout',
    )
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if [name for name, _ in arguments.peer if name != 'capsnet_keras']:
        parser.error('Only capsnet_keras has a recipe of its own that is trained here.')
    try:
        settings = {**run_node.assignments(arguments.settings.split()), 'SEED': arguments.seed}
        config = configs.from_environment(settings)
    except configs.SettingError as error:
        parser.error(str(error))
    start_tensorflow.load()
    print(f'ours: make run {arguments.settings} SEED={arguments.seed}', file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'data.npz')
        images, labels = read_mnist('train', arguments.data_dir)
        n = _TRAINING_IMAGES
        np.savez(
            path,
            images=images[:n],
            labels=labels[:n],
            eval_images=images[n:],
            eval_labels=labels[n:],
        )
        peers = checkouts.peer_programs(
            dict(arguments.peer),
            {},
            path,
            _PEER_BATCH_SIZE,
            len(os.sched_getaffinity(0)),
            [protocol.EPOCH],
        )
        results = {'ours': Progress(config.epochs), **{name: Progress(10**6) for name in peers}}
        with started({'ours': (prepare, (settings, path)), **peers}, warm_ups=0) as running:
            while unfinished := [
                name for name in results if not results[name].is_over(60 * arguments.minutes)
            ]:
                name = min(unfinished, key=lambda name: results[name].seconds)
                turn, progress = running.turn(name), results[name]
                assert turn.result is not None
                progress.add(turn.wall, turn.cpu, 100 - turn.result)
                print(
                    f'{name}, epoch {progress.epochs}: {turn.result:.2f}% error, '
                    f'{turn.wall:.0f} s, {turn.cpu:.0f} s of CPU',
                    file=sys.stderr,
                )
    report(rows(results), _COLUMNS, arguments.json)
    for name, progress in results.items():
        print(
            f'{name}: {progress.best:.2f}% at best in {progress.epochs} epochs, '
            f'{progress.seconds / 60:.1f} minutes'
        )


if __name__ == '__main__':
    _main()
