"""Before a training: what is said of the network, and that one without memory does not start."""

import pytest
import tensorflow as tf
from small_training import NETWORK
from troubles import assert_printed

from capsmodel.networks import memory
from capsmodel.networks.capsnet import CapsNet
from capsmodel.training import capacity
from capsmodel.training.errors import TrainingError


def test_the_network_is_described_and_too_large_a_step_is_refused(monkeypatch, capsys):
    model, strategy = CapsNet(NETWORK), tf.distribute.get_strategy()
    monkeypatch.setattr(model, 'bytes_to_train', lambda images: 2 * 10**9)
    monkeypatch.setattr(memory, 'free', lambda: 2 * 10**9)
    capacity.check(model, 50, strategy)
    assert capsys.readouterr().err == (
        f'  the network has 72 primary capsules and {model.count_params():,} parameters; a step of '
        '50 images takes about 2.0 GB of memory\n'
    )
    monkeypatch.setattr(memory, 'free', lambda: 10**9 - 1)
    with pytest.raises(TrainingError) as refused:
        capacity.check(model, 50, strategy)
    assert_printed('no memory', str(refused.value))
    assert '2.0 GB of memory, and 1,000 MB are free' in str(refused.value)
