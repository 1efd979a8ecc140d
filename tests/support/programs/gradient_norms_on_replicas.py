"""Compares the gradient norm that a step logs with the one of gradients made here."""

import keras
import numpy as np
import tensorflow as tf
from two_devices import NETWORK, noise

from capsmodel.data import dataset
from capsmodel.networks import capsnet, losses
from capsmodel.training.settings import TrainingConfig
from capsmodel.training.steps import make_train_step

images = noise(10)
settings = TrainingConfig(
    epochs=21,
    batch_size=10,
    learning_rate=0.0,
    learning_rate_decay=1.0,
    reconstruction_weight=0.5,
    augmentation='none',
    seed=1,
)
order = {'seed': 1, 'batch_size': 10, 'augmentation': 'none'}


def batches_of(context: tf.distribute.InputContext) -> tf.data.Dataset:
    return dataset.training_dataset(images, context, first_step=0, last_step=21, **order)


for strategy in (
    tf.distribute.get_strategy(),
    tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']),
):
    with strategy.scope():
        model = capsnet.CapsNet(NETWORK)
        optimizer = keras.optimizers.Adam(0.0)
        optimizer.build(model.trainable_variables)
    step = make_train_step(model, optimizer, settings, strategy)
    batches = iter(strategy.distribute_datasets_from_function(batches_of))
    logged = [float(step(batches)['gradient_norm']) for _ in range(21)]
    assert np.flatnonzero(logged).tolist() == [0, 20], logged
    replicas = strategy.num_replicas_in_sync
    batch = dataset.training_batch(images, tf.constant(0, tf.int64), **order)
    squares = []
    for x, y in zip(*(tf.split(part, replicas) for part in batch), strict=True):
        with tf.GradientTape() as tape:
            capsules = model(x)
            loss = tf.reduce_mean(
                losses.margin_loss(y, capsnet.lengths(capsules))
                + 0.5 * losses.reconstruction_loss(x, model.reconstruct(capsules, y))
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        squares.append(sum(float(tf.reduce_sum(tf.square(g))) for g in gradients))
    np.testing.assert_allclose(logged[0], np.sqrt(np.mean(squares)), rtol=1e-4)
