"""Matrix capsules: sizes, votes by hand, costs that do not grow with the children, and poses."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from project_paths import DATA

from capsmodel.data.augmentation import rotate_and_scale, shift
from capsmodel.data.dataset import LabeledImages
from capsmodel.networks.capsule_patches import Patches
from capsmodel.networks.em_routing import VARIANCE_FLOOR
from capsmodel.networks.matrix_capsnet import MatrixCaps, MatrixCapsNet
from capsmodel.networks.settings import MatrixCapsNetConfig
from capsmodel.networks.step import Step
from capsmodel.training import loop
from capsmodel.training.settings import TrainingConfig

MNIST = MatrixCapsNetConfig(28, 28, 10)


def _layer(types, patches, children, iterations=3):
    keras.utils.set_random_seed(1)
    layer = MatrixCaps(types, patches, iterations, sharpness=1.0)
    layer.build((None, *patches.size, children, 16))
    return layer


def test_it_has_the_papers_68_thousand_parameters():
    network = MatrixCapsNet(MNIST)
    trained = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    convolution, primary = 5 * 5 * 64 + 64, 64 * 8 * 17 + 8 * 17
    matrices = 16 * (9 * 8 * 16 + 9 * 16 * 16 + 16 * 10)
    assert trained == convolution + primary + matrices + 2 * (16 + 16 + 10) + 2 * 64
    assert trained == 68_572
    layers = (network.caps1, network.caps2, network.class_caps)
    assert [layer.patches.size for layer in layers] == [(12, 12), (5, 5), (3, 3)]


def test_mistake_1_in_the_smallest_network_each_parent_has_several_children():
    network = MatrixCapsNet(MatrixCapsNetConfig(17, 18, 3))
    assert network.class_caps.patches.size == (1, 1)
    assert network.class_caps.kernel.shape[0] == 16
    with pytest.raises(ValueError, match='16x30 pixels are too small: matrix_capsnet needs at le'):
        MatrixCapsNetConfig(16, 30, 4)


@pytest.mark.parametrize('children', [2, 8])
def test_mistake_3_the_cost_does_not_grow_with_the_number_of_children(children):
    """With equal votes all that counts is how active the children are: a = 1/2."""
    layer = _layer(3, Patches((6, 6), 3, 3), children, iterations=1)
    layer.kernel.assign(np.tile(np.eye(4, dtype=np.float32), [9 * children, 1, 3]))
    layer.beta_u.assign([0.5, 0, -0.5])
    layer.beta_a.assign([0, 1, 2])
    poses, logits = layer(tf.ones([1, 6, 6, children, 16]), tf.zeros([1, 6, 6, children]))
    np.testing.assert_allclose(poses, np.ones([1, 2, 2, 3, 16]), rtol=1e-6)
    cost = 16 * (np.array([0.5, 0, -0.5]) + np.log(VARIANCE_FLOOR) / 2) / 2
    expected = 0.05 * (np.array([0, 1, 2]) - cost)
    np.testing.assert_allclose(logits, np.broadcast_to(expected, [1, 2, 2, 3]), rtol=1e-5)


def _transformed(pose, kernel, j):
    return (pose.reshape(4, 4) @ kernel[:, 4 * j : 4 * j + 4]).ravel()


def test_votes_are_poses_times_the_matrix_of_their_type_and_place():
    layer = _layer(3, Patches((5, 4), 2, 2), children=2)
    poses = np.random.default_rng(0).normal(size=(2, 5, 4, 2, 16)).astype(np.float32)
    votes = layer.votes(tf.constant(poses))
    assert votes.shape == (2, 4, 3, 8, 16)
    kernel = layer.kernel.numpy()
    for position, (y, x) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        for k in range(8):
            down, right, child = np.unravel_index(k, (2, 2, 2))
            expected = _transformed(poses[1, y + down, x + right, child], kernel[k], 2)
            np.testing.assert_allclose(votes[1, position, 2, k], expected, rtol=1e-4, atol=1e-6)


def test_class_capsules_share_matrices_and_add_coordinates():
    layer = _layer(3, Patches((2, 4)), children=5)
    assert layer.kernel.shape == (5, 4, 3 * 4)
    poses = np.random.default_rng(0).normal(size=(2, 2, 4, 5, 16)).astype(np.float32)
    votes = layer.votes(tf.constant(poses))
    assert votes.shape == (2, 1, 3, 2 * 4 * 5, 16)
    for k in range(40):
        row, column, child = np.unravel_index(k, (2, 4, 5))
        expected = _transformed(poses[1, row, column, child], layer.kernel.numpy()[child], 2)
        expected[3] += [0.25, 0.75][row]
        expected[7] += [0.125, 0.375, 0.625, 0.875][column]
        np.testing.assert_allclose(votes[1, 0, 2, k], expected, rtol=1e-4, atol=1e-6)


def test_the_margin_grows_from_02_to_09():
    network = MatrixCapsNet(MNIST)
    outputs = {'activations': tf.constant([[0.5, 0.5] + [0.0] * 8])}
    labels = tf.constant([0])
    for progress, margin in ((0.0, 0.2), (0.5, 0.55), (1.0, 0.9)):
        step = Step.on_this_replica(0, tf.constant(0), 10, batch_size=1)
        step = dataclasses.replace(step, progress=tf.constant(progress))
        loss = network.classification_loss(labels, outputs, step)
        expected = margin**2 + 8 * max(0, margin - 0.5) ** 2
        np.testing.assert_allclose(loss, [expected], rtol=1e-5)
    np.testing.assert_allclose(network.classification_loss(labels, outputs), loss)


def test_coupling_coefficients_share_out_each_child():
    network = MatrixCapsNet(MNIST)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    coefficients = network.coupling_coefficients(images)
    assert coefficients.shape == (3, 2, 10, 3 * 3 * 16)
    assert network.coupled_floats == 3 * 10 * 144
    np.testing.assert_allclose(coefficients[0], 0.1, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(coefficients, axis=2), 1, rtol=1e-4)


def test_memory_is_that_of_the_votes():
    network = MatrixCapsNet(MNIST)
    votes = 25 * 72 * 16 * 16
    _, each = network.bytes_to_evaluate()
    assert 3 * 4 * votes < each < 8 * 4 * votes
    assert network.bytes_to_train(32) > 32 * each


_DIGITS = (0, 1, 4)
_THREE = dataclasses.replace(MNIST, num_classes=len(_DIGITS))
# Each to both sides.
_CHANGES = {
    'two pixels to the right': lambda images, sign: _shifted(images, 0, 2 * sign),
    'two pixels down': lambda images, sign: _shifted(images, 2 * sign, 0),
    'a turn by 10 degrees': lambda images, sign: _turned(images, 10.0 * sign),
}


def _shifted(images, down, right):
    return shift(images, np.tile([[down, right]], [len(images), 1]))


def _turned(images, degrees):
    count = len(images)
    turned = rotate_and_scale(
        tf.cast(images, tf.float32), tf.fill([count], degrees), tf.ones(count)
    )
    return tf.cast(tf.round(turned), tf.uint8)


def _zeros_ones_and_fours():
    """20 of each to learn from, and 10 of each that the network does not see."""
    with np.load(DATA / 'mnist_300.npz') as data:
        images, labels = data['images'], data['labels']
    places = [np.flatnonzero(labels == digit) for digit in _DIGITS]
    parts = ([each[:20] for each in places], [each[20:] for each in places])
    return tuple(
        LabeledImages(images[np.concatenate(part)], np.repeat(np.arange(3), len(part[0])))
        for part in parts
    )


def _own_capsules(network, images, labels):
    """Of the class of each image: pose, activation, and the mean activation of other classes."""
    outputs = network(images)
    poses, activations = outputs['poses'].numpy(), outputs['activations'].numpy()
    rows = np.arange(len(labels))
    own = activations[rows, labels]
    return poses[rows, labels], own, (activations.sum(axis=1) - own) / (len(_DIGITS) - 1)


def _deviations(poses):
    """[n, 16], the poses of as many images of one class after the other, minus the class's mean."""
    classes = np.reshape(poses, [len(_DIGITS), -1, 16])
    return np.reshape(classes - classes.mean(axis=1, keepdims=True), poses.shape)


