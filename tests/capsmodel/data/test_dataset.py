"""What training sees: a function of seed, step and the examples' ids."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import transformed_examples

from capsmodel.data import dataset

_HEIGHT, _WIDTH = 5, 6


def _labeled(count):
    images = np.random.default_rng(0).integers(0, 256, (count, _HEIGHT, _WIDTH), dtype=np.uint8)
    return dataset.LabeledImages(images, np.arange(count))


def _batches(labeled, *, first=0, last=12, replicas=1, pipelines=1, pipeline=0, seed=3):
    context = tf.distribute.InputContext(pipelines, pipeline, replicas)
    batches = dataset.training_dataset(
        labeled,
        context,
        first_step=first,
        last_step=last,
        seed=seed,
        batch_size=8,
        augmentation='shift:2',
    )
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def test_reading_does_not_depend_on_the_order_in_files(tmp_path):
    labeled = _labeled(30)
    order = np.random.default_rng(1).permutation(30)
    transformed_examples.write(tmp_path / 'a.gz', labeled, order[:20])
    transformed_examples.write(tmp_path / 'b.gz', labeled, order[20:])
    result = dataset.load_examples([str(tmp_path / '*.gz')], (_HEIGHT, _WIDTH))
    np.testing.assert_array_equal(result.images[:], labeled.images)
    np.testing.assert_array_equal(result.labels, labeled.labels)


def test_batches_from_the_file_are_those_from_memory(tmp_path, monkeypatch):
    monkeypatch.setattr('capsmodel.data.stored_images.PIECE', 7 * _HEIGHT * _WIDTH)
    labeled = _labeled(30)
    transformed_examples.write(tmp_path / 'a.gz', labeled, np.arange(30)[::-1])
    stored = dataset.load_examples([str(tmp_path / 'a.gz')], (_HEIGHT, _WIDTH))
    for batches in (_batches, functools.partial(_evaluated, batch_size=8)):
        for read, expected in zip(batches(stored), batches(labeled), strict=True):
            np.testing.assert_array_equal(read[0], expected[0])
            np.testing.assert_array_equal(read[1], expected[1])


def test_nobody_waits_for_a_dataset_that_is_let_go():
    """As where a training is stopped: the thread of tf.data's tuning sleeps for up to a minute."""
    context = tf.distribute.InputContext()
    how = {'first_step': 0, 'last_step': 9, 'seed': 1, 'batch_size': 8, 'augmentation': 'none'}
    for batches in (
        dataset.training_dataset(_labeled(30), context, **how),
        dataset.evaluation_dataset(_labeled(30), context, batch_size=8),
    ):
        assert batches.options().autotune.enabled is False


def test_reading_nothing_says_where(tmp_path):
    with pytest.raises(ValueError, match=f'No transformed examples in {tmp_path}'):
        dataset.load_examples([str(tmp_path / '*.gz')], (_HEIGHT, _WIDTH))


def test_each_epoch_holds_every_image_once_in_an_order_of_its_own():
    batches = _batches(_labeled(32), last=8)
    first, second = (
        np.concatenate([labels for _, labels in batches[start : start + 4]]) for start in (0, 4)
    )
    assert sorted(first) == sorted(second) == list(range(32))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, range(32))


def test_shifts_stay_within_bounds_and_reach_them():
    spot = np.zeros((32, 9, 9), np.uint8)
    spot[:, 4, 4] = 1
    batches = _batches(dataset.LabeledImages(spot, np.arange(32)), last=40)
    places = np.argwhere(np.concatenate([images for images, _ in batches]))[:, 1:] - 4
    assert len(places) == 40 * 8
    assert {tuple(place) for place in places} == {
        (down, right) for down in range(-2, 3) for right in range(-2, 3)
    }


def test_any_step_can_be_made_again():
    labeled = _labeled(40)
    for expected, actual in zip(_batches(labeled)[7:], _batches(labeled, first=7), strict=True):
        np.testing.assert_array_equal(expected[0], actual[0])
        np.testing.assert_array_equal(expected[1], actual[1])


def test_another_seed_gives_another_order():
    labeled = _labeled(40)
    assert not np.array_equal(_batches(labeled, seed=3)[0][1], _batches(labeled, seed=4)[0][1])


def test_replicas_together_see_what_one_alone_sees():
    labeled = _labeled(40)
    pipelines = [_batches(labeled, replicas=4, pipelines=2, pipeline=which) for which in (0, 1)]
    for step, (images, labels) in enumerate(_batches(labeled)):
        pieces = [piece for pieces in pipelines for piece in pieces[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate([piece[0] for piece in pieces]), images)
        np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), labels)


def _evaluated(labeled, *, batch_size, replicas=1, pipelines=1, pipeline=0):
    context = tf.distribute.InputContext(pipelines, pipeline, replicas)
    batches = dataset.evaluation_dataset(labeled, context, batch_size=batch_size)
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def test_evaluation_goes_through_all_images_in_their_order_and_fills_up_the_last_batch():
    labeled = _labeled(11)
    batches = _evaluated(labeled, batch_size=4)
    expected = [*range(11), 10]
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), expected)
    np.testing.assert_array_equal(
        np.concatenate([batch[0] for batch in batches]), labeled.images[expected]
    )
    pieces = [
        _evaluated(labeled, batch_size=4, replicas=2, pipelines=2, pipeline=p) for p in (0, 1)
    ]
    for whole, first, second in zip(batches, *pieces, strict=True):
        np.testing.assert_array_equal(np.concatenate([first[0], second[0]]), whole[0])
        np.testing.assert_array_equal(np.concatenate([first[1], second[1]]), whole[1])
