import keras
import numpy as np
import pytest
import tensorflow as tf
from project_paths import DATA

from capsmodel import guard
from capsmodel.networks import memory
from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.losses import reconstruction_loss
from capsmodel.networks.settings import CapsNetConfig

IMAGES = np.load(DATA / 'mnist_300.npz')['images']
BLANK = np.stack([np.full((28, 28), level, np.uint8) for level in (0, 7, 128, 255)])


@pytest.fixture(scope='module', params=[True, False], ids=['decoder', 'no decoder'])
def model(request):
    keras.utils.set_random_seed(1)
    return CapsNet(
        CapsNetConfig(
            28,
            28,
            4,
            conv1_filters=4,
            primary_channels=2,
            primary_dim=4,
            digit_dim=6,
            decoder=request.param,
            decoder_units=(8,),
        )
    )


def refused(model, images, thresholds):
    measured = guard.measured_by(model, images, model(images))
    return np.mean(~guard.is_known(images, measured, thresholds).numpy())


def test_measures_stand_in_their_order():
    line, square = np.zeros((2, 28, 28), np.uint8)
    line[4:24, 13:15] = 200
    square[8:20, 8:20] = 200
    images = np.stack([line, square])
    scores = np.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.45]], np.float32)
    reconstructions = (images / 255 * np.array([1, 0.5]).reshape(2, 1, 1)).astype(np.float32)
    measured = guard.measures(images, scores, reconstructions).numpy()
    assert measured.shape == (2, 4)
    # Two pixels from the edges of the square, 8 x 8 of its 12 x 12 pixels are left.
    shares = [1, 1 - 64 / 144]
    np.testing.assert_allclose(
        measured, np.array([[0.9, 0.5], [0.6, 0.05], shares, [1, 0.75]]).T, atol=1e-5
    )
    np.testing.assert_array_equal(guard.measures(images, scores), measured[:, :3])


def test_the_measure_of_the_reconstruction_is_its_share_of_the_squares():
    random = np.random.default_rng(0)
    reconstructions = random.random(IMAGES.shape, np.float32)
    scores = random.random((len(IMAGES), 3), np.float32)
    measured = guard.measures(IMAGES, scores, reconstructions)[:, 3]
    whole = ((IMAGES / 255) ** 2).sum((1, 2))
    error = reconstruction_loss(IMAGES, reconstructions).numpy()
    np.testing.assert_allclose(measured, (whole - error) / whole, rtol=1e-3)


def test_a_blank_image_has_finite_measures():
    scores = np.full((len(BLANK), 3), 0.5, np.float32)
    for reconstructions in (None, np.zeros(BLANK.shape, np.float32)):
        assert np.isfinite(guard.measures(BLANK, scores, reconstructions)).all()


@pytest.mark.parametrize('false_alarms', [0.01, 0.05, 0.2])
def test_thresholds_refuse_what_was_asked_for_and_not_much_less(model, false_alarms):
    thresholds = guard.thresholds(model, IMAGES, false_alarms)
    assert thresholds.dtype == np.float32
    assert thresholds.shape == ((4,) if model.decoder else (3,))
    share = refused(model, IMAGES, thresholds)
    # One more image by each measure, at most, would have been too many.
    assert false_alarms - len(thresholds) / len(IMAGES) <= share <= false_alarms


def test_without_false_alarms_none_is_refused(model):
    assert refused(model, IMAGES, guard.thresholds(model, IMAGES, 0)) == 0


def test_every_measure_is_held_to_the_same_quantile(model):
    thresholds = guard.thresholds(model, IMAGES, 0.2)
    measured = guard.measured_by(model, IMAGES, model(IMAGES)).numpy()
    below = (measured < thresholds).sum(0)
    assert np.ptp(below) <= 1
    # Each by itself refuses less than all of them together.
    assert 0 < below.max() < np.any(measured < thresholds, axis=1).sum() <= 60


def test_a_blank_image_is_never_known(model):
    thresholds = np.full(4 if model.decoder else 3, -1e9, np.float32)
    assert refused(model, BLANK, thresholds) == 1
    assert refused(model, IMAGES, thresholds) == 0


def test_one_measure_below_its_threshold_is_enough():
    images = IMAGES[:5]
    thresholds = np.array([0.5, 0.1, 0.3, 0.2], np.float32)
    measured = np.tile(thresholds, (5, 1))
    measured[np.arange(1, 5), np.arange(4)] -= 0.01
    known = guard.is_known(images, tf.constant(measured), thresholds)
    np.testing.assert_array_equal(known, [True, False, False, False, False])


def test_thresholds_come_from_images_of_the_whole_set_and_from_pieces(model, monkeypatch):
    expected = guard.thresholds(model, IMAGES[::3], 0.1)
    monkeypatch.setattr(guard, '_MOST_IMAGES', 100)
    monkeypatch.setattr(memory, 'images_at_once', lambda model: 7)
    np.testing.assert_allclose(guard.thresholds(model, IMAGES, 0.1), expected, atol=1e-5)
