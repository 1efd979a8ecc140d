"""One step of training and one of evaluation, on every replica of a `tf.distribute` strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.data import dataset
from capsmodel.networks import losses
from capsmodel.networks.network import Network
from capsmodel.networks.step import Step
from capsmodel.summaries.training_log import STEPS_BETWEEN_SCALARS
from capsmodel.training.settings import TrainingConfig


def example_metrics(
    model: Network, images: tf.Tensor, labels: tf.Tensor, step: Step | None = None
) -> dict[str, tf.Tensor]:
    """Accuracy, losses and scores of each image.

    The decoder reconstructs the true class's capsule in training, and the predicted one's otherwise
    (Sabour, Frosst, Hinton 2017, section 4.1).

    Args:
        model: The network.
        images: uint8 [n, height, width].
        labels: int64 [n].
        step: The step of training; None: this is an evaluation.

    Returns:
        `accuracy`, the classification loss by its name and, with a decoder, `reconstruction_loss`,
        float32 [n] each; and `scores`, float32 [n, classes].
    """
    outputs = model(images, step=step)
    scores = model.scores(outputs)
    predicted = tf.argmax(scores, axis=-1, output_type=tf.int64)
    metrics = {
        'accuracy': tf.cast(predicted == labels, tf.float32),
        model.loss_name: model.classification_loss(labels, outputs, step),
        'scores': scores,
    }
    if model.config.has_decoder:
        drawn = model.reconstruct(model.capsules(outputs), predicted if step is None else labels)
        metrics['reconstruction_loss'] = losses.reconstruction_loss(images, drawn)
    return metrics


def make_train_step(
    model: Network,
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    class_weights: np.ndarray | None = None,
    steps: int = 1,
) -> Any:
    """Makes the tf.function of a training step.

    Args:
        model: The network, made under `strategy`.
        optimizer: An optimizer that is built for the network's trainable variables.
        config: How to train.
        strategy: Where to train.
        class_weights: float32 [classes], factors on the losses of each class's images; None: 1.
        steps: The steps of the whole training, for a loss that changes on the way.

    Returns:
        A function that takes an iterator over `dataset.training_dataset`, trains on its next batch
        and returns float32 scalars by name: `loss`; the means of the metrics over the batch, which
        class weights do not change; and `gradient_norm`, the Euclidean norm of the gradient of all
        weights. With several replicas this is the root mean square of their norms, each for its own
        part of the batch. The norm is computed every
        STEPS_BETWEEN_SCALARS steps (about 1% of a step) and is 0 otherwise.
    """

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            moment = Step.on_this_replica(
                config.seed, optimizer.iterations.value, steps, config.batch_size
            )
            metrics = example_metrics(model, images, labels, moment)
            del metrics['scores']
            # Each replica divides by the whole batch's size, and the optimizer adds the replicas'
            # gradients up: the sum is the gradient of the mean over the whole batch.
            means = {k: tf.reduce_sum(v) / config.batch_size for k, v in metrics.items()}
            weighted = means
            if class_weights is not None:
                weights = tf.gather(class_weights, labels)
                weighted = {
                    k: tf.reduce_sum(weights * v) / config.batch_size for k, v in metrics.items()
                }
            loss = weighted[model.loss_name]
            if model.config.has_decoder:
                loss += config.reconstruction_weight * weighted['reconstruction_loss']
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        replicas = strategy.num_replicas_in_sync
        squared_norm = tf.cond(
            optimizer.iterations % STEPS_BETWEEN_SCALARS == 0,
            lambda: replicas * tf.square(tf.linalg.global_norm(gradients)),
            lambda: tf.zeros([]),
        )
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {'loss': loss, **means, 'gradient_norm': squared_norm}

    @tf.function(autograph=False)
    def step(batches: Any) -> dict[str, tf.Tensor]:
        results = {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in strategy.run(replica_step, args=next(batches)).items()
        }
        return {**results, 'gradient_norm': tf.sqrt(results['gradient_norm'])}

    return step


def make_eval_step(model: Network, strategy: tf.distribute.Strategy) -> Any:
    """Makes the tf.function of an evaluation step.

    Args:
        model: The network, made under `strategy`.
        strategy: Where to evaluate.

    Returns:
        A function that takes an iterator over `dataset.evaluation_dataset` and returns what
        `example_metrics` does for the images of its next batch, in their order.
    """

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return example_metrics(model, images, labels)

    @tf.function(autograph=False)
    def step(batches: Any) -> dict[str, tf.Tensor]:
        metrics = strategy.run(replica_step, args=next(batches))
        return {name: strategy.gather(value, axis=0) for name, value in metrics.items()}

    return step


def training_batches(
    training_data: dataset.LabeledImages,
    config: TrainingConfig,
    strategy: tf.distribute.Strategy,
    steps: range,
) -> Iterator[Any]:
    """An iterator over the batches of the steps, each spread over the replicas."""
    distributed = strategy.distribute_datasets_from_function(
        lambda context: dataset.training_dataset(
            training_data,
            context,
            first_step=steps.start,
            last_step=steps.stop,
            seed=config.seed,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
        )
    )
    return iter(distributed)
