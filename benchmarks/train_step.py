"""Training steps on real MNIST batches: ours, piece by piece, against the textbook's and others'.

`python -m benchmarks.train_step` takes about three minutes. The steps are those of
capsmodel/training/steps.py, with the input pipeline of training. The floor is the time that the
matrix products of the fastest row would take at the rate at which this machine multiplies large
float32 matrices. With `--batches`, the textbook, ours and the peers are measured at each of several
batch sizes.

A peer is a checkout of a repository that benchmarks/peers names: `--peer capsnet_keras=FOLDER`. It
runs in this Python, or in the one that `--peer_python capsnet_keras=PYTHON` says.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.interleaved import Timing, measure, report
from benchmarks.peers import PEERS, checkouts

if TYPE_CHECKING:
    from capsmodel.data.dataset import LabeledImages
    from capsmodel.networks.capsnet import CapsNet
    from capsmodel.networks.settings import CapsNetConfig
    from capsmodel.training.settings import TrainingConfig

_IMAGES = 6400
MATRIX = 2048  # rows and columns of the machine's product

# For each row: the algorithms of routing and of PrimaryCaps, the gradient mode, and the optimizer:
# Adam from Keras, or FusedAdam from capsmodel.training.optimizer. The textbook stores all
# predictions and takes TensorFlow's convolution. It is no straw man: its routing, the reference, is
# batched matrix products in an order of axes that suits a CPU. Ours has routing and the transforms
# in C++ where they are compiled, as the pipeline does, and else is `routing+winograd+adam`. All
# rows but ours are TensorFlow alone.
STEPS = {
    'textbook': ('reference', 'conv2d', 'all', 'Adam'),
    'routing': ('matmul', 'conv2d', 'all', 'Adam'),
    'routing+winograd': ('matmul', 'winograd', 'all', 'Adam'),
    'routing+winograd+adam': ('matmul', 'winograd', 'all', 'FusedAdam'),
    'ours': ('auto', 'auto', 'all', 'FusedAdam'),
    'textbook-last': ('reference', 'conv2d', 'last', 'Adam'),
    'ours-last': ('auto', 'auto', 'last', 'FusedAdam'),
}
# The rows that `--batches` measures.
_COMPARED = ('textbook', 'ours')

_COLUMNS = {
    'name': '',
    'batch': '',
    'parameters': ',',
    'gradient_mode': '',
    'images_per_s': '.1f',
    'cpu_ms_per_image': '.2f',
    'peak_rss_mb': ',.0f',
    'ratio_to_textbook': '.2f',
    'cpu_ratio_to_textbook': '.2f',
    'ratio_to_floor': '.2f',
    'gflop_per_s': '.0f',
}


def mnist_config() -> CapsNetConfig:
    """The paper's network."""
    from capsmodel.networks.settings import CapsNetConfig

    return CapsNetConfig(image_height=28, image_width=28, num_classes=10)


def textbook(config: CapsNetConfig) -> CapsNetConfig:
    """The same network computed as in textbooks: see STEPS."""
    return dataclasses.replace(config, primary_algorithm='conv2d', routing_algorithm='reference')


def training_config(batch_size: int) -> TrainingConfig:
    """The pipeline's settings of a step."""
    from capsmodel.training.settings import TrainingConfig

    return TrainingConfig(
        epochs=1,
        batch_size=batch_size,
        learning_rate=0.001,
        learning_rate_decay=1.0,
        reconstruction_weight=0.0005,
        augmentation='shift:2',
        seed=1,
    )


def prepare_step(name: str, data_path: str, batch_size: int) -> Callable[[], object]:
    """Returns a function that makes one training step each time it is called.

    Args:
        name: The step, one of STEPS.
        data_path: An .npz file of `images` uint8 [n, 28, 28] and `labels` int64 [n].
        batch_size: Images a step.
    """
    import keras

    from capsmodel.data import dataset
    from capsmodel.networks import capsnet
    from capsmodel.training.optimizer import FusedAdam

    routing, primary, gradient, adam = STEPS[name]
    with np.load(data_path) as arrays:
        labeled = dataset.LabeledImages(arrays['images'], arrays['labels'])
    config = dataclasses.replace(
        mnist_config(),
        primary_algorithm=primary,
        routing_algorithm=routing,
        routing_gradient=gradient,
    )
    settings = training_config(batch_size)
    model = capsnet.CapsNet(config)
    make_optimizer = FusedAdam if adam == 'FusedAdam' else keras.optimizers.Adam
    optimizer = make_optimizer(settings.learning_rate)
    optimizer.build(model.trainable_variables)
    return step_of(model, optimizer, labeled, settings)


def step_of(
    model: CapsNet, optimizer: Any, labeled: LabeledImages, settings: TrainingConfig
) -> Callable[[], float]:
    """Returns a function that makes one training step and returns its loss.

    Args:
        model: The network to train, on one device.
        optimizer: A Keras optimizer that is built for the model's weights.
        labeled: The training images; they go through the input pipeline of training.
        settings: How to train; epochs and learning rate are ignored.
    """
    import tensorflow as tf

    from capsmodel.data import dataset
    from capsmodel.training.steps import make_train_step

    step = make_train_step(model, optimizer, settings, tf.distribute.get_strategy())
    batches = dataset.training_dataset(
        labeled,
        tf.distribute.InputContext(num_replicas_in_sync=1),
        first_step=0,
        last_step=10**6,
        seed=settings.seed,
        batch_size=settings.batch_size,
        augmentation=settings.augmentation,
    )
    iterator = iter(batches)
    return lambda: float(step(iterator)['loss'])


