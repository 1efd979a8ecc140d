"""Compares a training on two replicas with one on one, and says what odd batches end in."""

import dataclasses

import numpy as np
import tensorflow as tf
from two_devices import NETWORK, noise

from capsmodel.networks import capsnet
from capsmodel.training import evaluation, loop, strategies
from capsmodel.training.errors import TrainingError
from capsmodel.training.settings import TrainingConfig

images = noise(40)
settings = TrainingConfig(
    epochs=2,
    batch_size=10,
    learning_rate=1e-2,
    learning_rate_decay=0.5,
    reconstruction_weight=0.0005,
    augmentation='shift:2',
    seed=1,
)
mirrored = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


def weights(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
    model = loop.train(NETWORK, settings, images, images, None, strategy)
    return [variable.numpy() for variable in model.variables]


one, two = weights(tf.distribute.get_strategy()), weights(mirrored)
assert strategies.replicas_here(mirrored) == 2
with mirrored.scope():
    network = capsnet.CapsNet(NETWORK)
for batch_size, expected in ((9, 8), (0, 40)):
    evaluator = evaluation.Evaluator(network, images, mirrored, batch_size)
    assert evaluator.batch_size == expected
    accuracy = evaluation.evaluate(network, images).accuracy
    assert abs(evaluator.run()[0].accuracy - accuracy) < 1e-6
for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
try:
    odd = dataclasses.replace(settings, batch_size=9)
    loop.train(NETWORK, odd, images, images, None, mirrored)
except TrainingError as error:
    print(error)
