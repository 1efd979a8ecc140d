"""The training images of the study: which are chosen, and that the training process reads them."""

import numpy as np
import pytest

from capsmodel.data.dataset import LabeledImages, load_examples
from study import subsets

RANDOM = np.random.default_rng(1)
LABELS = np.repeat(np.arange(5), [40, 10, 30, 20, 4])
IMAGES = LabeledImages(RANDOM.integers(0, 256, (len(LABELS), 6, 6), np.uint8), LABELS)


def test_as_many_of_each_class_are_chosen():
    places = subsets.chosen(LABELS, 20, seed=1)
    assert np.bincount(LABELS[places]).tolist() == [4, 4, 4, 4, 4]
    assert len(set(places.tolist())) == 20


def test_a_class_that_has_too_few_images_gives_all_of_them():
    places = subsets.chosen(LABELS, 50, seed=1)
    assert np.bincount(LABELS[places])[4] == 4
    assert np.bincount(LABELS[places])[1] == 10
    assert len(set(places.tolist())) == 50


def test_a_larger_choice_has_the_smaller_one():
    few, many = (set(subsets.chosen(LABELS, count, seed=3).tolist()) for count in (15, 60))
    assert few < many


def test_the_seed_decides():
    assert subsets.chosen(LABELS, 20, 1).tolist() == subsets.chosen(LABELS, 20, 1).tolist()
    assert subsets.chosen(LABELS, 20, 1).tolist() != subsets.chosen(LABELS, 20, 2).tolist()
    assert sorted(subsets.chosen(LABELS, 0, 2).tolist()) == list(range(len(LABELS)))


@pytest.mark.parametrize('pad', [0, 3])
def test_what_is_written_is_read_by_the_training(pad, tmp_path):
    path = tmp_path / 'images' / 'few.gz'
    subsets.write(IMAGES, path, count=10, views=23, seed=1, pad=pad)
    assert [each.name for each in path.parent.iterdir()] == ['few.gz']
    read = load_examples([str(path)], (6 + 2 * pad, 6 + 2 * pad))
    places = subsets.chosen(LABELS, 10, seed=1)[np.arange(23) % 10]
    assert read.labels.tolist() == LABELS[places].tolist()
    pixels = read.images[np.arange(23)]
    inside = pixels[:, pad : 6 + pad, pad : 6 + pad]
    np.testing.assert_array_equal(inside, IMAGES.images[places])
    assert pixels.astype(int).sum() == inside.astype(int).sum()
