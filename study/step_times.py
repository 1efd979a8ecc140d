"""How long a step of training takes with each of several settings, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from capsmodel.data import dataset
from capsmodel.networks import table
from capsmodel.training.optimizer import FusedAdam
from capsmodel.training.schedules import Schedule
from capsmodel.training.steps import make_train_step
from study import train
from study.plan import BATCH_SIZE, STEPS_OF_A_TURN, TURNS, Training

_WARM_UP = 3


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
    steps = [_step(training, preset) for training in trainings]
    for step in steps:
        for _ in range(_WARM_UP):
            step()
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(TURNS):
        for step, times in zip(steps, seconds, strict=True):
            started = time.perf_counter()
            for _ in range(STEPS_OF_A_TURN):
                step()
            times.append(time.perf_counter() - started)
    return seconds


def _step(training: Training, preset: str) -> Callable[[], float]:
    """A function that makes a step of a training and returns its loss."""
    network, config = train.network_and_training(train.settings_of(training, preset))
    keras.utils.set_random_seed(config.seed)
    model = table.create(network)
    optimizer = FusedAdam(Schedule(config, training.steps))
    optimizer.build(model.trainable_variables)
    step = make_train_step(model, optimizer, config, tf.distribute.get_strategy())
    random = np.random.default_rng(config.seed)
    images = random.integers(0, 256, (10 * BATCH_SIZE, *network.image_shape), np.uint8)
    labels = random.integers(0, network.num_classes, len(images))
    batches = iter(
        dataset.training_dataset(
            dataset.LabeledImages(images, labels),
            tf.distribute.InputContext(num_replicas_in_sync=1),
            first_step=0,
            last_step=training.steps,
            seed=config.seed,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
        )
    )
    return lambda: float(step(batches)['loss'])
