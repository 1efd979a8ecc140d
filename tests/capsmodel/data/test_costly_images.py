"""Pictures that would cost far more than a plain one of as many pixels."""

import io
import struct
import timeit
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from capsmodel.data import images

MOST = images.MAX_PIXELS
ZEROS = zlib.compress(bytes(50_000_000), 9)
SIZE = {'image_height': 9, 'image_width': 8, 'channels': 1}


def chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def png(side, before=b'', data=None, behind=b''):
    """A grey picture, 200 all over; what is before its data, its data, and what is behind them."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0))
    data = zlib.compress((b'\0' + b'\xc8' * side) * side) if data is None else data
    end = behind + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + header + before + chunk(b'IDAT', data) + end


def jpeg(width, height, **options):
    file = io.BytesIO()
    Image.new('L', (width, height), 128).save(file, 'JPEG', **options)
    return file.getvalue()


def segment(kind, content):
    return bytes([0xFF, kind]) + struct.pack('>H', len(content) + 2) + content


def progressive(scans, side=1024):
    """A JPEG whose first scan has all its data; each other one is of a few bytes."""
    table = segment(0xDB, b'\0' + b'\1' * 64) + segment(0xC4, b'\x10\1' + bytes(15) + b'\xe0')
    frame = segment(0xC2, struct.pack('>BHHB', 8, side, side, 1) + b'\1\x11\0')
    nothing = b'\x7f\xff\0'
    first = segment(0xDA, b'\1\1\0\1\x3f\1') + nothing
    again = segment(0xDA, b'\1\1\0\1\x3f\x10') + nothing
    return b'\xff\xd8' + table + frame + first + again * (scans - 1) + b'\xff\xd9'


def problem(file):
    return images.decoded_or_not([file], SIZE)[1][0]


def seconds(file):
    """How long it takes to look at a file, when all is traced and nothing else runs."""
    return min(timeit.repeat(lambda: problem(file), number=1, repeat=5))


@pytest.mark.parametrize(
    ('before', 'behind'),
    [
        (chunk(b'zTXt', b'k\0\0' + ZEROS) * 20, b''),
        (chunk(b'iTXt', b'k\0\1\0\0\0' + ZEROS) * 20, b''),
        (chunk(b'iCCP', b'k\0\0' + ZEROS), b''),
        (b'', chunk(b'zTXt', b'k\0\0' + ZEROS) * 20),
        (chunk(b'tEXt', b'k\0v') * 19_000, b''),
        (chunk(b'IDAT', b'') * 19_000, b''),
    ],
)
def test_what_the_pixels_do_not_need_costs_nothing(before, behind):
    assert problem(png(30)) == ''
    file = png(30, before=before, behind=behind)
    assert problem(file) == ''
    assert seconds(file) < 0.15


def test_more_data_than_pixels_can_need_is_not_inflated():
    bomb = png(30, data=zlib.compress(bytes(500_000_000), 9))
    assert problem(bomb) == 'has more data than its pixels can need'
    assert seconds(bomb) < 0.1
    # Not compressed at all, and in small blocks.
    rows = (b'\0' + bytes(30)) * 30
    stored = zlib.compressobj(0)
    data = b''.join(
        stored.compress(rows[at : at + 31]) + stored.flush(zlib.Z_FULL_FLUSH)
        for at in range(0, len(rows), 31)
    )
    assert problem(png(30, data=data + stored.flush())) == ''


def test_scans_are_counted_before_they_are_walked_over():
    assert problem(progressive(24)) == ''
    assert 'or 24 scans' in problem(progressive(25))
    assert 'or 24 scans' in problem(progressive(400))
    assert seconds(progressive(400)) < 0.1


def test_restart_markers_take_no_copies_of_the_file():
    # Middle grey, which missing data could be: it is decoded again, with more data at each marker.
    file = jpeg(2048, 2048, restart_marker_blocks=1)
    assert file.count(b'\xff\xd0') > 8000
    assert problem(file) == ''
    assert seconds(file) < 1


@pytest.mark.parametrize('kind', [0xC3, 0xC9, 0xCA])
def test_rare_kinds_of_jpeg_are_named(kind):
    file = jpeg(30, 30).replace(b'\xff\xc0', bytes([0xFF, kind]))
    assert problem(file).startswith('is a JPEG of a rare kind')
    twelve_bits = jpeg(30, 30).replace(b'\xff\xc0\0\x0b\x08', b'\xff\xc0\0\x0b\x0c')
    assert problem(twelve_bits).startswith('is a JPEG of a rare kind')


@pytest.mark.parametrize(
    'pictures',
    [
        [],
        [b'', b'no picture'],
        [png(4096)],
        [jpeg(4096, 4096)],
        [png(512)] * 64,
        [jpeg(512, 512)] * 64,
        [png(28)] * 1000,
        # Refused for their pixels, which is said of each by itself.
        [png(5000)] * 3,
        [jpeg(8192, 8192)],
        [jpeg(5712, 4284)] * 2,
        [jpeg(9000, 8000)] * 3,
    ],
)
def test_usual_requests_are_within_the_budget(pictures):
    pictures = tf.constant(pictures, tf.string, [len(pictures)])
    np.testing.assert_array_equal(images.limit_pixels(pictures), pictures)


@pytest.mark.parametrize(
    ('pictures', 'index', 'total'),
    [
        ([png(28), png(4096)], 1, MOST + 28 * 28),
        ([jpeg(4096, 4096), b'no picture', jpeg(1, 1)], 2, MOST + 1),
        ([jpeg(4000, 4096, progressive=True)] * 3, 1, 3 * 4000 * 4096),
        # A large one counts as it is decoded: halved each way.
        ([jpeg(8192, 8192), jpeg(1, 1)], 1, MOST + 1),
        ([jpeg(5712, 4284)] * 3, 2, 3 * 2856 * 2142),
        ([png(512)] * 70, 64, 70 * 512 * 512),
    ],
)
def test_more_pixels_than_the_budget_are_refused(pictures, index, total):
    message = f'have {total} pixels .* {MOST} are allowed .*: image {index} \\(counted from 0\\)'
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        images.limit_pixels(tf.constant(pictures))


def test_a_photo_of_a_phone_is_read_as_if_it_had_half_its_sides():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))

    def photo(width, height, **options):
        file = io.BytesIO()
        picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
        picture.save(file, 'JPEG', quality=90, **options)
        return file.getvalue()

    large, half = photo(5712, 4284), photo(2856, 2142)
    # The last rows of pixels are missing.
    cut = large[: len(large) * 9 // 10] + b'\xff\xd9'
    size = {'image_height': 24, 'image_width': 32, 'channels': 3}
    read, problems = images.decoded_or_not([large, half, cut], size)
    assert problems == ['', '', 'is damaged: a part of its pixels is missing']
    np.testing.assert_allclose(read[0].astype(int), read[1].astype(int), atol=3)
    assert np.ptp(read[0]) > 100
    assert problem(photo(5712, 4284, progressive=True)).startswith('has 5712 x 4284 pixels: 16,7')


def test_a_dataset_has_no_budget():
    assert images.decoded_or_not([png(4096)] * 2, SIZE)[1] == ['', '']


def test_a_large_picture_is_reduced_as_pillow_does_it():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 120, (9, 8, 4), np.uint8), 'RGBA')
    picture = np.asarray(coarse.resize((400, 450), Image.Resampling.BICUBIC)).copy()
    for mode in ('RGB', 'L', 'RGBA', 'LA', 'P'):
        file = io.BytesIO()
        source = Image.fromarray(picture[..., :3]).convert('RGB')
        if mode == 'RGBA':
            source.putalpha(Image.fromarray(picture[..., 3]))
        source = source if mode in ('RGB', 'RGBA') else source.convert(mode)
        source.save(file, 'PNG')
        found = images.decode_images(tf.constant([file.getvalue()]), 9, 8, 'whole').numpy()[0]
        values = np.asarray(source.convert('RGBA'), np.float64)
        alpha = values[..., 3] / 255
        luma = values[..., :3] @ [0.2989, 0.587, 0.114]
        ground = 0 if (luma * alpha).sum() / alpha.sum() > 127 else 255
        grey = ground + alpha * (luma - ground)
        expected = grey.reshape(9, 50, 8, 50).mean((1, 3))
        # It is reduced twice, and no pixel of the second size is made of whole ones of the first.
        np.testing.assert_allclose(found, expected, atol=1.01)
