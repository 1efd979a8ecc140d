"""Does speed have a price? Test errors after one epoch of MNIST, ours against the textbook's.

`python -m benchmarks.one_epoch` takes about half an hour. For each seed it trains each network once
with the settings of the preset `quick`, on the same images in the same order from the same first
weights. A third row has the error of ours with the moving average of its weights: the same training
run, tested twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from typing import Any

import tqdm

import start_tensorflow
from benchmarks.interleaved import report
from benchmarks.train_step import mnist_config, read_mnist, step_of, textbook, training_config
from pipeline import configs

NETWORKS = ('textbook', 'ours')
_EMA_DECAY = 0.99  # over some 100 of the 859 steps, in which the learning rate falls by a tenth
_AVERAGED = f'ours, averaged ({_EMA_DECAY})'

_COLUMNS = {'name': '', 'seed': '', 'test_error_percent': '.2f', 'test_margin_loss': '.5f'}


def train_and_test(name: str, seed: int, data_dir: str) -> list[dict[str, Any]]:
    """Trains a network of NETWORKS for one epoch, and tests it on the 10,000 test images.

    Returns:
        A row and, for ours, another one for the average of its weights.
    """
    import keras

    from capsmodel.data import dataset
    from capsmodel.networks import capsnet
    from capsmodel.training import evaluation
    from capsmodel.training.optimizer import FusedAdam

    quick = configs.from_preset('quick')
    settings = dataclasses.replace(training_config(quick.batch_size), seed=seed)
    labeled = dataset.LabeledImages(*read_mnist('train[:55000]', data_dir))
    tests = dataset.LabeledImages(*read_mnist('test', data_dir))
    steps = len(labeled.labels) // quick.batch_size
    schedule = keras.optimizers.schedules.ExponentialDecay(
        quick.learning_rate, steps, quick.learning_rate_decay
    )
    keras.utils.set_random_seed(seed)
    if name == 'textbook':
        model = capsnet.CapsNet(textbook(mnist_config()))
        optimizer = keras.optimizers.Adam(schedule)
    else:
        model = capsnet.CapsNet(mnist_config())
        optimizer = FusedAdam(schedule, use_ema=True, ema_momentum=_EMA_DECAY)
    optimizer.build(model.trainable_variables)
    step = step_of(model, optimizer, labeled, settings)
    every = 0.5 if sys.stderr.isatty() else 30  # seconds
    for _ in tqdm.trange(
        steps, desc=f'{name}, seed {seed}', unit='step', mininterval=every, leave=False
    ):
        step()

    def row(tested_name: str) -> dict[str, Any]:
        tested = evaluation.evaluate(model, tests)
        return {
            'name': tested_name,
            'seed': seed,
            'test_error_percent': 100 * (1 - tested.accuracy),
            'test_margin_loss': tested.loss,
        }

    rows = [row(name)]
    if optimizer.use_ema:
        optimizer.finalize_variable_values(model.trainable_variables)
        rows.append(row(_AVERAGED))
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    start_tensorflow.load()
    rows: list[dict[str, Any]] = []
    for seed in range(1, arguments.seeds + 1):
        for name in NETWORKS:
            for row in train_and_test(name, seed, arguments.data_dir):
                rows.append(row)
                error = row['test_error_percent']
                print(f'{row["name"]}, seed {seed}: {error:.2f}% test error', file=sys.stderr)
    report(rows, _COLUMNS, arguments.json)
    for name in (*NETWORKS, _AVERAGED):
        errors = [row['test_error_percent'] for row in rows if row['name'] == name]
        spread = f', standard deviation {statistics.stdev(errors):.2f}%' if len(errors) > 1 else ''
        print(f'{name}: mean test error {statistics.mean(errors):.2f}%{spread}')


if __name__ == '__main__':
    _main()
