"""Makes two devices of the CPU of a process that imports it, and has a small network for them."""

import numpy as np
import tensorflow as tf

from capsmodel.data import dataset
from capsmodel.networks.settings import CapsNetConfig

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
NETWORK = CapsNetConfig(
    20, 20, 3, conv1_filters=4, primary_channels=2, digit_dim=4, decoder_units=(8,)
)


def noise(count: int) -> dataset.LabeledImages:
    """Images that have nothing to do with their labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 20, 20), dtype=np.uint8)
    return dataset.LabeledImages(images, rng.integers(0, 3, count))
