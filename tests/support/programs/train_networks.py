"""Trains small networks of NETWORKS that its arguments name: resumed, and on two replicas."""

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
# With a higher rate, gradients that are nearly 0 make differences: Adam makes of each a step of
# full size, in either direction.
SETTINGS = TrainingConfig(
    epochs=1, batch_size=10, learning_rate=1e-4, augmentation='shift:2', seed=1, ema_decay=0.5
)
IMAGES = two_devices.noise(40)
MIRRORED = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


def weights(config, strategy, checkpoints=None, steps=1000) -> list[np.ndarray]:
    """What a training comes to that is told to stop after some steps."""
    left = iter(range(steps))
    model = loop.train(
        *(config, SETTINGS, IMAGES, IMAGES, None, strategy, checkpoints),
        should_stop=lambda: next(left, None) is None,
    )
    return [variable.numpy() for variable in model.variables]


table.NETWORKS['planted'] = table.Entry('planted_network.PlantedNetwork')
for name in sys.argv[1:]:
    config = network_configs.small(name, size=20, classes=3)
    alone = tf.distribute.get_strategy()
    one = weights(config, alone)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        try:
            weights(config, alone, checkpoints, steps=2)
            sys.exit(f'{name} was not stopped')
        except TrainingError:
            resumed = weights(config, alone, checkpoints)
    for a, b, c in zip(one, resumed, weights(config, MIRRORED), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-4, err_msg=name)
    first = table.create(config).get_weights()
    assert not any(map(np.array_equal, one[:1], first[:1]))
