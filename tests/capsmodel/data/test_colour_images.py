"""Pictures that become colour images: what a decoder for grey does, for each channel."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from capsmodel.data.images import decode_images

_RANDOM = np.random.default_rng(0)
PIXELS = _RANDOM.integers(0, 256, (20, 24, 3), dtype=np.uint8)
# With smooth edges, which JPEG keeps.
SMOOTH = np.asarray(Image.fromarray(PIXELS[:5, :6]).resize((60, 50), Image.Resampling.BICUBIC))


def _file(picture, kind='PNG', **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def _decoder(height, width, channels):
    return tf.function(
        lambda encoded: decode_images(encoded, height, width, 'whole', channels),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def _decoded(files, height=20, width=24, channels=3):
    return _decoder(height, width, channels)(tf.constant(files, tf.string, [len(files)])).numpy()


def test_every_kind_of_png_keeps_every_value():
    plain = Image.fromarray(PIXELS)
    files = [
        _file(plain),
        _file(plain.convert('RGBA')),
        _file(plain, pnginfo=None, dpi=(72, 72)),  # one more chunk
    ]
    np.testing.assert_array_equal(_decoded(files), [PIXELS] * 3)
    few = plain.quantize(8)
    np.testing.assert_array_equal(_decoded([_file(few)])[0], few.convert('RGB'))
    assert _decoded([]).shape == (0, 20, 24, 3)


def test_a_grey_picture_has_three_equal_channels():
    grey = PIXELS[..., 0]
    found = _decoded([_file(Image.fromarray(grey)), _file(Image.fromarray(grey).convert('LA'))])
    np.testing.assert_array_equal(found, [np.repeat(grey[..., np.newaxis], 3, 2)] * 2)


def test_each_channel_is_scaled_and_padded_as_a_grey_picture_would_be():
    sizes = [(50, 60), (33, 90), (90, 33), (7, 9)]
    for height, width in sizes:
        pixels = _RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = _decoded([_file(Image.fromarray(pixels))])[0].astype(int)
        grey = [_file(Image.fromarray(pixels[..., channel])) for channel in range(3)]
        expected = np.moveaxis(_decoded(grey, channels=1), 0, -1)
        # Grey is the sum of weights that add up to 0.9999.
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_jpeg_is_turned_by_its_orientation(orientation):
    picture = Image.fromarray(SMOOTH)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = _file(picture, 'JPEG', quality=100, subsampling=0, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    found = _decoded([file], *upright.shape[:2])[0]
    assert np.abs(found.astype(int) - upright).mean() < 1.5


@pytest.mark.parametrize(('colour', 'ground'), [((255, 220, 90), 0), ((90, 0, 40), 255)])
def test_what_is_transparent_gets_a_ground_that_colours_can_be_seen_on(colour, ground):
    pixels = np.zeros((20, 24, 4), np.uint8)
    pixels[5:15, 6:18] = (*colour, 255)
    pixels[5, 6, 3] = 51  # a fifth
    found = _decoded([_file(Image.fromarray(pixels))])[0]
    assert found[0, 0].tolist() == [ground] * 3
    assert found[10, 10].tolist() == list(colour)
    expected = [0.2 * value + 0.8 * ground for value in colour]
    np.testing.assert_allclose(found[5, 6], expected, atol=1)


def test_strokes_are_grey():
    with pytest.raises(ValueError, match='FRAMING=strokes reads grey ink, so CHANNELS must be 1'):
        decode_images(tf.constant([_file(Image.fromarray(PIXELS))]), 20, 24, 'strokes', 3)
