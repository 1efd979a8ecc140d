"""A model of coloured pictures, from PNG and JPEG files to what the exported model answers."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from run_transform import run_transform

from capsmodel import guard, signatures
from capsmodel.data import features
from capsmodel.data.dataset import LabeledImages
from capsmodel.data.images import decode_images
from capsmodel.data.preprocessing import raw_pixels
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.training import loop
from capsmodel.training.settings import TrainingConfig

pytestmark = pytest.mark.slow

NAMES = ['red', 'green', 'blue']
# Of nearly the same luma, so that a grey image does not tell them apart.
COLOURS = np.array([[200, 40, 40], [30, 125, 30], [60, 70, 255]])
NETWORK = CapsNetConfig(
    21,
    25,
    3,
    image_channels=3,
    crop=19,
    conv1_filters=8,
    primary_channels=2,
    digit_dim=4,
    standardize=True,
    none_of_the_above=True,
    decoder_units=(16,),
)
TRAINING = TrainingConfig(
    epochs=2,
    batch_size=16,
    learning_rate=0.01,
    augmentation='flip,contrast:0.2,crop:19,brightness:20',
)


def _picture(label, random):
    """A coloured disc on grey, in one of two kinds of file and of any size."""
    height, width = random.integers(20, 60, 2)
    rows, columns = np.mgrid[:height, :width]
    centre = random.uniform(0.3, 0.7, 2) * (height, width)
    inside = np.hypot(rows - centre[0], columns - centre[1]) < random.uniform(7, 12)
    pixels = np.where(inside[..., np.newaxis], COLOURS[label], random.integers(60, 200))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, ('PNG', 'JPEG')[random.integers(2)])
    return file.getvalue()


def _pictures(count, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return [_picture(label, random) for label in labels], labels


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The signatures of a trained model."""
    folder = tmp_path_factory.mktemp('model')
    files, labels = _pictures(64, seed=0)
    raw = [
        {features.IMAGE: file, features.LABEL: label, features.ID: b'%03d' % row}
        for row, (file, label) in enumerate(zip(files, labels, strict=True))
    ]
    transformed, output = run_transform(raw, str(folder), 21, 25, 'whole', channels=3)
    transformed.sort(key=lambda example: example[features.ID])
    stored = tf.constant([example[features.IMAGE] for example in transformed])
    whole = raw_pixels(stored, NETWORK.uncropped_shape).numpy()
    middle = raw_pixels(stored, NETWORK.uncropped_shape, NETWORK.crop).numpy()
    evaluation_data = LabeledImages(middle[48:], labels[48:])
    network = loop.train(
        NETWORK, TRAINING, LabeledImages(whole[:48], labels[:48]), evaluation_data, None
    )
    thresholds = guard.thresholds(network, evaluation_data.images, 0.0)
    path = str(folder / 'exported')
    signatures.export(network, output, path, middle[:2], thresholds, NAMES, 'whole')
    loaded = tf.saved_model.load(path)
    yield loaded.signatures  # noqa: PT022 (a return would let the model go)


def test_classes_that_differ_in_colour_only_are_told_apart(model):
    files, labels = _pictures(60, seed=1)
    answer = model['serving_default'](image_bytes=tf.constant(files))
    assert np.mean(answer['label'] == labels) > 0.95
    assert np.mean(answer['known']) > 0.5


def test_the_network_is_given_the_middle_in_colour_and_draws_in_colour(model):
    files, _ = _pictures(5, seed=2)
    explained = model['explain'](image_bytes=tf.constant(files))
    whole = decode_images(tf.constant(files), 21, 25, 'whole', 3)
    np.testing.assert_array_equal(explained['image'], whole[:, 1:20, 3:22])
    assert explained['reconstruction'].shape == (5, 19, 19, 3)
    difference = explained['image'] / 255 - explained['reconstruction']
    np.testing.assert_allclose(
        explained['reconstruction_error'], tf.reduce_sum(difference**2, [1, 2, 3]), rtol=1e-4
    )
    again = model['pixels'](pixels=explained['image'])
    np.testing.assert_allclose(again['scores'], explained['scores'], rtol=1e-4)
    best = tf.gather(explained['capsules'], explained['label'], axis=1, batch_dims=1)
    drawn = model['decode'](capsule=best, label=explained['label'])['reconstruction']
    np.testing.assert_allclose(drawn, explained['reconstruction'], atol=1e-5)


def test_a_sheet_of_one_colour_is_none_of_the_classes(model):
    file = io.BytesIO()
    Image.new('RGB', (40, 40), (200, 40, 40)).save(file, 'PNG')
    assert not model['serving_default'](image_bytes=tf.constant([file.getvalue()]))['known'][0]
