import functools
import io
import re
import struct
import zlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from person_png import as_person_png
from PIL import Image, ImageOps, PngImagePlugin
from project_paths import DATA

from capsmodel.data.images import decode_images, decoded_or_not

MNIST = np.load(DATA / 'mnist_300.npz')['images']


def encode(picture, kind='PNG', **options):
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def _function(*settings):
    return tf.function(
        lambda encoded: decode_images(encoded, *settings),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def decode(pictures, height=28, width=28, framing='whole'):
    function = _function(height, width, framing)
    return function(tf.constant(pictures, tf.string, [len(pictures)])).numpy()


def png_chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def png_header(width, height, depth=8):
    header = struct.pack('>IIBBBBB', width, height, depth, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header)


def grey_png(image, depth, transparent=None):
    """A grey PNG of less than 8 bits, 0 to 2**depth - 1, of which one value may be transparent."""
    bits = (image[..., np.newaxis] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(len(image), -1).astype(np.uint8), axis=1)
    transparency = (
        b'' if transparent is None else png_chunk(b'tRNS', struct.pack('>H', transparent))
    )
    return b''.join(
        [
            png_header(image.shape[1], image.shape[0], depth),
            transparency,
            png_chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))),
            png_chunk(b'IEND', b''),
        ]
    )


def test_mnist_keeps_every_value():
    from_tensorflow = [tf.io.encode_png(image[..., np.newaxis]).numpy() for image in MNIST]
    for framing in ('strokes', 'whole'):
        found = decode(from_tensorflow, framing=framing)
        np.testing.assert_array_equal(found, MNIST)
        found = decode([encode(image) for image in MNIST], framing=framing)
        np.testing.assert_array_equal(found, MNIST)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'P', '16 bit', 'commented'])
def test_every_kind_of_png_keeps_every_value_of_a_grey_picture(mode):
    comment = PngImagePlugin.PngInfo()
    comment.add_text('Comment', 'a digit')

    def write(image):
        if mode == '16 bit':
            return encode(image.astype(np.uint16) * 257)
        if mode == 'commented':
            return encode(image, pnginfo=comment)
        return encode(Image.fromarray(image).convert(mode))

    for framing in ('strokes', 'whole'):
        found = decode([write(image) for image in MNIST[::10]], framing=framing)
        np.testing.assert_array_equal(found, MNIST[::10])


