"""Evaluates a network on labeled images."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel.calibration import Reliability
from capsmodel.data import dataset
from capsmodel.networks import memory
from capsmodel.networks.network import Network
from capsmodel.training import strategies
from capsmodel.training.steps import make_eval_step


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of a network on a set of images.

    Attributes:
        accuracy: The fraction of the images whose highest score is the label's.
        loss: The mean of the classification loss over the images.
        loss_name: What that loss is called.
        calibration_error: The expected calibration error of the highest scores, see
            `capsmodel.calibration`.
        reconstruction_loss: The mean over the images of the squared error, with the predicted
            class's capsule; None without a decoder.
    """

    accuracy: float
    loss: float
    loss_name: str
    calibration_error: float
    reconstruction_loss: float | None = None

    def scalars(self) -> dict[str, float]:
        """The values by name; without a decoder, there is no reconstruction loss."""
        values = {
            'accuracy': self.accuracy,
            self.loss_name: self.loss,
            'calibration_error': self.calibration_error,
        }
        if self.reconstruction_loss is not None:
            values['reconstruction_loss'] = self.reconstruction_loss
        return values


def evaluate(model: Network, labeled: dataset.LabeledImages, batch_size: int = 0) -> Evaluation:
    """Evaluates a network once, see Evaluator for the arguments."""
    evaluation, _ = Evaluator(model, labeled, tf.distribute.get_strategy(), batch_size).run()
    return evaluation


class Evaluator:
    """Evaluates a network on the same labeled images as often as you call `run`.

    The replicas share the work, and each worker gets the whole result.

    Args:
        model: The network.
        labeled: Images, uint8 [n, height, width], and labels [n].
        strategy: The strategy that the network was made under.
        batch_size: Images a step, all replicas together; 0: as many as fit into memory. Results do
            not depend on it.
    """

    def __init__(
        self,
        model: Network,
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
        """Images a step, all replicas together; the same on all workers.

        It is computed on first use, from the memory that is free then. Use it after the first steps
        of a training, when training has taken its memory.
        """
        strategy = self._strategy
        replicas = strategy.num_replicas_in_sync
        if self._asked:
            piece = self._asked // replicas
        else:
            here = strategies.replicas_here(strategy)
            piece = strategies.least(strategy, memory.images_at_once(self._model, processes=here))
        return max(1, min(piece, math.ceil(len(self._labeled.labels) / replicas))) * replicas

    def run(self) -> tuple[Evaluation, np.ndarray]:
        """Evaluates the network with its current weights.

        Returns:
            The evaluation, and the scores, float32 [n, classes].
        """
        batches, count = iter(self._batches), len(self._labeled.labels)
        steps = math.ceil(count / self.batch_size)
        results = [self._eval_step(batches) for _ in range(steps)]
        # The last batch is filled up with copies of the last image: drop them.
        metrics = {name: np.concatenate([r[name] for r in results])[:count] for name in results[0]}
        scores = metrics.pop('scores')
        means = {name: float(np.mean(value, dtype=np.float64)) for name, value in metrics.items()}
        name = self._model.loss_name
        error = Reliability.of(self._labeled.labels, scores).expected_error
        evaluation = Evaluation(
            loss=means.pop(name), loss_name=name, calibration_error=error, **means
        )
        return evaluation, scores

    @functools.cached_property
    def _eval_step(self) -> Any:
        return make_eval_step(self._model, self._strategy)

    @functools.cached_property
    def _batches(self) -> Any:
        """The images as a distributed dataset."""
        batch_size = self.batch_size
        return self._strategy.distribute_datasets_from_function(
            lambda context: dataset.evaluation_dataset(
                self._labeled, context, batch_size=batch_size
            )
        )
