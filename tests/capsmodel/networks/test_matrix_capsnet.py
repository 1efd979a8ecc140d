"""Matrix capsules: sizes, votes, coordinates, and what a pose says that an activation does not."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.em_routing import em_routing
from capsmodel.networks.matrix_capsnet import MatrixCaps, MatrixCapsNet, PrimaryMatrixCaps
from capsmodel.networks.settings import MatrixCapsNetConfig
from capsmodel.networks.step import Step

MNIST = MatrixCapsNetConfig(28, 28, 10)
SMALL = dataclasses.replace(MNIST, convolution_filters=16, primary_types=4, caps_types=6)


def _images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def test_it_has_the_papers_sizes():
    network = MatrixCapsNet(MNIST)
    assert network.count_params() == sum(
        (
            5 * 5 * 64 + 64,
            64 * 8 * 17 + 8 * 17,
            3 * 3 * 8 * 16 * 16 + 2 * 16,
            3 * 3 * 16 * 16 * 16 + 2 * 16,
            16 * 10 * 16 + 2 * 10,
        )
    )
    grids = [layer.windows for layer in (network.conv_caps_1, network.conv_caps_2)]
    assert [(each.rows, each.columns) for each in grids] == [(5, 5), (3, 3)]
    # On the paper's images, of 32x32 pixels, they are those of its Figure 1.
    grids = [layer.windows for layer in MatrixCapsNet(MatrixCapsNetConfig(32, 32, 5))._routed()]
    assert [each.grid for each in grids] == [(14, 14), (6, 6), (4, 4)]


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match='16x40 pixels are too small: matrix_capsnet needs'):
        MatrixCapsNetConfig(16, 40, 4)
    network = MatrixCapsNet(dataclasses.replace(SMALL, image_height=17, image_width=18))
    assert network(np.zeros([2, 17, 18], np.uint8)).shape == (2, 10, 17)


def test_primary_capsules_have_poses_and_activations():
    layer = PrimaryMatrixCaps(3)
    layer.build((None, 2, 2, 5))
    x = np.random.default_rng(0).normal(size=(2, 2, 2, 5)).astype(np.float32)
    capsules = layer(x)
    outputs = (x @ layer.kernel.numpy()).reshape(2, 2, 2, 3, 17)
    np.testing.assert_allclose(capsules[..., :16], outputs[..., :16], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(capsules[..., 16], 1 / (1 + np.exp(-outputs[..., 16])), rtol=1e-5)


@pytest.mark.parametrize('places', [(), ((0.2, 0.5, 0.8), (0.1, 0.4, 0.6, 0.9))])
def test_votes_are_matrix_products_and_coordinates(places):
    layer = MatrixCaps(2, 2, 0 if places else 3, 1, places)
    layer.build((None, 3, 4, 5, 17))
    rng = np.random.default_rng(0)
    layer.beta_a.assign([0.3, -0.2])
    capsules = rng.uniform(size=(1, 3, 4, 5, 17)).astype(np.float32)
    positions, size = layer.windows.cells.shape
    votes = np.zeros((1, positions, 2, size * 5, 16), np.float32)
    for p, cells in enumerate(layer.windows.cells):
        for place, cell in enumerate(cells):
            y, x = divmod(cell, 4)
            for kind in range(5):
                pose = capsules[0, y, x, kind, :16].reshape(4, 4)
                matrices = layer.kernel.numpy()[kind if places else place * 5 + kind]
                for j in range(2):
                    vote = pose @ matrices[:, 4 * j : 4 * j + 4]
                    if places:
                        vote[0, 3] += places[0][y]
                        vote[1, 3] += places[1][x]
                    votes[0, p, j, place * 5 + kind] = vote.ravel()
    seen = capsules.reshape(1, 12, 5, 17)[:, layer.windows.cells, :, 16].reshape(1, positions, -1)
    betas = layer.beta_u.numpy(), np.float32(100 * layer.beta_a.numpy())
    scale = 100 * positions * 2 / 60
    votes, seen, beta_u, beta_a = map(tf.constant, (votes, seen, *betas))
    poses, ons = em_routing(votes, seen, beta_u, beta_a, layer.windows, 2, scale)
    routed = tf.reshape(layer(capsules), [1, positions, 2, 17])
    np.testing.assert_allclose(routed[..., :16], poses, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(routed[..., 16], ons, rtol=1e-3)


def test_the_places_are_the_centers_of_what_the_capsules_see():
    rows, columns = MatrixCapsNet(SMALL).class_caps.places
    # The field has 5 + 2 * 2 + 4 * 2 = 17 pixels, and steps by 4.
    np.testing.assert_allclose(rows, [8.5 / 28, 12.5 / 28, 16.5 / 28])
    assert rows == columns


def test_all_weights_learn_and_the_margin_grows_with_the_training():
    keras.utils.set_random_seed(1)
    network = MatrixCapsNet(SMALL)
    labels = tf.range(9, dtype=tf.int64)
    losses = []
    for number in (0, 10):
        step = Step.on_this_replica(0, tf.constant(number), 10, batch_size=9)
        with tf.GradientTape() as tape:
            outputs = network(_images(9), step=step)
            loss = tf.reduce_mean(network.classification_loss(labels, outputs, step))
        losses.append(float(loss))
        for gradient in tape.gradient(loss, network.trainable_variables):
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient != 0)
    assert 3 * losses[0] < losses[1]


def test_the_layers_survive_their_configs():
    network = MatrixCapsNet(SMALL)
    for layer in network._routed():
        copy = MatrixCaps.from_config(json.loads(json.dumps(layer.get_config())))
        assert copy.get_config() == layer.get_config()
        assert copy.places == layer.places
    assert PrimaryMatrixCaps.from_config(network.primary_caps.get_config()).types == 4
