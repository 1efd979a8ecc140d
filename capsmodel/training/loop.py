"""The training loop: a step on every replica of a `tf.distribute` strategy, watched and judged."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from capsmodel.data import dataset
from capsmodel.networks import capsnet
from capsmodel.networks.settings import NetworkConfig
from capsmodel.summaries import training_log
from capsmodel.summaries.console import say
from capsmodel.training import strategies, warm_start
from capsmodel.training.checkpoints import Checkpoints, Progress, fingerprint
from capsmodel.training.errors import Diverged, TrainingError
from capsmodel.training.evaluation import Evaluation, Evaluator, judged_images
from capsmodel.training.optimizer import FusedAdam
from capsmodel.training.settings import TrainingConfig


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
) -> capsnet.CapsNet:
    """Trains a network and returns it with the weights of its best epoch.

    The loss is the margin loss plus `reconstruction_weight` times the squared reconstruction error
    of the true class's capsule (Sabour, Frosst, Hinton 2017, sections 3 and 4.1), optimized by Adam
    with an exponentially decaying learning rate. After each epoch the network is evaluated on
    `evaluation_data`, with the average of its weights where there is one; the epoch with the
    highest accuracy there is the best one, the lower margin loss deciding between equals.

    Args:
        network_config: The network.
        config: How to train it.
        training_data: What it learns from.
        evaluation_data: What picks the best epoch.
        log_dir: Folder for TensorBoard, as TrainingLog has it; None: there is no log.
        strategy: Where to train; by default on one device.
        checkpoints: Where training goes on from, and what it writes: after each epoch, every so
            many steps, and when it is to stop.
        should_stop: Asked before each step.
        profile_steps: First and last step that TensorFlow's profiler looks at; none by default.
        initial_weights: What training starts from, in the order of the network's variables; by
            default what `seed` gives.
        eval_batch_size: Images a step of an evaluation, all replicas together; 0: as many as there
            is memory for. The result does not depend on it.
        phase: Told what the training is at, as words that can follow 'it was'.

    Raises:
        TrainingError: The batch is larger than the data, or cannot be split among the replicas; the
            loss is no longer finite; a checkpoint cannot be written; `should_stop` said so;
            another worker is gone, or is at another training; there are no such steps to profile.
    """
    strategy = strategy or tf.distribute.get_strategy()
    config = config.scaled_to(strategy.num_replicas_in_sync)
    steps_per_epoch = _steps_per_epoch(config, training_data, strategy)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = capsnet.CapsNet(network_config)
        schedule = keras.optimizers.schedules.ExponentialDecay(
            config.learning_rate, steps_per_epoch, config.learning_rate_decay
        )
        optimizer = FusedAdam(
            schedule, use_ema=bool(config.ema_decay), ema_momentum=config.ema_decay
        )
        optimizer.build(model.trainable_variables)
    if initial_weights:
        warm_start.assign(model, initial_weights)
    is_chief = strategies.is_chief(strategy)
    state = _State(model, optimizer, checkpoints, writes=is_chief)
    first_step, last_step = state.progress.step, config.epochs * steps_per_epoch
    origin = fingerprint([dataclasses.asdict(config), first_step], state.weights())
    strategies.check_agreement(strategy, origin, 'state to start from')
    say(_first_line(config, strategy))
    if first_step:
        say(f'going on from the checkpoint of step {first_step:,} of {last_step:,}')
    if profile_steps and profile_steps[0] >= last_step:
        raise TrainingError(
            f'There is no step {profile_steps[0]:,} to profile: training ends at step '
            f'{last_step:,}. Lower PROFILE_STEPS'
        )
    if not is_chief:
        log_dir = None
    log = training_log.TrainingLog(
        log_dir,
        model,
        evaluation_data,
        settings={**dataclasses.asdict(network_config), **dataclasses.asdict(config)},
        learning_rate=schedule,
        batch_size=config.batch_size,
        first_step=first_step,
        earlier_log=checkpoints.earlier_log() if checkpoints and log_dir else None,
        profile_steps=profile_steps,
    )
    if checkpoints and log_dir:
        checkpoints.set_log(log_dir)
    evaluator = Evaluator(model, evaluation_data, strategy, eval_batch_size)
    step_function = make_step(model, optimizer, config, strategy)
    distributed = strategy.distribute_datasets_from_function(
        lambda context: dataset.training_dataset(
            training_data,
            context,
            first_step=first_step,
            last_step=last_step,
            seed=config.seed,
            batch_size=config.batch_size,
            max_shift=config.max_shift,
        )
    )
    batches = iter(distributed)
    with log, _progress(first_step * config.batch_size, last_step * config.batch_size) as progress:
        for epoch in range(first_step // steps_per_epoch + 1, config.epochs + 1):
            progress.set_description(f'epoch {epoch}/{config.epochs}', refresh=False)
            log.start_epoch()
            phase(f'training with {config.batch_size:,} images a step')
            start, end = (epoch - 1) * steps_per_epoch, epoch * steps_per_epoch
            for step in range(max(first_step, start), end):
                if should_stop():
                    state.save(step)
                    raise TrainingError(_stopped(step, last_step, checkpoints))
                with log.profiled(step):
                    results = step_function(batches)
                means = log.record(step, results)
                if means or state.is_due(step + 1) or step + 1 == end:
                    _check_finite(float(results['loss']), step, float(schedule(step)))
                if means:
                    progress.set_postfix(loss=f'{means["loss"]:.4f}', refresh=False)
                progress.update(config.batch_size)
                if state.is_due(step + 1) and step + 1 < end:
                    state.save(step + 1)
            with state.averaged():
                phase(f'evaluating {evaluator.batch_size:,} images a step')
                evaluation, lengths = evaluator.run()
                phase('drawing pictures for TensorBoard')
                log.evaluated(step, evaluation.scalars(), lengths)
                is_best = state.compare(evaluation)
            state.save(end)
            progress.write(
                f'  epoch {epoch}/{config.epochs}: accuracy {evaluation.accuracy:.2%} on the '
                f'{len(evaluation_data.labels):,} evaluation images'
                f'{", the best so far" if is_best and epoch > 1 else ""}',
                file=sys.stderr,
            )
    state.use_best_weights()
    strategies.check_agreement(strategy, fingerprint(None, state.weights()), 'weights in the end')
    return model


def load_best(model: capsnet.CapsNet, checkpoints: Checkpoints) -> Progress:
    """Gives a network the weights of the best epoch so far, and says how far the training is.

    Raises:
        TrainingError: There is no checkpoint of an evaluated network.
    """
    best = tf.train.Checkpoint(best_weights=[variable.value for variable in model.variables])
    progress = checkpoints.restore(best)
    if progress.best is None:
        raise TrainingError(f'{checkpoints.folder} holds no checkpoint of an evaluated network')
    return progress


class _State:
    """All that training changes: weights, optimizer, the best epoch's weights, and how far it is.

    It starts from the last checkpoint, where there is one. Of several workers one writes.
    """

    def __init__(
        self,
        model: capsnet.CapsNet,
        optimizer: keras.optimizers.Optimizer,
        checkpoints: Checkpoints | None,
        writes: bool,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._checkpoints = checkpoints
        self._writes = writes
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

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written when so many steps are made."""
        return bool(
            self._checkpoints
            and self._checkpoints.every_steps
            and step % self._checkpoints.every_steps == 0
        )

    def save(self, step: int) -> None:
        """Writes a checkpoint, unless that of this step was the last to be read or written."""
        if self._checkpoints and step != self.progress.step:
            self.progress = dataclasses.replace(self.progress, step=step)
            if self._writes:
                self._checkpoints.save(self._variables, self.progress)

    def weights(self) -> list[np.ndarray]:
        """The network's."""
        return [variable.numpy() for variable in self._model.variables]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network has the average of its weights, where the optimizer keeps one."""
        if not self._optimizer.use_ema:
            yield
            return
        weights = self.weights()
        self._optimizer.finalize_variable_values(self._model.trainable_variables)
        try:
            yield
        finally:
            for variable, value in zip(self._model.variables, weights, strict=True):
                variable.assign(value)

    def compare(self, evaluation: Evaluation) -> bool:
        """Keeps the weights if they are the best so far, and says whether they are."""
        rank = (evaluation.accuracy, -evaluation.margin_loss)
        is_best = self.progress.best is None or rank > self.progress.best
        if is_best:
            self.progress = dataclasses.replace(self.progress, best=rank)
            for best, variable in zip(self._best_weights, self._model.variables, strict=True):
                best.assign(variable.value)
        return is_best

    def use_best_weights(self) -> None:
        """Gives the network the weights of its best epoch."""
        for best, variable in zip(self._best_weights, self._model.variables, strict=True):
            variable.assign(best)


def _steps_per_epoch(
    config: TrainingConfig, training_data: dataset.LabeledImages, strategy: tf.distribute.Strategy
) -> int:
    count, replicas = len(training_data.labels), strategy.num_replicas_in_sync
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
    return count // config.batch_size


def _first_line(config: TrainingConfig, strategy: tf.distribute.Strategy) -> str:
    replicas = strategy.num_replicas_in_sync
    place = '1 replica' if replicas == 1 else f'{replicas} replicas'
    share = '' if replicas == 1 else f', {config.batch_size // replicas:,} each'
    return (
        f'training on {place}: {config.batch_size:,} images a step{share}; '
        f'learning rate {config.learning_rate:g}'
    )


def _check_finite(loss: float, step: int, learning_rate: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f'The loss is {loss} at step {step}, where the learning rate is {learning_rate:g}: '
            'lower LEARNING_RATE'
        )


def _stopped(step: int, last_step: int, checkpoints: Checkpoints | None) -> str:
    stopped = f'Training was told to stop and did after step {step:,} of {last_step:,}'
    return f'{stopped}: the same command goes on from there.' if checkpoints else f'{stopped}.'


def make_step(
    model: capsnet.CapsNet,
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
) -> Any:
    """One step as a tf.function: iterator over `dataset.training_dataset` -> scalars by name.

    They are means over the batch, and `gradient_norm`: Euclidean, of the gradient of all weights.
    With several replicas it is the root mean square of theirs, each for its own part of the batch.
    It takes as long as a hundredth of a step and is 0 but for every STEPS_BETWEEN_SCALARS steps.
    """

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            judged = judged_images(model, images, labels, training=True)
            del judged['lengths']
            # Each replica holds its part of the batch, so that the replicas' gradients, which the
            # optimizer adds up, are those of the mean over the whole batch.
            means = {k: tf.reduce_sum(v) / config.batch_size for k, v in judged.items()}
            loss = means['margin_loss']
            if model.config.decoder:
                loss += config.reconstruction_weight * means['reconstruction_loss']
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        replicas = strategy.num_replicas_in_sync
        squared_norm = tf.cond(
            optimizer.iterations % training_log.STEPS_BETWEEN_SCALARS == 0,
            lambda: replicas * tf.square(tf.linalg.global_norm(gradients)),
            lambda: tf.zeros([]),
        )
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {'loss': loss, **means, 'gradient_norm': squared_norm}

    @tf.function
    def step(batches: Any) -> dict[str, tf.Tensor]:
        results = {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in strategy.run(replica_step, args=next(batches)).items()
        }
        return {**results, 'gradient_norm': tf.sqrt(results['gradient_norm'])}

    return step


class _Lines:
    """Takes the place of a terminal for a progress bar: each state of the bar is a line."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def _progress(made: int, images: int) -> tqdm.tqdm:
    """A bar on a terminal; elsewhere a line every half a minute."""
    on_terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        initial=made,
        total=images,
        unit=' images',
        unit_scale=True,
        dynamic_ncols=on_terminal,
        file=sys.stderr if on_terminal else _Lines(),
        mininterval=0.5 if on_terminal else 30,
        maxinterval=60,
        delay=0 if on_terminal else 30,  # or the first line would say 0%
        leave=False,
        disable=made == images,
    )
