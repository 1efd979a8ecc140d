"""A network and settings with which a training on genuine digits takes seconds."""

from capsmodel.networks.settings import NetworkConfig
from capsmodel.training.settings import TrainingConfig

NETWORK = NetworkConfig(
    28, 28, 10, conv1_filters=8, primary_channels=2, digit_dim=4, decoder_units=(16,)
)
TRAINING = TrainingConfig(
    epochs=2,
    batch_size=50,
    learning_rate=3e-3,
    learning_rate_decay=0.5,
    reconstruction_weight=0.0005,
    max_shift=1,
    seed=7,
)

# The start of a script for a process of its own, whose CPU counts as two devices.
TWO_DEVICES = """
import numpy as np
import tensorflow as tf
from capsmodel.data import dataset
from capsmodel.networks import capsnet
from capsmodel.training import loop

cpu = tf.config.list_physical_devices('CPU')[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
shape = capsnet.NetworkConfig(
    20, 20, 3, conv1_filters=4, primary_channels=2, digit_dim=4, decoder_units=(8,)
)

def noise(count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 20, 20), dtype=np.uint8)
    return dataset.LabeledImages(images, rng.integers(0, 3, count))
"""