def prepare_product() -> Callable[[], object]:
    """Returns a function that multiplies two matrices of MATRIX rows and columns."""
    import tensorflow as tf

    a, b = (tf.random.stateless_normal([MATRIX, MATRIX], [0, seed]) for seed in (1, 2))
    product = tf.function(lambda: tf.matmul(a, b)[0, 0])
    return lambda: float(product())


def floor_flops(config: CapsNetConfig) -> float:
    """Floating-point operations an image in the matrix products of our training step.

    Args:
        config: The network, with gradients through all iterations.
    """
    from capsmodel.networks import winograd

    rows, columns = (
        size - config.conv1_kernel_size + 1 for size in (config.image_height, config.image_width)
    )
    rows_below, columns_below = (
        (size - config.primary_kernel_size) // config.primary_stride + 1 for size in (rows, columns)
    )
    grid = rows_below * columns_below
    primary_filters = config.primary_channels * config.primary_dim
    conv1 = rows * columns * config.conv1_kernel_size**2 * config.conv1_filters
    primary = grid * config.primary_kernel_size**2 * config.conv1_filters * primary_filters
    gain = winograd.gain((rows, columns), config.primary_kernel_size, config.primary_stride)
    capsules = config.num_classes * config.digit_dim
    routing = grid * primary_filters * capsules
    units = [capsules, *config.decoder_units, math.prod(config.image_shape)]
    decoder = sum(a * b for a, b in itertools.pairwise(units))
    # Forward, and the gradients of inputs and weights; images need none. An iteration but the first
    # one takes two products forward and five backward.
    later = config.routing_iterations - 1
    return float(2 * (2 * conv1 + 3 * primary / gain + (3 + 7 * later) * routing + 3 * decoder))


def _threads() -> int:
    """The number of threads that TensorFlow uses by default: one for each available core."""
    return len(os.sched_getaffinity(0))


def _measured(
    names: Sequence[str],
    batch_size: int,
    turns: int,
    data_path: str,
    peers: Mapping[str, str],
    pythons: Mapping[str, str],
) -> list[dict[str, Any]]:
    programs: dict[str, Any] = {
        **{name: (prepare_step, (name, data_path, batch_size)) for name in names},
        **checkouts.peer_programs(peers, pythons, data_path, batch_size, _threads()),
        'sgemm': (prepare_product, ()),
    }
    return step_rows(measure(programs, turns, seconds=1), batch_size)


def step_rows(timings: Mapping[str, Timing], batch_size: int) -> list[dict[str, Any]]:
    """The rows of the table and of the file.

    Args:
        timings: Those of steps in STEPS, among them the textbook's for each gradient mode; of
            peers, named as in `peer_programs`; and of `sgemm`.
        batch_size: Images a step.
    """
    from capsmodel.networks.capsnet import CapsNet

    config = mnist_config()
    parameters_of_ours = CapsNet(config).count_params()
    flop_per_s = 2 * MATRIX**3 / timings['sgemm'].wall
    floor = flop_per_s / floor_flops(config)
    rows: list[dict[str, Any]] = []
    for name, timing in timings.items():
        if name == 'sgemm':
            continue
        gradient = STEPS[name][2] if name in STEPS else PEERS[name.split()[0]].gradient_mode
        textbook = timings['textbook' if gradient == 'all' else 'textbook-last']
        parameters = timing.facts.get('parameters', parameters_of_ours)
        rows.append(
            {
                'name': name,
                'kind': 'step',
                'network': f'capsnet-{parameters / 1e6:.1f}M',
                'parameters': parameters,
                'batch': batch_size,
                'dtype': 'float32',
                'gradient_mode': gradient,
                'threads': _threads(),
                'images_per_s': batch_size / timing.wall,
                'cpu_ms_per_image': 1000 * timing.cpu / batch_size,
                'peak_rss_mb': timing.peak_rss_mb,
                'ratio_to_textbook': textbook.wall / timing.wall,
                'cpu_ratio_to_textbook': textbook.cpu / timing.cpu,
                'ratio_to_floor': batch_size / timing.wall / floor,
            }
        )
    machine = {'name': 'sgemm', 'kind': 'machine', 'dtype': 'float32', 'threads': _threads()}
    rate = {'gflop_per_s': flop_per_s / 1e9, 'images_per_s': floor}
    return [*rows, {**machine, 'batch': batch_size, **rate}]


def read_mnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 28, 28] and labels int64 [n] of a TFDS slice such as 'train[:100]'."""
    import tensorflow_datasets as tfds

    dataset = tfds.load('mnist', split=split, data_dir=data_dir, as_supervised=True, batch_size=-1)
    images, labels = tfds.as_numpy(dataset)
    return images[..., 0], labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with its arguments, or those of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--batch', type=_count, default=128, help='images a step')
    parser.add_argument('--batches', type=_counts, help='several batch sizes, such as 16,32,64')
    parser.add_argument('--turns', type=_count, default=7, help='turns that the medians are over')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    for name, kind, metavar in (
        ('--peer', checkouts.checkout, 'NAME=FOLDER'),
        ('--peer_python', checkouts.python, 'NAME=PYTHON'),
    ):
        parser.add_argument(name, action='append', default=[], type=kind, metavar=metavar)
    parser.add_argument('--json', help='a file for the rows')
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/data.npz'
        images, labels = read_mnist(f'train[:{_IMAGES}]', options.data_dir)
        np.savez(path, images=images, labels=labels)
        for batch_size in options.batches or [options.batch]:
            rows += _measured(
                _COMPARED if options.batches else tuple(STEPS),
                batch_size,
                options.turns,
                path,
                dict(options.peer),
                dict(options.peer_python),
            )
    report(rows, _COLUMNS, options.json)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _IMAGES:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be a whole number from 1 to {_IMAGES}, the number of images at hand"
        )
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(',')]


if __name__ == '__main__':
    main()
