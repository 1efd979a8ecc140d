"""The training loop: epochs of steps, each followed by an evaluation and a checkpoint."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from capsmodel.data import dataset
from capsmodel.networks import table
from capsmodel.networks.network import Network
from capsmodel.networks.settings import NetworkConfig
from capsmodel.summaries.console import progress_bar, say
from capsmodel.summaries.training_log import TrainingLog
from capsmodel.training import capacity, class_weights, strategies, warm_start
from capsmodel.training.checkpoints import Checkpoints, fingerprint
from capsmodel.training.errors import TrainingError, check_finite
from capsmodel.training.evaluation import Evaluator
from capsmodel.training.optimizer import FusedAdam
from capsmodel.training.schedules import Schedule
from capsmodel.training.settings import TrainingConfig
from capsmodel.training.state import TrainingState
from capsmodel.training.statistics import Statistics
from capsmodel.training.steps import make_train_step, training_batches


def train(
    network_config: NetworkConfig,
    config: TrainingConfig,
    training_data: dataset.LabeledImages,
    evaluation_data: dataset.LabeledImages,
    log_dir: str | None,
    strategy: tf.distribute.Strategy | None = None,
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    profile_steps: Sequence[int] = (),
    initial_weights: Sequence[np.ndarray] = (),
    eval_batch_size: int = 0,
    phase: Callable[[str], None] = lambda _: None,
    class_names: Sequence[str] = (),
) -> Network:
    """Trains a network and returns it with the weights of its best epoch, or of the last one.

    The loss is the network's classification loss and, with a decoder, `reconstruction_weight` times
    the squared reconstruction error of the true class's capsule (Sabour, Frosst, Hinton 2017,
    section 4.1); both times the class's weight. Each epoch ends with an evaluation, of the averaged
    weights if there are any. The best has the highest accuracy, then the lowest loss. A network
    that does not learn is evaluated only.

    Args:
        network_config: The network.
        config: How to train it.
        training_data: The images to learn from.
        evaluation_data: The images that pick the best epoch.
        log_dir: Folder for TensorBoard, see TrainingLog; None: no log.
        strategy: Where to train; by default on one device.
        checkpoints: Checkpoints to resume from and to write; None: none.
        should_stop: Asked before each step.
        profile_steps: First and last step that TensorFlow's profiler looks at; empty: no profile.
        initial_weights: Weights in the order of the network's variables; empty: random ones.
        eval_batch_size: See Evaluator.
        phase: Called with what the training begins to do, in words that can follow 'it was'.
        class_names: See TrainingLog.

    Raises:
        TrainingError: The batch is larger than the data, or cannot be split among the replicas; the
            loss is not finite; memory is too small; a checkpoint cannot be written; `should_stop`
            returned True; another worker is gone or differs; training ends before `profile_steps`.
    """
    strategy = strategy or tf.distribute.get_strategy()
    config, steps_per_epoch = _planned(network_config, config, training_data, strategy)
    model, optimizer, schedule = _build(network_config, config, strategy, steps_per_epoch)
    warm_start.assign(model, initial_weights)
    is_chief = strategies.is_chief(strategy)
    state = TrainingState(model, optimizer, checkpoints, writes=is_chief, pick=config.pick)
    steps = range(state.progress.step, config.epochs * steps_per_epoch)
    _start(model, config, strategy, state, steps, profile_steps)
    log = _open_log(
        *(log_dir if is_chief else None, checkpoints, model, evaluation_data),
        settings={**dataclasses.asdict(network_config), **dataclasses.asdict(config)},
        learning_rate=schedule,
        batch_size=config.batch_size,
        class_names=class_names,
        first_step=steps.start,
        profile_steps=profile_steps,
    )
    weights = _class_weights(config, training_data, network_config.num_classes, class_names)
    _Loop(
        config=config,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        batches=training_batches(training_data, config, strategy, steps),
        is_trained=model.config.is_trained,
        train_step=make_train_step(model, optimizer, config, strategy, weights, steps.stop),
        learning_rate=schedule,
        evaluator=Evaluator(model, evaluation_data, strategy, eval_batch_size),
        statistics=Statistics(model, config, training_data, strategy, steps_per_epoch),
        state=state,
        log=log,
        should_stop=should_stop,
        phase=phase,
    ).run()
    state.use_best_weights()
    end = fingerprint(None, state.weights())
    strategies.assert_same_on_all_workers(strategy, end, 'weights in the end')
    return model


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The loop over epochs and steps, with the parts that it uses; `train` describes most of them.

    Attributes:
        steps: The steps that are still to do, counted from 0 over all epochs.
        batches: An iterator over the batches of these steps.
        is_trained: Whether the steps change anything; else there is an evaluation only.
        learning_rate: Maps a step to its learning rate.
    """

    config: TrainingConfig
    steps: range
    steps_per_epoch: int
    batches: Iterator[Any]
    train_step: Callable[[Iterator[Any]], dict[str, tf.Tensor]]
    is_trained: bool
    learning_rate: Callable[[int], Any]
    evaluator: Evaluator
    statistics: Statistics
    state: TrainingState
    log: TrainingLog
    should_stop: Callable[[], bool]
    phase: Callable[[str], None]

    def run(self) -> None:
        """Trains and evaluates epoch by epoch."""
        size, epochs = self.config.batch_size, self.config.epochs
        first, last = self.steps.start, self.steps.stop
        with self.log, progress_bar(first * size, last * size) as bar:
            for epoch in range(first // self.steps_per_epoch + 1, epochs + 1):
                bar.set_description(f'epoch {epoch}/{epochs}', refresh=False)
                self.log.start_epoch()
                end = epoch * self.steps_per_epoch
                if self.is_trained:
                    self._train(range(max(first, end - self.steps_per_epoch), end), bar)
                self._evaluate(epoch, bar)
                self.state.save(end)

    def _train(self, steps: range, bar: tqdm.tqdm) -> None:
        """Trains for the steps of an epoch."""
        size, end = self.config.batch_size, steps.stop
        self.phase(f'training with {size:,} images a step')
        for step in steps:
            if self.should_stop():
                self.state.stop(step, self.steps.stop)
            with self.log.profiled(step):
                results = self.train_step(self.batches)
            means = self.log.record(step, results)
            is_due = self.state.is_due(step + 1)
            if means or is_due or step + 1 == end:
                check_finite(step, float(results['loss']), self.learning_rate)
            if means:
                bar.set_postfix(loss=f'{means["loss"]:.4f}', refresh=False)
            bar.update(size)
            if is_due and step + 1 < end:
                self.state.save(step + 1)

    def _evaluate(self, epoch: int, bar: tqdm.tqdm) -> None:
        """Evaluates the network after an epoch, and keeps its weights if they are the best."""
        with self.state.averaged() as is_average:
            if is_average:
                self.statistics.recompute()
            self.phase(f'evaluating {self.evaluator.batch_size:,} images a step')
            evaluation, scores = self.evaluator.run()
            self.phase('drawing pictures for TensorBoard')
            step = epoch * self.steps_per_epoch - 1
            self.log.evaluated(step, evaluation.scalars(), scores)
            is_best = self.state.compare(evaluation)
        shows_best = is_best and epoch > 1 and self.config.pick == 'best'
        when = f'epoch {epoch}/{self.config.epochs}: ' if self.is_trained else ''
        bar.write(
            f'  {when}accuracy {evaluation.accuracy:.2%} on the {len(scores):,} evaluation images'
            f'{", the best so far" if shows_best else ""}',
            file=sys.stderr,
        )


def _build(
    network_config: NetworkConfig,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    steps_per_epoch: int,
) -> tuple[Network, FusedAdam, Schedule]:
    """Makes the network, its optimizer and the learning rate as a function of the step."""
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = table.create(network_config)
        schedule = Schedule(config, steps_per_epoch)
        optimizer = FusedAdam(
            schedule, use_ema=bool(config.ema_decay), ema_momentum=config.ema_decay
        )
        optimizer.build(model.trainable_variables)
    return model, optimizer, schedule


def _start(
    model: Network,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    state: TrainingState,
    steps: range,
    profile_steps: Sequence[int],
) -> None:
    """Says what is trained and from where; raises TrainingError as `train` describes."""
    origin = fingerprint([dataclasses.asdict(config), steps.start], state.weights())
    strategies.assert_same_on_all_workers(strategy, origin, 'settings and checkpoint to start from')
    if not model.config.is_trained:
        say(f'nothing is trained: the network is made of {model.size()}')
        return
    replicas = strategy.num_replicas_in_sync
    place = '1 replica' if replicas == 1 else f'{replicas} replicas'
    share = '' if replicas == 1 else f', {config.batch_size // replicas:,} each'
    say(
        f'training on {place}: {config.batch_size:,} images a step{share}; '
        f'learning rate {config.learning_rate:g}'
    )
    capacity.check(model, config.batch_size, strategy)
    state.say_resumed(steps.stop)
    if profile_steps and profile_steps[0] >= steps.stop:
        raise TrainingError(
            f'There is no step {profile_steps[0]:,} to profile: training ends at step '
            f'{steps.stop:,}. Lower PROFILE_STEPS'
        )


def _class_weights(
    config: TrainingConfig,
    training_data: dataset.LabeledImages,
    num_classes: int,
    class_names: Sequence[str],
) -> np.ndarray | None:
    """float32 [num_classes], and a line that says them; None if all images count the same."""
    if config.class_weights == 'none':
        return None
    weights = class_weights.balanced(training_data.labels, num_classes)
    least, most = (
        f'{weights[label]:.2g} times (class {class_names[label] if class_names else label})'
        for label in map(int, (np.argmin(np.where(weights, weights, np.inf)), np.argmax(weights)))
    )
    say(f'in the loss, an image counts from {least} to {most}, depending on its class')
    return weights


def _open_log(
    log_dir: str | None, checkpoints: Checkpoints | None, *args: Any, **kwargs: Any
) -> TrainingLog:
    """Opens a TrainingLog; `checkpoints` remember it for a training that resumes this one."""
    if not checkpoints or not log_dir:
        return TrainingLog(log_dir, *args, **kwargs)
    log = TrainingLog(log_dir, *args, earlier_log=checkpoints.earlier_log(), **kwargs)
    checkpoints.set_log(log_dir)
    return log


def _planned(
    network_config: NetworkConfig,
    config: TrainingConfig,
    training_data: dataset.LabeledImages,
    strategy: tf.distribute.Strategy,
) -> tuple[TrainingConfig, int]:
    """How the training is done on these replicas, and the steps of an epoch.

    A network that does not learn has one step, in which nothing is done: the checkpoint after it
    is the end of the training.
    """
    count, replicas = len(training_data.labels), strategy.num_replicas_in_sync
    config = config.scaled_to(replicas)
    if not network_config.is_trained:
        return dataclasses.replace(config, epochs=1, batch_size=replicas, ema_decay=0.0), 1
    if count < config.batch_size:
        raise TrainingError(
            f'A batch of {config.batch_size} images is more than the {count} images to train on: '
            'lower BATCH_SIZE'
        )
    if config.batch_size % replicas:
        raise TrainingError(
            f'A batch of {config.batch_size} images cannot be split evenly among {replicas} '
            'replicas: make BATCH_SIZE a multiple of it'
        )
    return config, count // config.batch_size
