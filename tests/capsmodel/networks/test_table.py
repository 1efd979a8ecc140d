"""The table of networks: a new one is a class and an entry."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from small_training import TRAINING

from capsmodel.networks import table
from capsmodel.networks.settings import NetworkConfig
from capsmodel.settings import declared
from capsmodel.training import loop
from capsmodel.training.errors import out_of_memory

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


@pytest.mark.parametrize('name', table.NETWORKS)
def test_out_of_memory_names_only_settings_that_the_network_has(name):
    config = table.NETWORKS[name].config
    message = out_of_memory('Memory ran out', 'training with 8 images a step', config)
    sizes = re.findall('[A-Z0-9]+_[A-Z]+', message.partition('the network large: ')[2])
    assert sizes[:2] == ['IMAGE_HEIGHT', 'IMAGE_WIDTH']
    assert {size.lower() for size in sizes[2:]} <= declared(config).keys()
    assert ('CNN_WIDTH' in sizes) == name.startswith('cnn')
    assert ('CONV1_FILTERS' in sizes) == (name == 'capsnet')
