"""Trains a network of the study by the pipeline's own training process."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import resource
import shutil
import time
from typing import NamedTuple

from benchmarks import epochs
from capsmodel import settings
from capsmodel.networks import table
from capsmodel.networks.network import Network
from capsmodel.training import launcher
from capsmodel.training.request import TrainingRequest
from capsmodel.training.settings import ProcessSettings
from capsmodel.training.state import load_best
from pipeline import configs
from pipeline.code_version import code_version
from pipeline.settings import Config
from study import subsets
from study.data import Sets
from study.measure import Measure
from study.overlap import pair_files, picture
from study.overlap import training as overlap
from study.plan import BATCH_SIZE, EPOCH, Training

# The side of the images of the datasets.
SIDE = 28


class Trained(NamedTuple):
    """A network after its training.

    Attributes:
        network: With the weights of its last step.
        seconds: From the start of the process to its end; None: it was resumed, and nobody knows
            how long it had run before.
        cpu_seconds: Of the process, all processor cores together; None as for `seconds`.
        checkpoints: The folder of its checkpoints, to be removed when the results are written.
    """

    network: Network
    seconds: float | None
    cpu_seconds: float | None
    checkpoints: str


def settings_of(training: Training, preset: str) -> Config:
    """All settings of a training.

    Args:
        training: What is trained.
        preset: `quick`, or `tiny` for a small network.
    """
    return configs.from_environment(
        {
            'PRESET': preset,
            'NETWORK': training.network,
            'EPOCHS': '1',
            'BATCH_SIZE': f'{BATCH_SIZE}',
            'PICK': 'last',
            'IMAGE_HEIGHT': f'{training.side}',
            'IMAGE_WIDTH': f'{training.side}',
            'SEED': f'{training.seed}',
            **dict(training.settings),
        }
    )


def train(training: Training, sets: Sets, folder: pathlib.Path, preset: str) -> Trained:
    """Trains, or resumes from the last checkpoint of such a training.

    Args:
        training: What to train.
        sets: The images of its dataset.
        folder: For checkpoints, and for the images that are learned from.
        preset: See `settings_of`.

    Raises:
        TrainingError: The training is not complete.
    """
    config = settings_of(training, preset)
    network, how = epochs.network_and_training(config)
    request = TrainingRequest(
        network=network,
        training=how,
        train_files=[_training_files(training, sets, folder)],
        eval_files=[sets.pattern('eval', 'Shifted' if training.shift else 'Transform')],
        log_dir='',
        checkpoint_root=os.fspath(folder / 'checkpoints'),
        weights_from=[],
        code_version=code_version('Trainer'),
        **dataclasses.asdict(settings.filled(ProcessSettings, config)),
    )
    begun = {path.parent.name for path in (folder / 'checkpoints').glob('*/step-*')}
    started, cpu = time.monotonic(), _cpu_seconds()
    checkpoints = launcher.train(request)
    times = time.monotonic() - started, _cpu_seconds() - cpu
    model = table.create(network)
    load_best(model, checkpoints)
    written = os.fspath(checkpoints.folder)
    if checkpoints.folder.name in begun:
        return Trained(model, None, None, written)
    return Trained(model, *times, written)


def train_on_pairs(
    training: Training, sets: Sets, preset: str, picture_file: pathlib.Path | None
) -> tuple[list[Measure], float, float]:
    """Trains on two digits on top of each other, by `study.overlap`, and measures the network.

    Args:
        training: What to train.
        sets: The images of its dataset.
        preset: See `settings_of`.
        picture_file: Where a network with a decoder is drawn, unless that is there; None: nowhere.

    Returns:
        The measures; the seconds of training and test; the same of all processor cores together.
    """
    given = {'PRESET': preset, 'EPOCHS': '1', 'BATCH_SIZE': f'{BATCH_SIZE}'}
    started, cpu = time.monotonic(), time.process_time()
    measures, network = overlap.train_and_measure(
        training.network,
        training.shift,
        training.steps,
        training.seed,
        sets.images('train', SIDE),
        sets.pairs(training.shift),
        {**given, **dict(training.settings)},
    )
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    if picture_file and network.config.has_decoder and not picture_file.exists():
        pairs = pair_files.load(sets.pairs(training.shift))
        picture.write_picture(network, pairs, picture_file)
    return measures, seconds, cpu


def remove_checkpoints(trained: Trained) -> None:
    """Removes what a finished training does not need any more."""
    shutil.rmtree(trained.checkpoints, ignore_errors=True)


def _training_files(training: Training, sets: Sets, folder: pathlib.Path) -> str:
    """The pattern of the images to learn from; they are written if they are not there yet."""
    files = sets.pattern('train')
    if not training.images and training.steps == EPOCH and training.side == SIDE:
        return files
    views = training.steps * BATCH_SIZE
    names = (training.dataset, training.images, views, training.side, training.seed)
    path = folder / 'images' / f'{"-".join(map(str, names))}.gz'
    if not path.exists():
        subsets.write(
            sets.images('train', SIDE),
            path,
            count=training.images,
            views=views,
            seed=training.seed,
            pad=(training.side - SIDE) // 2,
        )
    return os.fspath(path)


def _cpu_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
