"""What one epoch of MNIST comes to: test errors of several recipes, and of the textbook's network.

`python -m benchmarks.one_epoch` trains once for each seed and recipe: by the preset `quick`; the
same with the textbook's network, on the same images in the same order from the same first weights
(does speed have a price?); and by what `--recipe 'NAME=VALUE ...'` changes of the preset. A recipe
takes about a minute and a half a seed. `--split eval` tests on the last 5,000 training images
instead, on which recipes are chosen. With EMA_DECAY there are two rows: without the average, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import start_tensorflow
from benchmarks import epochs
from benchmarks.interleaved import report
from benchmarks.train_step import read_mnist, textbook
from pipeline import configs, run_node

_SPLITS = {'test': 'test', 'eval': 'train[55000:]'}
_COLUMNS = {
    'name': '',
    'seed': '',
    'error_percent': '.2f',
    'loss': '.5f',
    'cpu_s': '.0f',
    'seconds': '.0f',
}


def train_and_test(
    name: str, recipe: str, seed: int, split: str, data_dir: str
) -> list[dict[str, Any]]:
    """Trains for the epochs of a recipe, and tests on the images of one of _SPLITS.

    Args:
        name: Of the row; `textbook` has the network computed as in textbooks.
        recipe: Settings that differ from the preset `quick`, such as 'BATCH_SIZE=32'.
        seed: Of the training.
        split: Of the evaluation.
        data_dir: TFDS's folder.
    """
    from capsmodel.data.dataset import LabeledImages
    from capsmodel.networks.settings import CapsNetConfig

    settings = {**run_node.assignments(recipe.split()), 'SEED': str(seed)}
    network, config = epochs.mnist_training(settings)
    if name == 'textbook':
        assert isinstance(network, CapsNetConfig)
        network = textbook(network)
    images = LabeledImages(*read_mnist('train[:55000]', data_dir))
    tests = LabeledImages(*read_mnist(_SPLITS[split], data_dir))
    training = epochs.Training(network, config, images)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(config.epochs):
        training.epoch()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    rows = []
    for is_averaged in (False, True) if config.ema_decay else (False,):
        tested = training.evaluate(tests, is_averaged=is_averaged)
        rows.append(
            {
                'name': f'{name}, averaged' if is_averaged else name,
                'seed': seed,
                'split': split,
                'error_percent': 100 * (1 - tested.accuracy),
                'loss': tested.loss,
                'cpu_s': cpu,
                'seconds': wall,
            }
        )
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds')
    parser.add_argument('--recipe', action='append', default=[], help='such as BATCH_SIZE=32')
    parser.add_argument('--split', choices=list(_SPLITS), default='test')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    recipes = {'textbook': '', 'quick': '', **{recipe: recipe for recipe in arguments.recipe}}
    try:
        for recipe in arguments.recipe:
            configs.from_environment(run_node.assignments(recipe.split()))
    except configs.SettingError as error:
        parser.error(str(error))
    start_tensorflow.load()
    rows: list[dict[str, Any]] = []
    for seed in range(1, arguments.seeds + 1):
        for name, recipe in recipes.items():
            for row in train_and_test(name, recipe, seed, arguments.split, arguments.data_dir):
                rows.append(row)
                print(f'{row["name"]}, seed {seed}: {row["error_percent"]:.2f}%', file=sys.stderr)
    report(rows, _COLUMNS, arguments.json)
    for name in dict.fromkeys(row['name'] for row in rows):
        errors = [row['error_percent'] for row in rows if row['name'] == name]
        spread = f', standard deviation {statistics.stdev(errors):.2f}%' if len(errors) > 1 else ''
        print(f'{name}: mean error {statistics.mean(errors):.2f}%{spread}')


if __name__ == '__main__':
    _main()
