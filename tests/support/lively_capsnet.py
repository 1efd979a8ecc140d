"""A network whose capsules have all lengths, and its reconstructions differ, without a training."""

import keras
from network_configs import small

from capsmodel.networks import table


def lively_capsnet():
    """A small network for pairs of digits, 36x36 pixels."""
    keras.utils.set_random_seed(1)
    network = table.create(small('capsnet', 36, decoder_units=(32,)))
    for layer, factor in ((network.digit_caps, 50), (network.decoder, 6)):
        for variable in layer.weights:
            variable.assign(factor * variable)
    return network
