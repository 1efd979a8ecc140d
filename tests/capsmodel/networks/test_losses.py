"""Tests of the losses against values worked by hand and the numpy oracle."""

import capsnet_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from capsmodel.networks.losses import (
    cross_entropy,
    margin_loss,
    reconstruction_loss,
    spread_loss,
    squared_error,
)


@pytest.mark.parametrize(
    ('label', 'lengths', 'expected'),
    [
        (0, [0.9, 0.1, 0.1], 0.0),
        (1, [0.05, 0.99, 0.0], 0.0),
        (0, [0.0, 0.0, 0.0], 0.81),
        (2, [0.5, 0.3, 0.7], 0.5 * 0.16 + 0.5 * 0.04 + 0.04),
        (1, [1.0, 0.0, 1.0], 0.5 * 0.81 + 0.81 + 0.5 * 0.81),
    ],
)
def test_margin_loss_worked_by_hand(label, lengths, expected):
    loss = margin_loss(tf.constant([label], tf.int64), tf.constant([lengths]))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, [expected], atol=1e-6)


def test_margin_loss_of_several_labels_worked_by_hand():
    lengths = tf.constant([[0.5, 0.3, 0.7], [0.9, 0.95, 0.0]])
    loss = margin_loss(tf.constant([[2, 0], [0, 1]], tf.int64), lengths)
    np.testing.assert_allclose(loss, [0.16 + 0.5 * 0.04 + 0.04, 0], atol=1e-6)


def test_margin_loss_with_other_margins_and_weight():
    # 0.25 * (0.5 - 0.2)^2 + (0.8 - 0.6)^2
    loss = margin_loss(
        tf.constant([1]), tf.constant([[0.5, 0.6]]), m_plus=0.8, m_minus=0.2, down_weight=0.25
    )
    np.testing.assert_allclose(loss, [0.25 * 0.09 + 0.04], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_margin_loss_is_equation_4(n, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    lengths = rng.uniform(size=(n, classes))
    expected = [oracle.margin_loss_one(*pair) for pair in zip(labels, lengths, strict=True)]
    loss = margin_loss(tf.constant(labels), tf.constant(lengths))
    assert loss.shape == (n,)
    np.testing.assert_allclose(loss, expected, atol=1e-6)


def test_margin_loss_pulls_the_right_capsule_and_pushes_the_others():
    lengths = tf.constant([[0.5, 0.5, 0.05]])
    with tf.GradientTape() as tape:
        tape.watch(lengths)
        loss = margin_loss(tf.constant([0]), lengths)
    # -2 (0.9 - 0.5) for the label, 2 * 0.5 (0.5 - 0.1) for the second, nothing for the third.
    np.testing.assert_allclose(tape.gradient(loss, lengths), [[-0.8, 0.4, 0]], atol=1e-6)


def test_reconstruction_loss_worked_by_hand():
    images = tf.constant([[[0, 255, 51]], [[0, 0, 255]]], tf.uint8)
    reconstructions = tf.constant([[[0.5, 1.0, 0.0]], [[0.0, 0.0, 1.0]]])
    loss = reconstruction_loss(images, reconstructions)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, [0.25 + 0.04, 0], atol=1e-6)


def test_losses_are_float32_for_low_precision_inputs():
    lengths = tf.constant([[0.5, 0.25]], tf.bfloat16)
    assert margin_loss(tf.constant([0]), lengths).dtype == tf.float32
    pixels = tf.zeros([1, 2, 2], tf.bfloat16)
    assert reconstruction_loss(tf.zeros([1, 2, 2], tf.uint8), pixels).dtype == tf.float32


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 4), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_cross_entropy_is_the_log_of_the_softmax(n, classes, seed):
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, classes, n), 3 * rng.normal(size=(n, classes))
    expected = [
        np.log(np.sum(np.exp(row))) - row[label] for label, row in zip(labels, logits, strict=True)
    ]
    loss = cross_entropy(tf.constant(labels), tf.constant(logits))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected, atol=1e-5)


@pytest.mark.parametrize('margin', [0.2, 0.9])
def test_spread_loss_is_equation_3(margin):
    rng = np.random.default_rng(0)
    activations = rng.uniform(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])
    expected = [
        sum(max(0, margin - (a[t] - a[i])) ** 2 for i in range(4) if i != t)
        for a, t in zip(activations.astype(float), labels, strict=True)
    ]
    loss = spread_loss(labels, activations, margin)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_squared_error_worked_by_hand():
    # (0.7 - 1)^2 + 0.2^2 + 0.5^2, and 1 for each of a right class missed and a wrong one taken.
    scores = tf.constant([[0.7, 0.2, 0.5], [1, 0, 0], [0, 0, 1]])
    loss = squared_error(tf.constant([0, 1, 2], tf.int64), scores)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, [0.38, 2, 0], atol=1e-6)
