import numpy as np
import pytest
import tensorflow as tf
from person_png import as_person_png
from project_paths import DATA
from run_transform import run_transform

from capsmodel.data import features
from capsmodel.data.images import decode_images
from capsmodel.data.preprocessing import preprocessing_fn, raw_pixels

MNIST = np.load(DATA / 'mnist_300.npz')


def png(image):
    return tf.io.encode_png(image[..., np.newaxis]).numpy()


def test_transform_gives_pixels_label_and_id(tmp_path):
    images, labels = MNIST['images'][::30], MNIST['labels'][::30]
    raw = [
        {features.IMAGE: png(image), features.LABEL: label, features.ID: b'mnist-%d' % row}
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    transformed, _ = run_transform(raw, str(tmp_path), 28, 28)
    transformed.sort(key=lambda example: example[features.ID])
    for row, example in enumerate(transformed):
        assert example[features.IMAGE] == images[row].tobytes()
        assert example[features.LABEL] == labels[row]
        assert example[features.ID] == b'mnist-%d' % row
    assert len(transformed) == len(images)


def test_transform_keeps_colours(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    raw = [
        {
            features.IMAGE: tf.io.encode_png(image).numpy(),
            features.LABEL: row,
            features.ID: b'%d' % row,
        }
        for row, image in enumerate(images)
    ]
    transformed, _ = run_transform(raw, str(tmp_path), 4, 6, 'whole', channels=3)
    found = {example[features.LABEL]: example[features.IMAGE] for example in transformed}
    assert found == {row: image.tobytes() for row, image in enumerate(images)}


@pytest.mark.parametrize('shape', [[2], [2, 1]])
@pytest.mark.parametrize('framing', ['strokes', 'whole'])
def test_settings_reach_the_decoder(shape, framing):
    pictures = [as_person_png(MNIST['images'][0]), as_person_png(MNIST['images'][1])]
    inputs = {
        features.IMAGE: tf.constant(pictures, shape=shape),
        features.LABEL: tf.constant([7, 2], tf.int64, shape),
        features.ID: tf.constant(['a', 'b'], shape=shape),
    }
    settings = {'image_height': 9, 'image_width': 13, 'framing': framing, 'channels': 1}
    outputs = preprocessing_fn(inputs, settings)
    assert {name: value.shape for name, value in outputs.items()} == dict.fromkeys(
        (features.IMAGE, features.LABEL, features.ID), (2,)
    )
    np.testing.assert_array_equal(
        raw_pixels(outputs[features.IMAGE], (9, 13)),
        decode_images(tf.constant(pictures), 9, 13, framing),
    )


@pytest.mark.parametrize('feature', [features.IMAGE, features.LABEL, features.ID])
def test_two_values_in_one_example_are_no_two_examples(feature):
    settings = {'image_height': 9, 'image_width': 13, 'framing': 'strokes', 'channels': 1}
    inputs = {
        features.IMAGE: tf.constant([png(MNIST['images'][0])]),
        features.LABEL: tf.constant([7], tf.int64),
        features.ID: tf.constant(['a']),
    }
    inputs[feature] = tf.stack([inputs[feature]] * 2, axis=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match='reshape'):
        preprocessing_fn(inputs, settings)


def test_raw_pixels_reads_row_by_row():
    values = np.arange(256, dtype=np.uint8)
    found = raw_pixels(tf.constant([values.tobytes(), values[::-1].tobytes()]), (8, 32))
    np.testing.assert_array_equal(found, [values.reshape(8, 32), values[::-1].reshape(8, 32)])


def test_raw_pixels_of_colour_images_and_their_middle():
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 6, 3), dtype=np.uint8)
    stored = tf.constant([image.tobytes() for image in images])
    np.testing.assert_array_equal(raw_pixels(stored, (7, 6, 3)), images)
    np.testing.assert_array_equal(raw_pixels(stored, (7, 6, 3), crop=4), images[:, 1:5, 1:5])


def test_raw_pixels_of_nothing():
    assert raw_pixels(tf.constant([], tf.string), (4, 3)).shape == (0, 4, 3)


def test_raw_pixels_of_another_size():
    with pytest.raises(tf.errors.InvalidArgumentError):
        raw_pixels(tf.constant([b'123456', b'123456']), (4, 3))
