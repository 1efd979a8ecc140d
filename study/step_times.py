"""How long a step of training takes with each of several settings, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import epochs
from capsmodel.data.dataset import LabeledImages
from study import train
from study.plan import STEPS_OF_A_TURN, TURNS, Training


def measured(trainings: Sequence[Training], preset: str) -> list[list[float]]:
    """The seconds of STEPS_OF_A_TURN steps, TURNS times for each training.

    They take turns, so that all meet the same load. The images are random: the time of a step does
    not depend on them.

    Args:
        trainings: What differs.
        preset: See `train.settings_of`.

    Returns:
        For each training, one number for each turn.
    """
    turns = [_turn(training, preset) for training in trainings]
    for turn in turns:
        turn()  # traces the graph
    seconds: list[list[float]] = [[] for _ in turns]
    for _ in range(TURNS):
        for turn, times in zip(turns, seconds, strict=True):
            started = time.perf_counter()
            turn()
            times.append(time.perf_counter() - started)
    return seconds


def _turn(training: Training, preset: str) -> Callable[[], None]:
    """A function that makes STEPS_OF_A_TURN steps of a training."""
    network, config = epochs.network_and_training(train.settings_of(training, preset))
    random = np.random.default_rng(config.seed)
    shape = (STEPS_OF_A_TURN * config.batch_size, *network.image_shape)
    labels = random.integers(0, network.num_classes, shape[0])
    images = LabeledImages(random.integers(0, 256, shape, np.uint8), labels)
    return epochs.Training(network, config, images).epoch
