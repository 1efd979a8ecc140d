"""Class weights: by hand, and what they make of a step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples
from small_training import NETWORK, TRAINING

from capsmodel.data import dataset
from capsmodel.networks import capsnet
from capsmodel.networks.step import Step
from capsmodel.training import class_weights, loop
from capsmodel.training.optimizer import FusedAdam
from capsmodel.training.steps import example_metrics, make_train_step


def test_balanced_weights_by_hand():
    # Four images of class 0 and two of class 3, of two classes that are there.
    weights = class_weights.balanced(np.array([0, 3, 0, 0, 3, 0]), num_classes=5)
    np.testing.assert_allclose(weights, [0.75, 0, 0, 1.5, 0])
    assert weights.dtype == np.float32


def test_the_loss_of_a_step_is_weighted_and_its_metrics_are_not():
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    batch = tf.constant(images), tf.constant([0, 1, 1, 2], tf.int64)
    config = dataclasses.replace(TRAINING, batch_size=4, reconstruction_weight=0.5)
    model = capsnet.CapsNet(NETWORK)
    optimizer = FusedAdam(1e-3)
    optimizer.build(model.trainable_variables)
    each = example_metrics(model, *batch, Step.on_this_replica(0, tf.constant(0), 1, 4))
    losses = each['margin_loss'] + 0.5 * each['reconstruction_loss']
    weights = np.array([4, 2, 0.5] + 7 * [0], np.float32)
    step = make_train_step(model, optimizer, config, tf.distribute.get_strategy(), weights)
    results = step(iter(tf.data.Dataset.from_tensors(batch)))
    expected = np.dot(losses, [4, 2, 2, 0.5]) / 4
    assert float(results['loss']) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(np.mean(losses), rel=0.1)
    for name in ('accuracy', 'margin_loss', 'reconstruction_loss'):
        assert float(results[name]) == pytest.approx(np.mean(each[name]), rel=1e-4)


def test_a_line_says_how_much_the_images_of_a_rare_class_count(capsys):
    images, labels = transformed_examples.digits()[0]
    # Two sevens among the ones.
    chosen = np.concatenate([np.flatnonzero(labels == 1), np.flatnonzero(labels == 7)[:2]])
    rare = dataset.LabeledImages(images[chosen], labels[chosen])
    config = dataclasses.replace(TRAINING, epochs=1, batch_size=10, class_weights='balanced')
    bare = dataclasses.replace(NETWORK, decoder=False)
    names = [f'digit {number}' for number in range(10)]
    loop.train(bare, config, rare, rare, None, class_names=names)
    said = capsys.readouterr().err
    assert f'counts from {len(chosen) / 2 / (len(chosen) - 2):.2g} times (class digit 1)' in said
    assert f'to {len(chosen) / 4:.2g} times (class digit 7)' in said
