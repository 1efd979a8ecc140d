"""Reads the structure of PNG and JPEG files without decoding their pixels.

It consists of TensorFlow operations, so that it runs wherever an exported model runs. Its work is
linear in the file's size, and it trusts no number in a file.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from capsmodel.data import image_parts, jpeg_segments, png_chunks

# A header of a few bytes can claim any size. These bound the memory and the time for decoding. Of a
# JPEG that is decoded as it is read, pixels can be halved each way before they take memory: a large
# one has four times as many, as photos of phones do.
MAX_SIDE = 16_384
MAX_PIXELS = 1 << 24
MAX_HALVED_PIXELS = 4 * MAX_PIXELS
_LIMITS = (
    f'{MAX_PIXELS:,} can be read, {MAX_HALVED_PIXELS:,} of a JPEG that is not progressive, and '
    f'1 to {MAX_SIDE:,} each way'
)

# A PNG of one pixel: the decoder gets it instead of a file with a problem.
_DOT = bytes.fromhex(
    '89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55'
    '0000000a49444154789c636000000002000148afa4710000000049454e44ae426082'
)
_PROBLEMS = {
    image_parts.GOOD: '',
    image_parts.CUT_OFF: 'is cut off, or a length in it is wrong',
    image_parts.DAMAGED: 'is damaged',
    image_parts.TOO_LONG: (
        f'has more than {png_chunks.MAX_CHUNKS:,} chunks, {jpeg_segments.MAX_SEGMENTS:,} segments '
        f'or {jpeg_segments.MAX_SCANS} scans'
    ),
    image_parts.TOO_MUCH: 'has more data than its pixels can need',
    image_parts.RARE: 'is a JPEG of a rare kind (arithmetic coding, lossless or 12 bits)',
}

# Formats that are not read, and what a file of each has at which places. A HEIC or an AVIF is an
# ISO media file (ISO/IEC 23008-12), which names its brand behind `ftyp`.
_OTHER_FORMATS = (
    ('a GIF', {0: b'GIF8'}),
    ('a BMP', {0: b'BM', 6: b'\x00\x00\x00\x00'}),
    ('a TIFF', {0: b'II*\x00'}),
    ('a TIFF', {0: b'MM\x00*'}),
    ('a WebP', {0: b'RIFF', 8: b'WEBP'}),
    ('an AVIF', {4: b'ftypavi'}),
    ('a HEIC', {4: b'ftyphe'}),
    ('a HEIC', {4: b'ftypmif1'}),
    ('a HEIC', {4: b'ftypmsf1'}),
)


class ImageFile(NamedTuple):
    """The structure of a file.

    Attributes:
        problem: string scalar that completes 'Image 3 ...'; empty if the structure is good.
        decodable: string scalar for a decoder: a JPEG as it is, a PNG without the chunks that its
            pixels do not need, or another picture if there is a problem.
        is_png: bool scalar. A file without a problem is a PNG or a JPEG.
        is_keyed: bool scalar, whether one grey or colour of a PNG means transparency.
        is_halved: bool scalar, whether a JPEG is so large that it is decoded with half as many rows
            and columns.
        orientation: int32 scalar, 1 to 8 as in Exif; 1 if the file has none.
        data_ends: int32 [any], for `jpeg_segments.with_more_data`.
    """

    problem: tf.Tensor
    decodable: tf.Tensor
    is_png: tf.Tensor
    is_keyed: tf.Tensor
    is_halved: tf.Tensor
    orientation: tf.Tensor
    data_ends: tf.Tensor


def examine(file: tf.Tensor) -> ImageFile:
    """Checks the chunks of a PNG or the segments of a JPEG.

    It ignores bytes after the end of the picture, where cameras and editors leave other data.

    Args:
        file: string scalar, any bytes.
    """
    is_png, is_jpeg = _begins_with(file, png_chunks.START), _begins_with(file, jpeg_segments.START)
    found = tf.cond(is_png, lambda: png_chunks.examine(file), lambda: jpeg_segments.examine(file))
    # A wrong size is reported first: most of the file may be missing because of it.
    # A side may be as long as a PNG can say: the product of two is no number then.
    is_bad_size = tf.reduce_any((found.size < 1) | (found.size > MAX_SIDE))
    pixels = tf.reduce_prod(tf.minimum(found.size, MAX_SIDE))
    is_bad_size |= pixels > MAX_HALVED_PIXELS
    is_bad_size |= ~found.is_sequential & (pixels > MAX_PIXELS)
    is_bad_size &= (found.verdict == image_parts.GOOD) | tf.reduce_any(found.size != 0)
    size_text = tf.strings.reduce_join(tf.strings.as_string(found.size), separator=' x ')
    problem = tf.gather([_PROBLEMS[verdict] for verdict in sorted(_PROBLEMS)], found.verdict)
    size_problem = tf.strings.join(['has ', size_text, f' pixels: {_LIMITS}'])
    problem = tf.where(is_bad_size, size_problem, problem)
    problem = tf.cond(is_png | is_jpeg, lambda: problem, lambda: _format_problem(file))
    problem = tf.where(file == b'', 'is empty', problem)
    is_good = problem == ''
    # In a file with a problem, the place of the Exif block may not exist.
    place, length = tf.unstack(tf.where(is_good, found.exif, 0))
    return ImageFile(
        problem=problem,
        decodable=tf.where(is_good, found.decodable, _DOT),
        is_png=is_png,
        is_keyed=found.is_keyed & is_good,
        is_halved=is_good & (pixels > MAX_PIXELS),
        orientation=tf.cond(
            length > 0,
            lambda: _orientation(tf.strings.substr(file, place, length)),
            lambda: tf.constant(1),
        ),
        data_ends=found.data_ends,
    )


def count_pixels(files: tf.Tensor) -> tf.Tensor:
    """string [n] to int64 [n]: how many pixels are decoded of each picture, by its header.

    It reads headers only. For a file that `examine` finds a problem with, the result may be any
    number up to MAX_PIXELS, and so it may for a JPEG that contains a larger one.
    """
    padded = tf.strings.join([files, b'\x00' * 24])
    sides = tf.io.decode_raw(tf.strings.substr(padded, 16, 8), tf.int32, little_endian=False)
    of_pngs = tf.where(
        _begins_with(files, png_chunks.START), _area(tf.reshape(sides, [-1, 2]), MAX_PIXELS), 0
    )
    # The largest frame header of a JPEG counts, even if it belongs to a preview: telling them apart
    # would need a walk over the segments of each file.
    jpegs = tf.where(_begins_with(files, jpeg_segments.START), files, '')
    content = image_parts.content_of(tf.strings.reduce_join(jpegs))
    places = tf.where((content[:-1] == 0xFF) & (content[1:] >= 0xC0) & (content[1:] <= 0xC2))
    heads = tf.cast(tf.gather(content, places + tf.range(9, dtype=tf.int64)), tf.int32)
    is_frame = (heads[:, 2] == 0) & (heads[:, 4] == 8)
    sides = image_parts.big_endian(tf.reshape(heads[:, 5:], [-1, 2, 2]))
    owners = tf.searchsorted(
        tf.cumsum(tf.strings.length(jpegs)), tf.cast(places[:, 0], tf.int32), side='right'
    )
    areas = tf.where(is_frame, _area(sides, MAX_HALVED_PIXELS), 0)
    of_jpegs = tf.math.unsorted_segment_max(areas, owners, tf.size(files))
    return tf.maximum(of_pngs, of_jpegs)


def _begins_with(files: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(files, 0, len(start)) == start


def _format_problem(file: tf.Tensor) -> tf.Tensor:
    """string scalar, neither a PNG nor a JPEG, to its problem; names a well-known format."""
    longest = max(at + len(mark) for _, marks in _OTHER_FORMATS for at, mark in marks.items())
    start = tf.strings.join([tf.strings.substr(file, 0, longest), b'\xff' * longest])
    problem = tf.constant('is neither a PNG nor a JPEG')
    for name, marks in _OTHER_FORMATS:
        is_it = tf.reduce_all(
            [tf.strings.substr(start, at, len(mark)) == mark for at, mark in marks.items()]
        )
        problem = tf.where(is_it, f'is {name}; save it as PNG or JPEG', problem)
    return problem


def _area(sides: tf.Tensor, most: int) -> tf.Tensor:
    """int32 [n, 2] to int64 [n]: a quarter where they are halved; 0 for more than `most` pixels."""
    is_possible = tf.reduce_all((sides > 0) & (sides <= MAX_SIDE), 1)
    area = tf.where(is_possible, tf.reduce_prod(sides, 1), 0)
    area = tf.where(area > most, 0, area)
    return tf.cast(tf.where(area > MAX_PIXELS, (area + 3) // 4, area), tf.int64)


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in a block of Exif, an int32 scalar; 1 if no tag can be read.

    The block is a TIFF file, with or without `Exif` before it. Only its first directory is read:
    2 bytes with the number of entries, then 12 bytes for each entry: tag, type, count, value.
    """
    skipped = tf.where(
        tf.strings.substr(exif, 0, len(jpeg_segments.EXIF_START)) == jpeg_segments.EXIF_START, 6, 0
    )
    tiff = tf.strings.substr(exif, skipped, tf.strings.length(exif) - skipped)
    size = tf.strings.length(tiff)
    order = tf.strings.substr(tiff, 0, 4)
    is_little = order == b'II*\x00'
    content = tf.cast(tf.io.decode_raw(tf.strings.join([tiff, b'\x00' * 8]), tf.uint8), tf.int64)

    def number(digits: tf.Tensor) -> tf.Tensor:
        """uint8 [..., n], of values up to 4 bytes, to int64 [...]."""
        digits = tf.where(is_little, digits, digits[..., ::-1])
        return tf.reduce_sum(digits * [256**place for place in range(digits.shape[-1])], -1)

    offset = tf.minimum(number(tf.ensure_shape(content[4:8], [4])), tf.cast(size, tf.int64))
    offset = tf.cast(offset, tf.int32)
    count = tf.cast(number(tf.ensure_shape(content[offset : offset + 2], [2])), tf.int32)
    count = tf.maximum(tf.minimum(count, (size - offset - 2) // 12), 0)
    entries = tf.reshape(content[offset + 2 : offset + 2 + 12 * count], [-1, 12])
    # The entry of the orientation has one value of type SHORT.
    is_it = (
        (number(entries[:, :2]) == 0x0112)
        & (number(entries[:, 2:4]) == 3)
        & (number(entries[:, 4:8]) == 1)
    )
    values = number(image_parts.where(is_it, entries[:, 8:10]))
    value = tf.cast(tf.concat([values, [1]], 0)[0], tf.int32)
    is_readable = (is_little | (order == b'MM\x00*')) & (value >= 1) & (value <= 8)
    return tf.where(is_readable, value, 1)
