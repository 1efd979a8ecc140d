"""Several networks that answer together, by the mean of their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from capsmodel.networks import table
from capsmodel.networks.ensemble_settings import EnsembleConfig
from capsmodel.networks.losses import squared_error
from capsmodel.networks.network import Network
from capsmodel.networks.step import Step


class Ensemble(Network):
    """The mean of its members' scores.

    uint8 [n, *config.image_shape] -> scores, float32 [n, num_classes]. The members are networks of
    any kind that were trained before: an ensemble has no weights to learn. Its variables are those
    of the first member, then those of the second, and so on.

    Raises:
        ValueError: There are no members.
    """

    loss_name = 'squared_error'

    def __init__(self, config: EnsembleConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if not config.members:
            raise ValueError('an ensemble needs members')
        self.members = [table.create(member) for member in config.members]
        self.trainable = False
        self.build((None, *config.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.built = True

    def call(self, images: tf.Tensor, step: Step | None = None) -> tf.Tensor:
        # As they answer: a member never trains, whatever the step.
        return self._mean([member.scores(member(images)) for member in self.members])

    def weights_to_prepare(self) -> dict[str, Callable[[], tf.Tensor]]:
        return {
            _prefix(number) + name: make
            for number, member in enumerate(self.members)
            for name, make in member.weights_to_prepare().items()
        }

    def answer(
        self, images: tf.Tensor, prepared: Mapping[str, Callable[[], tf.Tensor]]
    ) -> tf.Tensor:
        scores = []
        for number, member in enumerate(self.members):
            prefix = _prefix(number)
            own = {
                name.removeprefix(prefix): value
                for name, value in prepared.items()
                if name.startswith(prefix)
            }
            scores.append(member.scores(member.answer(images, own)))
        return self._mean(scores)

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return squared_error(labels, outputs)

    def size(self) -> str:
        return f'{len(self.members)} members with {self.count_params():,} parameters together'

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        # TensorFlow may compute several members at a time.
        once, each = zip(*(m.bytes_to_evaluate(exported) for m in self.members), strict=True)
        return sum(once), sum(each)

    def _mean(self, scores: list[tf.Tensor]) -> tf.Tensor:
        return tf.add_n(scores) / len(scores)


def _prefix(number: int) -> str:
    return f'member_{number}_'
