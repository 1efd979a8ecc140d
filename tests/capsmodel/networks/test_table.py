"""The table of networks: a new one is a class and an entry."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from small_training import TRAINING

from capsmodel.networks import table
from capsmodel.networks.settings import NetworkConfig
from capsmodel.training import loop

PLANTED = NetworkConfig(28, 28, 10, network='planted')


@pytest.fixture
def planted(monkeypatch):
    entry = table.Entry('planted_network.PlantedNetwork')
    monkeypatch.setitem(table.NETWORKS, 'planted', entry)


@pytest.mark.usefixtures('planted')
def test_a_new_network_trains_and_averaged_weights_have_their_own_statistics():
    digits, _ = transformed_examples.digits()
    # Every batch is all of the images, so the statistics are exactly theirs.
    config = dataclasses.replace(
        TRAINING, batch_size=len(digits.labels), augmentation='none', epochs=2
    )
    flat = tf.reshape(digits.images, [len(digits.labels), -1]) / np.float32(255)
    for decay in (0.0, 0.5):
        averaged = dataclasses.replace(config, ema_decay=decay)
        model = loop.train(PLANTED, averaged, digits, digits, None)
        mean = tf.reduce_mean(model.units(flat), axis=0)
        # Without an average of the weights they are a slow moving average.
        is_theirs = np.allclose(model.normalization.mean, mean, rtol=1e-3, atol=1e-4)
        assert is_theirs == bool(decay)


def test_a_config_of_another_network_is_refused():
    with pytest.raises(ValueError, match='capsnet is made of CapsNetConfig, not NetworkConfig'):
        table.create(NetworkConfig(28, 28, 10, network='capsnet'))
    with pytest.raises(ValueError, match=r"its network must be one of capsnet, .* not 'resnet'"):
        table.config_of({'network': 'resnet'})
