"""The picture has the right pairs, their reconstructions, and each digit in its colour."""

import numpy as np
import pytest
import transformed_examples
from lively_capsnet import lively_capsnet
from network_configs import small
from PIL import Image

from capsmodel.networks import table
from study.overlap import picture
from study.overlap.pairs import Pairs, TrainingPairs
from study.overlap.training import scores

_ORANGE, _BLUE = (255, 145, 0), (0, 110, 255)


@pytest.fixture(scope='module')
def network():
    return lively_capsnet()


@pytest.fixture(scope='module')
def pairs(network):
    """Pairs whose labels are what the network answers in 10, half of it in 20, and not in 10."""
    digits, _ = transformed_examples.digits()
    drawn = TrainingPairs(digits, 4, seed=1, batch_size=40).batch(0)
    images, singles, labels = (values.numpy() for values in drawn)
    answers = np.argsort(-scores(network, images), axis=1)
    labels[:10] = answers[:10, 1::-1]
    labels[10:30] = answers[10:30, [4, 0]]
    labels[30:] = answers[30:, 5:7]
    return Pairs(images, singles, labels)


def test_groups_have_pairs_that_are_right_and_wrong(network, pairs):
    right, wrong, absent = picture.groups(network, pairs, each=15)
    np.testing.assert_array_equal(right.pairs.images, pairs.images[:10])
    np.testing.assert_array_equal(right.classes, pairs.labels[:10])
    np.testing.assert_array_equal(wrong.pairs.images, pairs.images[10:25])
    # The answer that is right has the place of its label, so that it gets its colour.
    np.testing.assert_array_equal(wrong.classes[:, 1], pairs.labels[10:25, 1])
    assert (wrong.classes[:, 0] != pairs.labels[10:25, 0]).all()
    np.testing.assert_array_equal(absent.pairs.images, pairs.images[:15])
    np.testing.assert_array_equal(absent.classes[:, 0], pairs.labels[:15, 0])
    assert (absent.classes[:, 1:] != pairs.labels[:15]).all()


def test_each_digit_is_reconstructed_from_its_own_capsule(network, pairs):
    for group in picture.groups(network, pairs, each=3):
        capsules = network(group.pairs.images)
        for place in range(2):
            expected = network.reconstruct(capsules, group.classes[:, place])
            np.testing.assert_allclose(group.drawn[:, place], expected, atol=1e-5)
        assert np.abs(group.drawn[:, 0] - group.drawn[:, 1]).max() > 0.1


def test_digits_are_orange_and_blue_and_white_where_both_are():
    image = np.zeros((1, 36, 36), np.uint8)
    singles = np.zeros((1, 2, 36, 36), np.uint8)
    singles[0, 0, :, :20] = singles[0, 1, :, 10:] = 255
    pair = Pairs(image, singles, np.array([[1, 2]]))
    nothing = np.zeros((1, 2, 36, 36), np.float32)
    group = picture.Group('both right', pair, pair.labels, nothing)
    drawn = np.asarray(picture.figure([group]))
    tiles = [np.all(drawn == color, axis=2) for color in (_ORANGE, _BLUE, (255, 255, 255))]
    assert [tile.sum() for tile in tiles[:2]] == [4 * 36 * 10, 4 * 36 * 16]
    top, left = np.argwhere(tiles[0])[0]
    assert tiles[2][top : top + 72, left + 20 : left + 40].all()
    # Each of the other four images is black.
    assert np.all(drawn == 0, axis=2).sum() == 4 * 72 * 72


def test_the_picture_is_a_file_with_a_column_for_each_pair(network, pairs, tmp_path):
    for each in (2, 4):
        picture.write_picture(network, pairs, tmp_path / 'pairs.png', each)
        assert [path.name for path in tmp_path.iterdir()] == ['pairs.png']
        with Image.open(tmp_path / 'pairs.png') as image:
            assert image.format == 'PNG'
            assert image.width > 3 * each * 72
            assert image.height > 5 * 72


def test_a_network_without_a_decoder_is_refused(pairs):
    network = table.create(small('cnn', 36))
    with pytest.raises(ValueError, match='this network has no decoder'):
        picture.groups(network, pairs, each=2)
