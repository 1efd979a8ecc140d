"""Everything that training changes, as a checkpoint holds it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NoReturn

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.network import Network
from capsmodel.summaries.console import say
from capsmodel.training.checkpoints import Checkpoints, Progress
from capsmodel.training.errors import TrainingError
from capsmodel.training.evaluation import Evaluation


class TrainingState:
    """The weights, the optimizer's variables, the best epoch's weights and the progress.

    It starts from the last checkpoint, if there is one.

    Args:
        model: The network.
        optimizer: An optimizer that is built for the network.
        checkpoints: Where to read and write checkpoints; None: nowhere.
        writes: Whether this process writes checkpoints: one of several workers does.
        pick: Which epoch counts as the best, one of `settings.PICKS`.
    """

    def __init__(
        self,
        model: Network,
        optimizer: keras.optimizers.Optimizer,
        checkpoints: Checkpoints | None,
        writes: bool,
        pick: str = 'best',
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._checkpoints = checkpoints
        self._writes = writes
        self._pick = pick
        with tf.device('CPU'):
            self._best_weights = [
                tf.Variable(variable.value, trainable=False) for variable in model.variables
            ]
        self._variables = tf.train.Checkpoint(
            weights=[variable.value for variable in model.variables],
            optimizer=[variable.value for variable in optimizer.variables],
            best_weights=self._best_weights,
        )
        self.progress = Progress()
        if checkpoints:
            self.progress = checkpoints.restore(self._variables)

    def say_resumed(self, last_step: int) -> None:
        """Says from which step the training goes on, if it started from a checkpoint."""
        if self.progress.step:
            say(f'resuming from the checkpoint of step {self.progress.step:,} of {last_step:,}')

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after the given number of steps."""
        return bool(
            self._checkpoints
            and self._checkpoints.every_steps
            and step % self._checkpoints.every_steps == 0
        )

    def save(self, step: int) -> None:
        """Writes a checkpoint, unless the last one read or written is of the same step."""
        if self._checkpoints and step != self.progress.step:
            self.progress = dataclasses.replace(self.progress, step=step)
            if self._writes:
                self._checkpoints.save(self._variables, self.progress)

    def stop(self, step: int, last_step: int) -> NoReturn:
        """Writes a checkpoint and raises the TrainingError of a training that was told to stop."""
        self.save(step)
        stopped = f'Training was told to stop and did after step {step:,} of {last_step:,}'
        rest = ': the same command resumes from there.' if self._checkpoints else '.'
        raise TrainingError(f'{stopped}{rest}')

    def weights(self) -> list[np.ndarray]:
        """The network's weights."""
        return [variable.numpy() for variable in self._model.variables]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[bool]:
        """Inside, the network has the average of its weights, if the optimizer keeps one.

        Moving averages of what layers measure are not those of the averaged weights.

        Yields:
            Whether there is an average.
        """
        if not self._optimizer.use_ema:
            yield False
            return
        weights = self.weights()
        self._optimizer.finalize_variable_values(self._model.trainable_variables)
        try:
            yield True
        finally:
            for variable, value in zip(self._model.variables, weights, strict=True):
                variable.assign(value)

    def compare(self, evaluation: Evaluation) -> bool:
        """Keeps the weights if they are the best so far, and returns whether they are.

        With `pick='last'` each epoch's are the best.
        """
        rank = (evaluation.accuracy, -evaluation.loss)
        earlier = self.progress.best
        is_best = earlier is None or rank > earlier or self._pick == 'last'
        if is_best:
            self.progress = dataclasses.replace(self.progress, best=rank)
            for best, variable in zip(self._best_weights, self._model.variables, strict=True):
                best.assign(variable.value)
        return is_best

    def use_best_weights(self) -> None:
        """Gives the network the weights of its best epoch."""
        for best, variable in zip(self._best_weights, self._model.variables, strict=True):
            variable.assign(best)


def load_best(model: Network, checkpoints: Checkpoints) -> Progress:
    """Gives a network the best epoch's weights from the last checkpoint.

    Returns:
        How far that training is.

    Raises:
        TrainingError: There is no checkpoint of an evaluated network.
    """
    best = tf.train.Checkpoint(best_weights=[variable.value for variable in model.variables])
    progress = checkpoints.restore(best)
    if progress.best is None:
        raise TrainingError(f'{checkpoints.folder} holds no checkpoint of an evaluated network')
    return progress
