"""What requests, and the pictures in them, are estimated to cost."""

import struct

import attacks
import numpy as np
import pytest
import tensorflow as tf

from serving.errors import ServingError
from serving.requests import picture_cost
from serving.requests.picture_cost import TOO_MUCH, hides_data, pixels
from serving.requests.request_cost import estimate

_SEVEN = 'docs/seven.png'


def _texts(*values):
    return {'image_bytes': np.array(values, object)}


def _example(*values):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    features = tf.train.Features(feature={'image': feature})
    return tf.train.Example(features=features).SerializeToString()


def _noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize('side', [1, 28, 300])
def test_pixels_of_genuine_pictures(side):
    image = _noise(side)
    png = tf.io.encode_png(image).numpy()
    assert pixels(png) == side * side
    assert not hides_data(png)
    for form in ('', 'grayscale'):
        shown = image[..., :1] if form else image
        jpeg = tf.io.encode_jpeg(shown, form).numpy()
        assert side * side < pixels(jpeg) < 1.1 * side * side
    progressive = tf.io.encode_jpeg(image, progressive=True).numpy()
    assert 1.1 * side * side < pixels(progressive) < 2 * side * side
    # In a tf.Example as well, where numbers that look like the head of a JPEG are none.
    assert pixels(_example(png, progressive)) == pixels(png) + pixels(progressive)
    assert pixels(b'\xff\xd8\xff' + _example(b'')) == 0
    assert pixels(bytes(100) + progressive) == 0
    assert pixels(b'some text') == pixels(b'') == 0


def test_pictures_that_promise_much():
    assert pixels(attacks.png(4096, 1)) == 4096 * 4096
    assert pixels(attacks.jpeg(10)) == 4096 * 4096 * (1 + 10 / 32)
    assert pixels(attacks.jpeg(1000)) > 30 * 4096 * 4096
    for kind in (b'zTXt', b'iTXt', b'iCCP'):
        assert pixels(attacks.png(1, extra=attacks.text_chunk(kind, 1000))) == 1
        large = attacks.png(1, extra=attacks.text_chunk(kind, 7_900_000) * 2)
        assert 10_000_000 < pixels(large) <= 16_000_001
    many = struct.pack('>I', 0) + b'tEXt' + bytes(4)
    assert pixels(attacks.png(1, extra=many * 30_000)) == TOO_MUCH
    assert pixels(b'\xff\xd8' + b'\xff\xe0\x00\x02' * 2000) == TOO_MUCH
    # Before and between the segments of a JPEG there may be anything.
    padded = attacks.jpeg(10).replace(b'\xff\xc2', b'\x00\x01' + b'\xff' * 1000 + b'\xc2')
    assert pixels(padded) == pixels(attacks.jpeg(10))


def test_png_with_more_data_than_pixels():
    assert hides_data(attacks.png(1, data=bytes(10_000_000)))
    assert hides_data(_example(attacks.png(100, data=bytes(60_000_000))))
    assert not hides_data(attacks.png(4096, 16, 6))
    assert not hides_data(tf.io.encode_png(_noise(300)).numpy())


@pytest.mark.parametrize('cut', [0, 1, 7, 8, 20, 30, 40, 60])
def test_damaged_pictures_cost_what_their_heads_say_at_most(cut):
    for file in (attacks.png(28), attacks.jpeg(2, 64)):
        short = file[: len(file) - cut] if cut < 30 else file[:cut]
        assert pixels(short) <= pixels(file) or cut == 0
        hides_data(short)


def test_rows_bytes_and_pixels_make_a_request_costly():
    with open(_SEVEN, 'rb') as file:
        assert estimate(_texts(file.read())) < 1
    assert estimate(_texts(*[attacks.png(28)] * 15)) < 1
    assert estimate(_texts(*[attacks.png(28)] * 17)) > 1
    assert estimate(_texts(attacks.png(800, 1))) > 1
    assert estimate(_texts(_example(attacks.png(800, 1)))) > 1
    assert estimate(_texts(b'a' * 300_000)) > 1
    assert estimate({'pixels': np.zeros((8, 28, 28), np.uint8)}) < 1
    assert estimate({'pixels': np.zeros((1, 300, 300, 3), np.float32)}) > 1
    assert estimate({'x': np.array(1.0, np.float32)}) < 1


def test_pictures_share_a_budget():
    large = attacks.png(4096, 1)
    assert estimate(_texts(*[large] * 4)) > 100
    for files in ([large] * 5, [attacks.jpeg(5000)], [attacks.png(1, data=bytes(10_000_000))]):
        with pytest.raises(ServingError, match='more work to decode than 67,108,864') as caught:
            estimate(_texts(*files))
        assert caught.value.code == 'INVALID_ARGUMENT'
    assert picture_cost.TOO_MUCH > 1 << 26