@pytest.mark.parametrize('depth', [1, 2, 4])
@pytest.mark.parametrize('transparent', [None, 0])
def test_grey_of_few_bits(depth, transparent):
    digits = MNIST[:5] >> (8 - depth)
    pictures = [grey_png(digit, depth, transparent) for digit in digits]
    np.testing.assert_array_equal(decode(pictures), digits * (255 // (2**depth - 1)))


@pytest.mark.parametrize('options', [{}, {'transparency': 0}])
def test_palette_of_few_bits(options):
    digits = MNIST[:5] >> 6
    pictures = []
    for digit in digits:
        picture = Image.fromarray(digit, 'P')
        picture.putpalette([0, 0, 0, 80, 80, 80, 150, 150, 150, 255, 255, 255])
        pictures.append(encode(picture, **options))
    np.testing.assert_array_equal(decode(pictures), np.array([0, 80, 150, 255])[digits])


@pytest.mark.parametrize(
    ('colour', 'grey'),
    # 0.2989 red + 0.5870 green + 0.1140 blue
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((10, 200, 30), 124)],
)
def test_colour_becomes_its_luma(colour, grey):
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[8:20, 8:20] = colour
    expected = np.zeros((28, 28))
    expected[8:20, 8:20] = grey
    np.testing.assert_array_equal(decode([encode(picture)])[0], expected)


@pytest.mark.parametrize('transparent', [False, True])
def test_a_persons_digit_is_reduced_as_a_whole(transparent):
    digits = MNIST[::3]
    found = decode([as_person_png(digit, transparent) for digit in digits])
    for digit, image in zip(digits, found, strict=True):
        # The same digit, black on white in a square: only its size is still to be changed.
        square = np.zeros((300, 300, 1))
        square[24:276, 24:276, 0] = Image.fromarray(digit).resize(
            (252, 252), Image.Resampling.BICUBIC
        )
        expected = 255 - tf.image.resize(square, [28, 28], 'area').numpy()[..., 0]
        # Columns 5 to 23 lie wholly within the 200 pixels of width.
        np.testing.assert_allclose(image[:, 5:23], expected[:, 5:23], atol=1)


def test_background_is_the_mean_of_the_border():
    # Border: 2 rows of 4 and 2 x 2 pixels between; 4 of the 12 at 90 make a mean of 30.
    picture = np.zeros((4, 4), np.uint8)
    picture[0] = 90
    picture[1:3, 1:3] = 200
    found = decode([encode(picture)], 4, 8)[0]
    np.testing.assert_array_equal(found[:, 2:6], picture)
    np.testing.assert_array_equal(found[:, [0, 1, 6, 7]], np.full((4, 4), 30))


def test_a_sheet_whose_white_was_made_transparent_is_a_white_sheet():
    random = np.random.default_rng(0)
    opaque, transparent = [], []
    for digit in MNIST[:40]:
        sheet = np.full((180, 180), 255.0)
        sheet[20:160, 20:160] -= Image.fromarray(digit).resize((140, 140), Image.Resampling.LANCZOS)
        # Paper is not quite white, so that half of it stays.
        sheet = (sheet - np.abs(random.normal(0, 1, sheet.shape))).clip(0, 255).round()
        sheet = sheet.astype(np.uint8)
        opaque.append(encode(sheet))
        alpha = np.where(sheet == 255, 0, 255).astype(np.uint8)
        transparent.append(encode(np.dstack([sheet, alpha])))
    both = (decode(files).astype(int) for files in (opaque, transparent))
    assert np.abs(np.subtract(*both)).mean() < 2


def test_white_strokes_on_nothing_stay_white():
    alpha = MNIST[0]
    picture = np.dstack([np.full_like(alpha, 255), alpha])
    np.testing.assert_array_equal(decode([encode(picture)])[0], alpha)


def test_a_grey_that_stands_for_transparency():
    picture = np.full((28, 28), 90, np.uint8)
    picture[10:18, 10:18] = 255
    found = decode([encode(picture, transparency=90), encode(picture)])
    np.testing.assert_array_equal(found[0], np.where(picture == 255, 255, 0))
    np.testing.assert_array_equal(found[1], picture)


@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
def test_jpeg(mode):
    digits = MNIST[:20]
    pictures = []
    for digit in digits:
        large = Image.fromarray(digit).resize((112, 112), Image.Resampling.BOX).convert(mode)
        pictures.append(encode(large, 'JPEG', quality=95))
    assert np.abs(decode(pictures).astype(int) - digits).mean() < 1.5


def test_size_is_reduced_by_area():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 120, (60, 90), np.uint8)
    blocks = picture.reshape(20, 3, 30, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(decode([encode(picture)], 20, 30)[0], blocks, atol=0.51)
    by_tensorflow = tf.image.resize(picture[..., np.newaxis], [14, 21], 'area')[..., 0]
    np.testing.assert_allclose(decode([encode(picture)], 14, 21)[0], by_tensorflow, atol=0.51)


def test_size_is_increased_bilinearly():
    picture = np.zeros((10, 12), np.uint8)
    picture[2:-2, 2:-2] = np.random.default_rng(0).integers(0, 256, (6, 8))
    expected = tf.image.resize(picture[..., np.newaxis], [35, 42], 'bilinear')[..., 0]
    np.testing.assert_allclose(decode([encode(picture)], 35, 42)[0], expected, atol=0.53)


def test_aspect_ratio_is_kept_by_padding():
    picture = np.zeros((40, 20), np.uint8)
    picture[8:32, 4:16] = 240
    expected = np.zeros((20, 20))
    expected[4:16, 7:13] = 240
    np.testing.assert_array_equal(decode([encode(picture)], 20, 20)[0], expected)
    np.testing.assert_array_equal(decode([encode(picture.T)], 20, 20)[0], expected.T)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    size=strategies.tuples(*[strategies.integers(1, 70)] * 2),
    new_size=strategies.sampled_from([(9, 8), (1, 5), (7, 1)]),
    level=strategies.integers(0, 255),
)
@hypothesis.example(size=(4096, 1), new_size=(9, 8), level=3)
@hypothesis.example(size=(1, 4096), new_size=(9, 8), level=250)
def test_an_even_picture_of_any_size_stays_even(size, new_size, level):
    found = decode([encode(np.full(size, level, np.uint8))], *new_size)
    np.testing.assert_array_equal(found, np.full((1, *new_size), level))


def test_no_pictures():
    assert decode([], 5, 7).shape == (0, 5, 7)


