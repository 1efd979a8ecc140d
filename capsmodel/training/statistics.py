"""What layers measure of the images, for averaged weights: the statistics of batch normalization.

In training, these statistics follow the weights of the steps. Averaged weights give other outputs
of the layers before, so their statistics are computed again (Izmailov et al. 2018,
arXiv:1803.05407, section 3.2).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from capsmodel.data import dataset
from capsmodel.networks.network import Network
from capsmodel.networks.step import Step
from capsmodel.training.settings import TrainingConfig
from capsmodel.training.steps import training_batches

# Training images that the statistics are computed from, if there are as many.
_IMAGES = 2048


class Statistics:
    """Computes the non-trainable variables of a network again, from its first training batches.

    Args:
        model: The network, made under `strategy`.
        config: How it is trained.
        training_data: The images that it learns from.
        strategy: Where it is trained.
        steps_per_epoch: Batches of an epoch; no more than these are used.
    """

    def __init__(
        self,
        model: Network,
        config: TrainingConfig,
        training_data: dataset.LabeledImages,
        strategy: tf.distribute.Strategy,
        steps_per_epoch: int,
    ) -> None:
        self._model = model
        self._config = config
        self._training_data = training_data
        self._strategy = strategy
        self._steps = range(min(steps_per_epoch, -(-_IMAGES // config.batch_size)))

    def recompute(self) -> None:
        """Gives the variables their values for the current weights; the same on all replicas."""
        if not self._model.non_trainable_variables:
            return
        batches = training_batches(self._training_data, self._config, self._strategy, self._steps)
        for number in self._steps:
            self._measure(batches, tf.constant(number, tf.int64))

    @functools.cached_property
    def _measure(self) -> Any:
        config = self._config

        def on_replica(images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> None:
            step = Step.on_this_replica(config.seed, number, len(self._steps), config.batch_size)
            # The mean of all batches until now.
            newest = 1 / tf.cast(number + 1, tf.float32)
            self._model(images, step=dataclasses.replace(step, newest=newest))

        @tf.function(autograph=False)
        def measure(batches: Iterator[Any], number: tf.Tensor) -> None:
            images, labels = next(batches)
            self._strategy.run(on_replica, args=(images, labels, number))

        return measure
