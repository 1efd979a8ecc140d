"""How a network does on labeled images, on every replica of a `tf.distribute` strategy."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.data import dataset
from capsmodel.networks import capsnet, losses, memory
from capsmodel.training import strategies


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of images.

    Attributes:
        accuracy: Fraction whose longest capsule is the label's.
        margin_loss: Mean over the images.
        reconstruction_loss: Mean over the images of the squared error, with the predicted class's
            capsule; None without a decoder.
    """

    accuracy: float
    margin_loss: float
    reconstruction_loss: float | None = None

    def scalars(self) -> dict[str, float]:
        """What there is, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


def evaluate(
    model: capsnet.CapsNet, labeled: dataset.LabeledImages, batch_size: int = 0
) -> Evaluation:
    """Runs a network on images, uint8 [n, height, width], and compares with their labels [n].

    Args:
        model: The network.
        labeled: Images and labels.
        batch_size: See `Evaluator`.
    """
    evaluation, _ = Evaluator(model, labeled, tf.distribute.get_strategy(), batch_size).run()
    return evaluation


class Evaluator:
    """Judges a network by all of some labeled images, as often as it is asked to.

    The replicas share the work, and each worker gets the whole result.

    Args:
        model: The network.
        labeled: Images, uint8 [n, height, width], and labels [n].
        strategy: What the network was made under.
        batch_size: Images a step, all replicas together; 0: as many as there is memory for. Results
            do not depend on it.
    """

    def __init__(
        self,
        model: capsnet.CapsNet,
        labeled: dataset.LabeledImages,
        strategy: tf.distribute.Strategy,
        batch_size: int = 0,
    ) -> None:
        self._model = model
        self._labeled = labeled
        self._strategy = strategy
        self._asked = batch_size

    @functools.cached_property
    def batch_size(self) -> int:
        """Images a step, all replicas together.

        It is chosen when first asked for, which should be when the memory is in use that the
        evaluation finds in use: after the first steps of a training. It is the same on all workers.
        """
        strategy = self._strategy
        replicas = strategy.num_replicas_in_sync
        if self._asked:
            piece = self._asked // replicas
        else:
            here = strategies.replicas_here(strategy)
            piece = strategies.least(
                strategy, memory.images_at_once(self._model.config, processes=here)
            )
        return max(1, min(piece, math.ceil(len(self._labeled.labels) / replicas))) * replicas

    def run(self) -> tuple[Evaluation, np.ndarray]:
        """Judges the network as it is now.

        Returns:
            The evaluation, and the lengths of all class capsules, float32 [n, classes].
        """
        judge, distributed = self._prepared
        batches, count = iter(distributed), len(self._labeled.labels)
        pieces = [judge(batches) for _ in range(math.ceil(count / self.batch_size))]
        # The last piece is filled up beyond the images that there are.
        judged = {name: np.concatenate([p[name] for p in pieces])[:count] for name in pieces[0]}
        lengths = judged.pop('lengths')
        means = {name: float(np.mean(value, dtype=np.float64)) for name, value in judged.items()}
        return Evaluation(**means), lengths

    @functools.cached_property
    def _prepared(self) -> tuple[Callable[[Any], dict[str, tf.Tensor]], Any]:
        """One step as a tf.function of an iterator, and the dataset to be iterated over."""
        strategy = self._strategy
        batch_size = self.batch_size
        distributed = strategy.distribute_datasets_from_function(
            lambda context: dataset.evaluation_dataset(
                self._labeled, context, batch_size=batch_size
            )
        )

        @tf.function
        def judge(batches: Any) -> dict[str, tf.Tensor]:
            judged = strategy.run(
                lambda images, labels: judged_images(self._model, images, labels, training=False),
                args=next(batches),
            )
            return {name: strategy.gather(value, axis=0) for name, value in judged.items()}

        return judge, distributed


def judged_images(
    model: capsnet.CapsNet, images: tf.Tensor, labels: tf.Tensor, training: bool
) -> dict[str, tf.Tensor]:
    """Accuracy and losses of each image, float32 [n], by the names that Evaluation has for them.

    And `lengths`, float32 [n, classes], of the class capsules. What is reconstructed is the true
    class's capsule in training and the predicted one's otherwise (Sabour, Frosst, Hinton 2017,
    section 4.1).
    """
    capsules = model(images)
    lengths = capsnet.lengths(capsules)
    predicted = tf.argmax(lengths, axis=-1, output_type=tf.int64)
    judged = {
        'accuracy': tf.cast(predicted == labels, tf.float32),
        'margin_loss': losses.margin_loss(labels, lengths),
        'lengths': lengths,
    }
    if model.config.decoder:
        judged['reconstruction_loss'] = losses.reconstruction_loss(
            images, model.reconstruct(capsules, labels if training else predicted)
        )
    return judged
