"""Trains a network of the study by the pipeline's own training process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks import epochs
from capsmodel import settings
from capsmodel.networks import table
from capsmodel.networks.network import Network
from capsmodel.training import launcher
from capsmodel.training.checkpoints import Checkpoints, fingerprint
from capsmodel.training.request import TrainingRequest
from capsmodel.training.settings import ProcessSettings
from capsmodel.training.state import load_best
from pipeline import configs
from pipeline.code_version import code_version, version_of
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
    checkpoints: pathlib.Path


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
    trained = Trained(model, *times, checkpoints.folder)
    return _without_times(trained) if checkpoints.folder.name in begun else trained


def train_on_pairs(
    training: Training,
    sets: Sets,
    folder: pathlib.Path,
    preset: str,
    picture_file: pathlib.Path | None,
) -> tuple[Trained, list[Measure]]:
    """Trains on two digits on top of each other, by `study.overlap`, and measures the network.

    It resumes from the last checkpoint of such a training. The seconds are those of training and
    test.

    Args:
        training: What to train.
        sets: The images of its dataset.
        folder: For checkpoints.
        preset: See `settings_of`.
        picture_file: Where a network with a decoder is drawn, unless that is there; None: nowhere.

    Raises:
        TrainingError: The training is not complete.
    """
    started, cpu = time.monotonic(), time.process_time()
    test = pair_files.load(sets.pairs(training.shift))
    images = sets.images('train', SIDE)
    name = fingerprint(
        [dataclasses.asdict(training), preset, version_of('study.train')],
        [images.images, images.labels],
    )
    every = settings.filled(ProcessSettings, settings_of(training, preset)).checkpoint_steps
    checkpoints = Checkpoints(folder / 'checkpoints' / name, every)
    is_resumed = any(checkpoints.folder.glob('step-*'))
    given = {'PRESET': preset, 'EPOCHS': '1', 'BATCH_SIZE': f'{BATCH_SIZE}'}
    with signals_noted() as received:
        network = overlap.trained(
            training.network,
            training.shift,
            training.steps,
            training.seed,
            images,
            {**given, **dict(training.settings)},
            checkpoints,
            should_stop=lambda: bool(received),
        )
    measures = overlap.measures(overlap.scores(network, test.images), test.labels)
    times = time.monotonic() - started, time.process_time() - cpu
    if picture_file and network.config.has_decoder and not picture_file.exists():
        picture.write_picture(network, test, picture_file)
    trained = Trained(network, *times, checkpoints.folder)
    return _without_times(trained) if is_resumed else trained, measures


@contextlib.contextmanager
def signals_noted() -> Iterator[set[int]]:
    """Notes SIGTERM and SIGINT, and hands them on at the end, unless that is an error.

    A second one of its kind is handed on at once.

    Yields:
        The numbers of those that have come.
    """
    received: set[int] = set()

    def note(number: int, frame: Any) -> None:
        received.add(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
    }
    for number, handler in before.items():
        # A shell starts what runs in the background with Ctrl-C ignored.
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in received:
        signal.raise_signal(number)


def remove_checkpoints(trained: Trained) -> None:
    """Removes what a finished training does not need any more."""
    shutil.rmtree(trained.checkpoints, ignore_errors=True)


def _without_times(resumed: Trained) -> Trained:
    return resumed._replace(seconds=None, cpu_seconds=None)


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