def _effects(network, digits, change):
    """What becomes of the capsules of the images' classes when the images change, to both sides.

    Returns:
        The median distance between a pose before and after, in units of the spread between images:
        the root mean square distance of a pose from the mean of its class. The correlation of these
        distances, as vectors, before and after: 1 if images keep what tells them apart. The median
        change of an activation, in units of what it is above the activations of other classes.
    """
    poses, activations, others = _own_capsules(network, *digits)
    before = _deviations(poses)
    moved, kept, activated = [], [], []
    for sign in (1, -1):
        changed = change(tf.constant(digits.images), sign)
        new_poses, new_activations, _ = _own_capsules(network, changed, digits.labels)
        moved.append(np.linalg.norm(new_poses - poses, axis=1))
        after = _deviations(new_poses)
        kept.append(np.sum(before * after) / np.linalg.norm(before) / np.linalg.norm(after))
        activated.append(np.abs(new_activations - activations))
    spread = np.sqrt(np.mean(np.sum(before**2, axis=1)))
    above = np.median(activations - others)
    return np.median(moved) / spread, min(kept), np.median(activated) / above


@pytest.mark.slow
def test_a_small_shift_or_turn_changes_the_pose_and_hardly_the_activation():
    """Of digits that the network has not seen.

    This fails if poses do not depend on the place; if they are noise, or those of other images of
    the class, which makes the correlation about 0; or if activations depend on the place as much
    as they do before training, by about 0.8 for shifts to the right.
    """
    known, unknown = _zeros_ones_and_fours()
    keras.utils.set_random_seed(1)
    untrained = MatrixCapsNet(_THREE)
    settings = TrainingConfig(
        epochs=30,
        batch_size=10,
        learning_rate=5e-3,
        learning_rate_decay=0.95,
        augmentation='shift:1',
        pick='last',
    )
    trained = loop.train(_THREE, settings, known, unknown, None)
    answers = np.argmax(trained(unknown.images)['activations'], axis=1)
    assert np.mean(answers == unknown.labels) > 0.8
    before, after = (
        {name: _effects(network, unknown, change) for name, change in _CHANGES.items()}
        for network in (untrained, trained)
    )
    assert max(activation for _, _, activation in before.values()) > 0.5
    for name, (pose, kept, activation) in after.items():
        assert pose > 0.2, name
        assert kept > 0.5, name
        assert activation < min(0.2, pose / 2), name
