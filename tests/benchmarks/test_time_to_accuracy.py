"""Tests of the time to an accuracy: what counts as reached, and who is compared with whom."""

import numpy as np
import pytest

from benchmarks import epochs, time_to_accuracy
from benchmarks.time_to_accuracy import Progress, rows
from benchmarks.train_step import read_mnist


def _progress(*accuracies, seconds):
    progress = Progress(most_epochs=10)
    for accuracy in accuracies:
        progress.add(seconds, 2 * seconds, accuracy)
    return progress


def test_a_target_is_reached_by_the_first_epoch_that_is_not_below_it():
    ours = _progress(98.98, 99.0, 99.58, 99.2, seconds=60)
    peer = _progress(97.0, 98.0, 98.5, 99.1, seconds=420)
    table = {(row['name'], row['target_percent']): row for row in rows({'a': ours, 'b': peer})}
    assert table['a', 99.0]['epochs'] == 2
    assert table['a', 99.5]['epochs'] == 3
    assert table['a', 99.5]['minutes'] == 3
    assert table['a', 99.5]['cpu_minutes'] == 6
    assert table['b', 99.0]['ratio_to_ours'] == 14
    assert table['b', 99.0]['cpu_ratio_to_ours'] == 14
    assert 'epochs' not in table['b', 99.5]
    assert 'epochs' not in table['a', 99.6]


def test_a_program_ends_when_nothing_is_left_or_nothing_is_allowed():
    assert not _progress(99.5, seconds=60).is_over(61)
    assert _progress(99.5, seconds=60).is_over(60)
    assert _progress(99.6, seconds=60).is_over(1000)
    assert _progress(*[99.0] * 10, seconds=1).is_over(1000)


def test_an_epoch_is_the_training_that_the_settings_describe(tmp_path, mnist_dir):
    images, labels = read_mnist('train[:200]', mnist_dir)
    path = tmp_path / 'data.npz'
    np.savez(path, images=images, labels=labels, eval_images=images, eval_labels=labels)
    settings = {'PRESET': 'tiny', 'NETWORK': 'mlp', 'EMA_DECAY': '0.5', 'SEED': '3'}
    network, training = epochs.mnist_training(settings)
    assert (network.num_classes, training.ema_decay, training.seed) == (10, 0.5, 3)
    epoch = time_to_accuracy.prepare(settings, str(path))
    errors = [epoch() for _ in range(5)]
    assert errors[-1] < errors[0] / 2
    assert errors[-1] * 2 == pytest.approx(round(errors[-1] * 2))  # of 200 images
