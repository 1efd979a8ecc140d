"""Trainings on MNIST, an epoch at a time: the pipeline's own settings, steps and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.train_step import step_of
from pipeline import configs

if TYPE_CHECKING:
    from capsmodel.data.dataset import LabeledImages
    from capsmodel.networks.settings import NetworkConfig
    from capsmodel.training.evaluation import Evaluation
    from capsmodel.training.settings import TrainingConfig
    from pipeline.settings import Config


def mnist_training(settings: Mapping[str, str]) -> tuple[NetworkConfig, TrainingConfig]:
    """The network for MNIST and the training that settings describe.

    Args:
        settings: Names in capitals, such as EPOCHS, to values.

    Raises:
        SettingError: A value cannot be used.
    """
    return network_and_training(
        configs.from_environment({**settings, 'IMAGE_HEIGHT': '28', 'IMAGE_WIDTH': '28'})
    )


def network_and_training(config: Config) -> tuple[NetworkConfig, TrainingConfig]:
    """The network for digits that a configuration describes, and its training.

    Args:
        config: With the size of the images, which are grey and of ten classes.
    """
    from capsmodel.networks.table import NETWORKS
    from capsmodel.settings import filled
    from capsmodel.training.settings import TrainingConfig

    network = filled(NETWORKS[config.network].config, config, num_classes=10, image_channels=1)
    return network, filled(TrainingConfig, config)


class Training:
    """A training that lasts as long as you ask for epochs.

    Attributes:
        config: How it trains.
    """

    def __init__(
        self, network: NetworkConfig, config: TrainingConfig, images: LabeledImages
    ) -> None:
        """Draws the first weights.

        Args:
            network: The network.
            config: How to train it.
            images: The training images, uint8 [n, rows, columns], with labels.
        """
        import keras

        from capsmodel.networks import table
        from capsmodel.training.optimizer import FusedAdam
        from capsmodel.training.schedules import Schedule

        keras.utils.set_random_seed(config.seed)
        self.config = config
        self._steps = len(images.labels) // config.batch_size
        self._model = table.create(network)
        self._optimizer = FusedAdam(
            Schedule(config, self._steps),
            use_ema=bool(config.ema_decay),
            ema_momentum=config.ema_decay or None,
        )
        self._optimizer.build(self._model.trainable_variables)
        self._step = step_of(self._model, self._optimizer, images, config)

    def epoch(self) -> None:
        """Trains for an epoch."""
        for _ in range(self._steps):
            self._step()

    def evaluate(self, images: LabeledImages, *, is_averaged: bool) -> Evaluation:
        """What the network is worth on some images.

        Args:
            images: Images with labels.
            is_averaged: Whether with the moving average of the weights; needs EMA_DECAY.
        """
        from capsmodel.training import evaluation

        variables = self._model.trainable_variables
        weights = [np.asarray(variable) for variable in variables]
        if is_averaged:
            self._optimizer.finalize_variable_values(variables)
        try:
            return evaluation.evaluate(self._model, images)
        finally:
            if is_averaged:
                for variable, value in zip(variables, weights, strict=True):
                    variable.assign(value)