def exif(orientation, order='<', before=0, kind=3, count=1):
    """A TIFF file with an orientation, behind `before` entries of other tags."""
    entries = [struct.pack(f'{order}HHII', 0x100 + tag, 4, 1, 6) for tag in range(before)]
    entries.append(struct.pack(f'{order}HHIHH', 0x0112, kind, count, orientation, 0))
    head = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}I', 8)
    return head + struct.pack(f'{order}H', len(entries)) + b''.join(entries) + b'\0' * 4


def segment(kind, content):
    return bytes([0xFF, kind]) + struct.pack('>H', len(content) + 2) + content


def with_exif(file, tiff, place='first'):
    """A JPEG or PNG with Exif data before what else it has, in the middle of it, or at its end."""
    if file[:2] == b'\xff\xd8':
        at = 2 if place == 'first' else 4 + struct.unpack('>H', file[4:6])[0]
        xmp = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>')
        return file[:at] + xmp + segment(0xE1, b'Exif\0\0' + tiff) + file[at:]
    at = 33 if place == 'first' else len(file) - 12
    return file[:at] + png_chunk(b'eXIf', tiff) + file[at:]


def as_seen(file):
    """What a viewer shows of it, as Pillow knows it, in a PNG."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    return encode(picture, exif=b'')


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('place', ['first', 'last'])
def test_orientation_is_followed(order, place):
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    wide = Image.fromarray(colours).resize((44, 31), Image.Resampling.BICUBIC)
    as_large_as_wanted = Image.fromarray(MNIST[0])
    pictures = [
        with_exif(encode(picture, kind), exif(orientation, order, before), place)
        for picture, kind in (
            (wide, 'PNG'),
            (as_large_as_wanted, 'PNG'),
            (wide, 'JPEG'),
            (wide.convert('L'), 'JPEG'),
        )
        for orientation in range(1, 9)
        for before in (0, 3)
    ]
    np.testing.assert_array_equal(decode(pictures), decode([as_seen(each) for each in pictures]))
    assert len({image.tobytes() for image in decode(pictures[:16:2])}) == 8


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_an_orientation_that_cannot_be_read_is_none(kind):
    file = encode(Image.fromarray(MNIST[0]).resize((40, 30)), kind)
    good = exif(6)
    unreadable = [
        *map(exif, (0, 1, 9, 65535)),
        *(exif(6, kind=kind) for kind in (1, 2, 4, 65535)),
        exif(6, count=2),
        exif(6, order='>').replace(b'MM', b'II'),
        b'',
        *(good[:size] for size in (1, 4, 8, 9, 10, 21)),
        good[:4] + struct.pack('<I', 2**32 - 1) + good[8:],
        good[:4] + struct.pack('<I', len(good) - 1) + good[8:],
    ]
    expected = decode([file])
    for image in decode([with_exif(file, tiff) for tiff in unreadable]):
        np.testing.assert_array_equal(image, expected[0])
    # More entries than there are: those that are there count.
    many = good[:8] + struct.pack('<H', 65535) + good[10:]
    turned = [with_exif(file, good), with_exif(file, many)]
    np.testing.assert_array_equal(decode(turned), decode([as_seen(turned[0])] * 2))
    assert (decode(turned) != expected).any()


GOOD = encode(MNIST[0])
COLOUR = encode(Image.fromarray(MNIST[0]).convert('RGB'))
JPEG = encode(MNIST[0], 'JPEG')
LARGE = Image.fromarray(MNIST[0]).resize((112, 96)).convert('RGB')
LARGE_JPEG = encode(LARGE, 'JPEG')
INK_JPEG = encode(LARGE.convert('CMYK'), 'JPEG')
EOI = b'\xff\xd9'
RESTARTING = [
    encode(LARGE, 'JPEG', restart_marker_rows=1),
    encode(LARGE.convert('L'), 'JPEG', restart_marker_blocks=4),
    encode(LARGE.convert('CMYK'), 'JPEG', restart_marker_rows=1),
]
OTHERS = [('GIF', 'a GIF'), ('BMP', 'a BMP'), ('TIFF', 'a TIFF'), ('WEBP', 'a WebP')]
# Starts of files, as cameras write them and Pillow does not.
OTHER_STARTS = [
    (b'\x00\x00\x00\x20ftypheic\x00\x00\x00\x00', 'a HEIC'),
    (b'\x00\x00\x00\x20ftypmif1\x00\x00\x00\x00', 'a HEIC'),
    (b'MM\x00*\x00\x00\x00\x08', 'a TIFF'),
    (b'\x00\x00\x00\x20ftypavif\x00\x00\x00\x00', 'an AVIF'),
]
NEITHER, CUT_OFF, DAMAGED = 'is neither a PNG nor a JPEG', 'is cut off', 'is damaged'


def test_what_well_made_files_may_have():
    jpeg = LARGE_JPEG
    plain = [
        GOOD + b'trailing bytes',
        jpeg,
        jpeg + b'\xff\xd8\xff\xe0 another picture' + EOI,
        # Fill bytes before markers, and a marker in the content of a segment.
        jpeg[:2] + b'\xff\xff' + segment(0xE5, jpeg) + b'\xff' + jpeg[2:-2] + b'\xff' + EOI,
        encode(LARGE, 'JPEG', restart_marker_rows=1),
        encode(LARGE, 'JPEG', restart_marker_blocks=1),
    ]
    images = decode(plain)
    np.testing.assert_array_equal(images[0], MNIST[0])
    np.testing.assert_array_equal(images[1:], [images[1]] * 5)
    # A grey that missing pixels could have as well.
    grey = Image.new('RGB', (40, 40), (128, 128, 128))
    for progressive in (False, True):
        found = decode([encode(grey, 'JPEG', progressive=progressive)])
        np.testing.assert_array_equal(found, np.full((1, 28, 28), 128))
    close = decode([encode(LARGE, 'JPEG', progressive=True)])
    np.testing.assert_allclose(close.astype(int), images[1:2].astype(int), atol=2)


def cut_before_restart(file, place):
    """A JPEG that ends before one of its restart markers."""
    data = file.index(b'\xff\xda')
    places = [data + found.start() for found in re.finditer(rb'\xff[\xd0-\xd7]', file[data:])]
    return file[: places[place]] + EOI


def chunks(file):
    """The chunks of a PNG, without its signature."""
    place, found = 8, []
    while place < len(file):
        end = place + 12 + int.from_bytes(file[place : place + 4], 'big')
        found.append(file[place:end])
        place = end
    return found


def png(*parts):
    return GOOD[:8] + b''.join(parts)


IHDR, IDAT, IEND = chunks(COLOUR)
TEXT = png_chunk(b'tEXt', b'a\0b')


def header(depth=8, colour=2, compression=0, filtering=0, interlacing=0):
    fields = (28, 28, depth, colour, compression, filtering, interlacing)
    return png_chunk(b'IHDR', struct.pack('>IIBBBBB', *fields))


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (b'', r'is empty\. Use a PNG or a JPEG'),
        (b'hello', NEITHER),
        (b'\x89PNG', NEITHER),
        *((encode(LARGE, name), f'is {named}; save it as PNG or JPEG') for name, named in OTHERS),
        *((start + b'mif1', f'is {named}; save it as PNG') for start, named in OTHER_STARTS),
        # Text, and a film.
        (b'BMW', NEITHER),
        (b'\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42', NEITHER),
        (GOOD[:-20], CUT_OFF),
        (as_person_png(MNIST[0])[:-20], CUT_OFF),
        (JPEG[:-2], CUT_OFF),
        (JPEG[:-1], CUT_OFF),
        (JPEG[:20], CUT_OFF),
        (JPEG[:3], CUT_OFF),
        # No pixels behind the header: whoever tried to decode these would complain of that.
        (png_header(5000, 5000), 'has 5000 x 5000 pixels'),
        (png_header(16385, 1), 'has 16385 x 1 pixels: 16,777,216 can be read'),
        (png_header(4096, 4097), 'has 4096 x 4097 pixels'),
        (png_header(0, 10), 'has 0 x 10 pixels'),
        (png_header(10, 2**32 - 1), 'has 10 x 4294967295 pixels'),
        (encode(Image.new('L', (1, 17000)), 'JPEG'), 'has 1 x 17000 pixels'),
        # PNG: chunks.
        (png(), CUT_OFF),
        (png(IHDR, IDAT), CUT_OFF),
        (png(IHDR, IDAT, IEND[:-1]), CUT_OFF),
        (png(IHDR, b'\x00\x00\xff\xff' + IDAT[4:], IEND), CUT_OFF),
        (png(IHDR, b'\xff\xff\xff\xff' + IDAT[4:], IEND), CUT_OFF),
        (png(IHDR, b'\x7f\xff\xff\xff' + IDAT[4:], IEND), CUT_OFF),
        (png(TEXT, IHDR, IDAT, IEND), DAMAGED),
        (png(IDAT, IEND), DAMAGED),
        (png(b'\x00\x00\x00\x0e' + IHDR[4:], IDAT, IEND), DAMAGED),
        (png(header(depth=3), IDAT, IEND), DAMAGED),
        (png(header(colour=3, depth=16), IDAT, IEND), DAMAGED),
        (png(header(compression=1), IDAT, IEND), DAMAGED),
        (png(header(filtering=1), IDAT, IEND), DAMAGED),
        (png(header(interlacing=2), IDAT, IEND), DAMAGED),
        (png(IHDR, IEND), DAMAGED),
        (png(IHDR, IDAT, TEXT, IDAT, IEND), DAMAGED),
        (png(IHDR, IDAT, png_chunk(b'IEND', b'?')), DAMAGED),
        (png(IHDR, *[TEXT] * 20_001, IDAT, IEND), 'has more than 20,000 chunks'),
        # PNG: what only the decoder sees, of pictures that need more than decoding or not.
        (GOOD[:60] + b'\x00' * 20 + GOOD[80:], 'is damaged: its pixels cannot be decoded'),
        (COLOUR[:60] + b'\x00' * 20 + COLOUR[80:], 'is damaged: its pixels cannot be decoded'),
        (png(IHDR, png_chunk(b'IDAT', IDAT[8:40]), IEND), 'is damaged: its pixels cannot'),
        (png(header(colour=3), IDAT, IEND), 'is damaged: its pixels cannot be decoded'),
        # JPEG: markers and lengths.
        (JPEG[:300] + EOI, CUT_OFF),
        (JPEG[:2] + EOI, DAMAGED),
        (JPEG.replace(b'\xff\xc4', b'\xff\x02'), DAMAGED),
        (JPEG.replace(b'\xff\xc4', b'\xfe\xc4'), DAMAGED),
        (JPEG.replace(b'\xff\xda', b'\xff\xd0'), DAMAGED),
        (JPEG[:2] + segment(0xD8, b'') + JPEG[2:], DAMAGED),
        (JPEG[:2] + b'\xff\xfe\x00\x01' + JPEG[2:], DAMAGED),
        (JPEG[:2] + b'\xff\xfe\x00\x00' + JPEG[2:], DAMAGED),
        (JPEG[:2] + b'\xff\xfe\xff\xff' + JPEG[2:], CUT_OFF),
        (JPEG[:2] + segment(0xFE, b'') * 1001 + JPEG[2:], 'has more than 20,000 chunks, 1,000 seg'),
        # JPEG: missing pixels, which the decoder paints grey.
        (
            LARGE_JPEG[: len(LARGE_JPEG) * 3 // 4] + EOI,
            'is damaged: a part of its pixels is missing',
        ),
        (LARGE_JPEG[:-12] + EOI, 'is damaged: a part of its pixels is missing'),
        (LARGE_JPEG[:-12] + b'\xff' + EOI, 'is damaged: a part of its pixels is missing'),
        *(
            (cut_before_restart(file, place), 'is damaged: a part of its pixels is missing')
            for file in RESTARTING
            for place in (0, 2, -1)
        ),
        (INK_JPEG[: len(INK_JPEG) // 2] + EOI, 'is damaged: a part of its pixels is missing'),
        (
            encode(LARGE, 'JPEG', restart_marker_rows=1).replace(b'\xff\xd2', b''),
            DAMAGED,
        ),
        (encode(LARGE, 'JPEG', restart_marker_rows=1).replace(b'\xff\xdd', b'\xff\xfe'), DAMAGED),
        # JPEG: what only the decoder sees.
        (JPEG.replace(b'\xff\xdb', b'\xff\xfe'), 'is damaged: its pixels cannot be decoded'),
    ],
)
def test_what_cannot_be_read_is_named(bad, message):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf'Image 1 of the batch \(counted from 0\) {message}'
    ):
        decode([GOOD, bad])
    size = {'image_height': 28, 'image_width': 28, 'channels': 1}
    (nothing, why) = decoded_or_not([COLOUR, bad], size)[1]
    assert nothing == ''
    assert re.match(message.split(r'\.')[0], why)


def test_the_first_of_several_is_named():
    with pytest.raises(tf.errors.InvalidArgumentError, match='Image 2 of the batch'):
        decode([GOOD, JPEG, GOOD[:60] + b'?' + GOOD[61:], b'', JPEG[:-2]])
