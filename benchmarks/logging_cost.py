"""The cost of TensorBoard's log relative to the training step, part by part.

`python -m benchmarks.logging_cost` takes about two minutes. The step is that of the preset `quick`.
Each part of the log is timed alone, in turn with the step, and divided by the number of steps
between two of its writes. The difference of steps with and without it would be lost in their noise.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.interleaved import measure, report
from benchmarks.train_step import mnist_config, step_of, training_config

if TYPE_CHECKING:
    from capsmodel.data.dataset import LabeledImages
    from capsmodel.networks.capsnet import CapsNet
    from capsmodel.summaries.training_log import TrainingLog

_TRAINING_IMAGES = 55_000
_EVALUATION_IMAGES = 5_000

_COLUMNS = {
    'name': '',
    'ms': ',.2f',
    'every_steps': ',.0f',
    'ms_a_step': ',.3f',
    'percent_of_step': '.2f',
}


def prepare_step(batch_size: int) -> Callable[[], object]:
    """Returns a function that makes one training step."""
    from capsmodel.networks.capsnet import CapsNet
    from capsmodel.training.optimizer import FusedAdam

    settings = training_config(batch_size)
    model = CapsNet(mnist_config())
    optimizer = FusedAdam(settings.learning_rate)
    optimizer.build(model.trainable_variables)
    return step_of(model, optimizer, _labeled(), settings)


def prepare_scalars(log_dir: str) -> Callable[[], object]:
    """Returns a function that logs STEPS_BETWEEN_SCALARS steps, one of which is written."""
    import tensorflow as tf

    from capsmodel.networks.capsnet import CapsNet
    from capsmodel.summaries import training_log

    log = _log(log_dir, CapsNet(mnist_config()), _labeled())
    names = ('loss', 'accuracy', 'margin_loss', 'reconstruction_loss', 'gradient_norm')
    results = {name: tf.constant(0.5) for name in names}

    def record() -> None:
        for step in range(training_log.STEPS_BETWEEN_SCALARS):
            with log.profiled(step):
                pass
            log.record(step, results)

    return record


def prepare_gradient_norm() -> Callable[[], object]:
    """Returns a function that computes the norm of a gradient of all weights."""
    import tensorflow as tf

    from capsmodel.networks.capsnet import CapsNet

    shapes = [variable.shape for variable in CapsNet(mnist_config()).trainable_variables]
    gradient = [tf.random.stateless_normal(shape, [0, 1]) for shape in shapes]
    norm = tf.function(lambda: tf.linalg.global_norm(gradient))
    return lambda: float(norm())


def prepare_evaluation(log_dir: str) -> Callable[[], object]:
    """Returns a function that logs an evaluation: pictures and histograms."""
    from capsmodel.networks.capsnet import CapsNet

    model, labeled = CapsNet(mnist_config()), _labeled()
    log = _log(log_dir, model, labeled)
    lengths = np.random.default_rng(0).random((len(labeled.labels), 10)).astype(np.float32)
    scalars = {'accuracy': 0.5, 'margin_loss': 0.5, 'reconstruction_loss': 0.5}
    return lambda: log.evaluated(0, scalars, lengths)


def prepare_start(log_dir: str) -> Callable[[], object]:
    """Returns a function that starts a log: settings and graph."""
    from capsmodel.networks.capsnet import CapsNet

    model, labeled = CapsNet(mnist_config()), _labeled()
    return lambda: _log(log_dir, model, labeled)


def _log(log_dir: str, model: CapsNet, labeled: LabeledImages) -> TrainingLog:
    from capsmodel.summaries.training_log import TrainingLog

    settings = {'setting': 0.5}
    return TrainingLog(
        log_dir, model, labeled, settings=settings, learning_rate=lambda _: 1e-3, batch_size=64
    )


def _labeled() -> LabeledImages:
    """Noise: the content of an image makes no difference to the time."""
    from capsmodel.data.dataset import LabeledImages

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_EVALUATION_IMAGES, 28, 28), dtype=np.uint8)
    return LabeledImages(images, random.integers(0, 10, _EVALUATION_IMAGES))


def _rows(batch_size: int, turns: int) -> list[dict[str, Any]]:
    epoch = _TRAINING_IMAGES // batch_size
    with tempfile.TemporaryDirectory() as folder:
        programs: dict[str, Any] = {
            'step': (prepare_step, (batch_size,)),
            'scalars': (prepare_scalars, (f'{folder}/scalars',)),
            'gradient norm': (prepare_gradient_norm, ()),
            'pictures, histograms': (prepare_evaluation, (f'{folder}/evaluation',)),
            'settings, graph': (prepare_start, (f'{folder}/start',)),
        }
        timings = measure(programs, turns, seconds=1)
        from capsmodel.summaries.training_log import STEPS_BETWEEN_SCALARS
    steps = (1, STEPS_BETWEEN_SCALARS, STEPS_BETWEEN_SCALARS, epoch, epoch)
    every = dict(zip(programs, steps, strict=True))
    step = timings['step'].wall
    rows: list[dict[str, Any]] = [
        {'name': name, 'ms': 1000 * timings[name].wall, 'every_steps': every[name]}
        for name in programs
    ]
    for row in rows:
        row['ms_a_step'] = row['ms'] / row['every_steps']
    total = sum(row['ms_a_step'] for row in rows[1:])
    rows.append({'name': 'the log', 'ms_a_step': total})
    for row in rows:
        row['percent_of_step'] = 100 * row['ms_a_step'] / (1000 * step)
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=64, help='images a step')
    parser.add_argument('--turns', type=int, default=7, help='turns that the medians are over')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    report(_rows(arguments.batch, arguments.turns), _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
