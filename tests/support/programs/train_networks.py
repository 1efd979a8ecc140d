"""Trains small networks of NETWORKS that its arguments name: resumed, and on two replicas."""

import dataclasses
import sys
import tempfile

import network_configs
import numpy as np
import tensorflow as tf
import two_devices

from capsmodel.networks import table
from capsmodel.training import loop
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import TrainingError
from capsmodel.training.settings import TrainingConfig

tf.config.experimental.enable_op_determinism()
SETTINGS = TrainingConfig(
    epochs=2, batch_size=10, learning_rate=1e-3, augmentation='shift:2', seed=1, ema_decay=0.5
)
IMAGES = two_devices.noise(40)
MIRRORED = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


def weights(config, settings, strategy, checkpoints=None, steps=1000) -> list[np.ndarray]:
    """What a training comes to that is told to stop after some steps."""
    left = iter(range(steps))
    model = loop.train(
        *(config, settings, IMAGES, IMAGES, None, strategy, checkpoints),
        should_stop=lambda: next(left, None) is None,
    )
    return [variable.numpy() for variable in model.variables]


for name in sys.argv[1:]:
    config = network_configs.small(name, size=20, classes=3)
    one = weights(config, SETTINGS, tf.distribute.get_strategy())
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        try:
            weights(config, SETTINGS, tf.distribute.get_strategy(), checkpoints, steps=3)
            sys.exit(f'{name} was not stopped')
        except TrainingError:
            resumed = weights(config, SETTINGS, tf.distribute.get_strategy(), checkpoints)
    for a, b in zip(one, resumed, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(one, table.create(config).get_weights(), strict=True)
    )
    # Adam makes of a gradient that is nearly 0 a step of full size, in either direction.
    few = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-4)
    together = weights(config, few, MIRRORED)
    for a, b in zip(weights(config, few, tf.distribute.get_strategy()), together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=name)
