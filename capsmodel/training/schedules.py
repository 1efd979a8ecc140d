"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from capsmodel.training.settings import TrainingConfig

# The part of the training that `flat_linear` keeps its first learning rate for.
_FLAT = 0.7


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate that LEARNING_RATE_SCHEDULE names, with warm-up and floor.

    With t the fraction of all steps that are done, and e the epochs that are done, the factor on
    LEARNING_RATE is

    - `exponential`: LEARNING_RATE_DECAY ^ e;
    - `flat_linear`: 1 up to t = 0.7, then falling linearly to 0 at t = 1;
    - `cosine`: (1 + cos(pi t)) / 2 (Loshchilov, Hutter 2017, arXiv:1608.03983, Eq. 5, one period).

    It falls no lower than LEARNING_RATE_FLOOR. During the first LEARNING_RATE_WARMUP steps it is
    multiplied by (step + 1) / LEARNING_RATE_WARMUP.

    Args:
        config: The training, scaled to its replicas.
        steps_per_epoch: Steps of an epoch, which may be a fraction.
    """

    def __init__(self, config: TrainingConfig, steps_per_epoch: float) -> None:
        self._config = config
        self._steps_per_epoch = steps_per_epoch

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of a step, which is counted from 0: float32 []."""
        config = self._config
        step = tf.cast(step, tf.float32)
        epochs = step / self._steps_per_epoch
        done = epochs / config.epochs
        if config.learning_rate_schedule == 'exponential':
            factor = tf.pow(tf.constant(config.learning_rate_decay, tf.float32), epochs)
        elif config.learning_rate_schedule == 'flat_linear':
            factor = tf.minimum(1.0, (1 - done) / (1 - _FLAT))
        else:
            factor = (1 + tf.cos(math.pi * done)) / 2
        factor = tf.maximum(factor, config.learning_rate_floor)
        if config.learning_rate_warmup:
            factor *= tf.minimum(1.0, (step + 1) / config.learning_rate_warmup)
        return config.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        return {'config': self._config, 'steps_per_epoch': self._steps_per_epoch}
