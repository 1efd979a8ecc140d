"""Reads the structure of PNG and JPEG files without decoding their pixels.

All of it is TensorFlow operations on one file, so that it runs wherever an exported model does. The
work is linear in the file's size, and no number in a file is trusted.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import tensorflow as tf

# Bounds the memory that decoding takes, whatever the few bytes of a header promise.
MAX_SIDE = 4096
# libpng writes 16 bits of RGBA of 4096 x 4096 pixels in 16,384 chunks. A JPEG has a few dozen
# segments, or a few hundred where a camera stores a depth map in them.
MAX_CHUNKS = 20_000
MAX_SEGMENTS = 1000
# libjpeg walks over the whole picture in each scan. Its own progressive files have ten.
MAX_SCANS = 100

PNG_START = b'\x89PNG\r\n\x1a\n'
_JPEG_START = b'\xff\xd8\xff'
_EXIF_START = b'Exif\x00\x00'
# A PNG's signature and its IHDR chunk; a chunk without its content.
_PNG_HEAD_SIZE = 33
_CHUNK_SIZE = 12
_LEGAL_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Where data are missing, libjpeg paints grey. These bytes, as data, do not make grey.
_FILLER = bytes.fromhex('d6592ce3b49a27c5719e4b36d8a56c1b') * 4

_GOOD, _CUT_OFF, _DAMAGED, _TOO_LONG = range(4)
_PROBLEMS = (
    '',
    'is cut off, or a length in it is wrong',
    'is damaged',
    f'has more than {MAX_CHUNKS:,} chunks, {MAX_SEGMENTS:,} segments or {MAX_SCANS} scans',
)


class ImageFile(NamedTuple):
    """What the structure of a file tells.

    Attributes:
        problem: string scalar that completes 'Image 3 ...'; empty if the structure is good.
        is_png: bool scalar. A file without a problem that is no PNG is a JPEG.
        orientation: int32 scalar, 1 to 8 as in Exif; 1 if the file does not tell.
    """

    problem: tf.Tensor
    is_png: tf.Tensor
    orientation: tf.Tensor


class _Walk(NamedTuple):
    """What a walk over the chunks or segments of a file has found so far."""

    position: tf.Tensor  # int32 scalar: where the next one begins
    parts: tf.Tensor  # int32 scalar: how many there were
    verdict: tf.Tensor  # int32 scalar: _GOOD, or why the walk ended early
    ended: tf.Tensor  # bool scalar: whether the one that ends the file was found
    size: tf.Tensor  # int64 [2]: width and height; zeros before they are known
    exif: tf.Tensor  # int32 [2]: position and length of the first Exif block; zeros before it


# Traced once, and not wherever pictures are decoded.
_traced_once = functools.partial(
    tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)


@_traced_once
def examine(file: tf.Tensor) -> ImageFile:
    """Walks over the chunks of a PNG or the segments of a JPEG.

    What follows the end of the picture is not looked at: cameras and editors leave much there.

    Args:
        file: string scalar, any bytes.
    """
    is_png = tf.strings.substr(file, 0, len(PNG_START)) == PNG_START
    is_jpeg = tf.strings.substr(file, 0, len(_JPEG_START)) == _JPEG_START
    walk = tf.cond(is_png, lambda: _walk_png(file), lambda: _walk_jpeg(file)[0])
    verdict = tf.where(walk.ended | (walk.verdict != _GOOD), walk.verdict, _CUT_OFF)
    # A size out of bounds is told first: most of the file may not have been sent because of it.
    is_bad_size = tf.reduce_any((walk.size < 1) | (walk.size > MAX_SIDE))
    is_bad_size &= (verdict == _GOOD) | tf.reduce_any(walk.size != 0)
    size_text = tf.strings.reduce_join(tf.strings.as_string(walk.size), separator=' x ')
    problem = tf.gather(_PROBLEMS, verdict)
    problem = tf.where(is_bad_size, tf.strings.join(['has ', size_text, ' pixels']), problem)
    problem = tf.where(is_png | is_jpeg, problem, 'is neither a PNG nor a JPEG')
    problem = tf.where(file == b'', 'is empty', problem)
    # Where there is a problem, there may be no such place.
    place, length = tf.unstack(tf.where(problem == '', walk.exif, 0))
    exif = tf.strings.substr(file, place, length)
    return ImageFile(problem, is_png, _orientation(exif))


def with_more_data(jpeg: tf.Tensor) -> tf.Tensor:
    """Puts some bytes behind the data of each scan and before each restart marker.

    A decoder skips them, unless data are missing there: then they become pixels.

    Args:
        jpeg: string scalar, a JPEG in which `examine` found no problem.
    """
    _, data_ends = _walk_jpeg(jpeg)
    starts = tf.concat([[0], data_ends], 0)
    ends = tf.concat([data_ends, [tf.strings.length(jpeg)]], 0)
    pieces = tf.strings.substr(jpeg, starts, ends - starts)
    return tf.strings.reduce_join(pieces, separator=_FILLER)


def _start(position: int) -> _Walk:
    return _Walk(
        position=tf.constant(position),
        parts=tf.constant(0),
        verdict=tf.constant(_GOOD),
        ended=tf.constant(False),
        size=tf.zeros([2], tf.int64),
        exif=tf.zeros([2], tf.int32),
    )


def _verdict(is_cut_off: tf.Tensor, is_damaged: tf.Tensor, is_too_long: tf.Tensor) -> tf.Tensor:
    verdict = tf.where(is_too_long, _TOO_LONG, _GOOD)
    verdict = tf.where(is_damaged, _DAMAGED, verdict)
    return tf.where(is_cut_off, _CUT_OFF, verdict)


def _walk_png(file: tf.Tensor) -> _Walk:
    """The chunks from IHDR to IEND; see the PNG specification, section 5."""
    file_size = tf.strings.length(file)

    def go_on(walk: _Walk, among_pixels: tf.Tensor) -> tf.Tensor:
        del among_pixels
        is_whole = walk.position + _CHUNK_SIZE <= file_size
        return (walk.verdict == _GOOD) & ~walk.ended & is_whole

    def step(walk: _Walk, among_pixels: tf.Tensor) -> tuple[_Walk, tf.Tensor]:
        """`among_pixels`: int32 scalar, 0 before the IDAT chunks, 1 among, 2 behind them."""
        length, kind = _big_endian(file, walk.position, 2)
        room = file_size - _CHUNK_SIZE - walk.position
        is_idat, is_iend = kind == _kind(b'IDAT'), kind == _kind(b'IEND')
        now_among_pixels = tf.where(is_idat, 1, 2 * tf.minimum(among_pixels, 1))
        verdict = _verdict(
            is_cut_off=(length < 0) | (length > room),
            is_damaged=(is_idat & (among_pixels == 2))
            | (is_iend & ((length != 0) | (now_among_pixels == 0))),
            is_too_long=walk.parts >= MAX_CHUNKS,
        )
        is_exif = (kind == _kind(b'eXIf')) & (walk.exif[1] == 0)
        walk = walk._replace(
            # With a wrong length this is nowhere, and nothing is read there.
            position=walk.position + _CHUNK_SIZE + tf.minimum(length, room),
            parts=walk.parts + 1,
            verdict=verdict,
            ended=is_iend,
            exif=tf.where(is_exif, tf.stack([walk.position + 8, length]), walk.exif),
        )
        return walk, now_among_pixels

    walk, _ = tf.while_loop(go_on, step, (_png_head(file), tf.constant(0)), parallel_iterations=1)
    return walk


def _png_head(file: tf.Tensor) -> _Walk:
    """The walk behind the signature, when IHDR was looked at but not passed."""
    head = tf.strings.join([tf.strings.substr(file, 0, _PNG_HEAD_SIZE), b'\x00' * _PNG_HEAD_SIZE])
    length, kind, width, height = _big_endian(head, len(PNG_START), 4)
    bits, colour_type, compression, filtering, interlacing = tf.unstack(
        tf.cast(tf.io.decode_raw(tf.strings.substr(head, 24, 5), tf.uint8), tf.int32), 5
    )
    legal = [256 * colour + bits for colour, of_it in _LEGAL_BITS.items() for bits in of_it]
    is_header = (length == 13) & (kind == _kind(b'IHDR'))
    is_legal = tf.reduce_any(256 * colour_type + bits == tf.constant(legal))
    is_legal &= (compression == 0) & (filtering == 0) & (interlacing <= 1)
    is_cut_off = tf.strings.length(file) < _PNG_HEAD_SIZE
    # The two have no sign in a PNG.
    size = tf.cast(tf.bitcast(tf.stack([width, height]), tf.uint32), tf.int64)
    return _start(len(PNG_START))._replace(
        verdict=_verdict(is_cut_off, ~(is_header & is_legal), tf.constant(False)),
        size=tf.where(is_header & ~is_cut_off, size, tf.zeros([2], tf.int64)),
    )


def _big_endian(file: tf.Tensor, position: tf.Tensor | int, count: int) -> list[tf.Tensor]:
    """`count` int32 scalars from a place in the file."""
    part = tf.strings.substr(file, position, 4 * count)
    return tf.unstack(tf.io.decode_raw(part, tf.int32, little_endian=False), count)


def _kind(name: bytes) -> int:
    """A chunk's four letters as the number that they are."""
    return int.from_bytes(name, 'big')


@_traced_once
def _walk_jpeg(file: tf.Tensor) -> tuple[_Walk, tf.Tensor]:
    """The segments from SOI to EOI; see ITU-T T.81, annex B.

    Returns:
        What was found, and int32 [any], increasing: where the data of scans end or are interrupted
        by a restart marker.
    """
    file_size = tf.strings.length(file)
    # Something can be read behind the end, but is no part of the file.
    content = tf.io.decode_raw(tf.strings.join([file, b'\x00' * 16]), tf.uint8)
    # 0xff bytes may fill the place before a marker, which begins at the last of them.
    places = tf.where((content[:-1] == 0xFF) & (content[1:] != 0xFF))[:, 0]
    kinds = tf.gather(content, places + 1)
    places = tf.concat([tf.cast(places, tf.int32), [file_size]], 0)
    is_restart = (kinds >= 0xD0) & (kinds <= 0xD7)
    restarts = tf.boolean_mask(places[:-1], is_restart)
    restart_numbers = tf.cast(tf.boolean_mask(kinds, is_restart), tf.int32) - 0xD0
    # A scan's data go on behind a restart marker, and 0xff00 is a 0xff in them.
    ends_scan = tf.concat([~is_restart & (kinds != 0), [True]], 0)
    behind_scans = tf.boolean_mask(places, ends_scan)

    def count_before(position: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
        return tf.searchsorted(of, position[tf.newaxis])[0]

    def next_from(position: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
        return of[count_before(tf.minimum(position, file_size), of)]

    def go_on(walk: _Walk, has_restarts: tf.Tensor, scans: tf.Tensor) -> tf.Tensor:
        del has_restarts, scans
        return (walk.verdict == _GOOD) & ~walk.ended & (walk.position < file_size)

    def step(
        walk: _Walk, has_restarts: tf.Tensor, scans: tf.Tensor
    ) -> tuple[_Walk, tf.Tensor, tf.Tensor]:
        """`has_restarts`: bool scalar, whether a DRI segment has announced restart markers.

        `scans`: int32 [scans, 2], where the data of each begin and end.
        """
        place = next_from(walk.position, places)
        head = tf.cast(content[place : place + 10], tf.int32)
        kind, length = head[1], 256 * head[2] + head[3]
        is_eoi, is_sos = kind == 0xD9, kind == 0xDA
        is_sof = (kind >= 0xC0) & (kind <= 0xCF) & (kind != 0xC4) & (kind != 0xC8) & (kind != 0xCC)
        end = place + 2 + tf.where(is_eoi, 0, length)
        size = tf.cast(tf.stack([256 * head[7] + head[8], 256 * head[5] + head[6]]), tf.int64)
        has_size = tf.reduce_any(walk.size != 0)
        scan_count = tf.shape(scans)[0]
        is_legal = (kind >= 0xC0) & (kind != 0xC8) & ((kind < 0xD0) | (kind > 0xD8))
        is_legal &= is_eoi | (length >= 2)
        is_legal &= ~is_sof | ((length >= 8) & ~has_size)
        is_legal &= ~is_sos | has_size
        is_legal &= ~is_eoi | (scan_count > 0)
        is_exif = (kind == 0xE1) & tf.reduce_all(head[4:] == list(_EXIF_START))
        is_exif &= (walk.exif[1] == 0) & (scan_count == 0)
        has_restarts = tf.where(kind == 0xDD, head[4] + head[5] > 0, has_restarts)

        scan_end = next_from(end, behind_scans)
        numbers = restart_numbers[count_before(end, restarts) : count_before(scan_end, restarts)]
        in_order = tf.reduce_all(numbers == tf.range(tf.size(numbers)) % 8)
        in_order &= has_restarts | (tf.size(numbers) == 0)

        walk = walk._replace(
            position=tf.where(is_sos, scan_end, end),
            parts=walk.parts + 1,
            verdict=_verdict(
                is_cut_off=(place + 2 > file_size) | (end > file_size),
                is_damaged=(content[walk.position] != 0xFF) | ~is_legal | (is_sos & ~in_order),
                is_too_long=(walk.parts >= MAX_SEGMENTS) | (scan_count > MAX_SCANS),
            ),
            ended=is_eoi,
            size=tf.where(is_sof, size, walk.size),
            exif=tf.where(is_exif, tf.stack([place + 4, length - 2]), walk.exif),
        )
        scan = tf.repeat([[end, scan_end]], tf.cast(is_sos, tf.int32), axis=0)
        return walk, has_restarts, tf.concat([scans, scan], 0)

    start = (_start(2), tf.constant(False), tf.zeros([0, 2], tf.int32))
    shapes = tf.nest.map_structure(lambda each: each.shape, start)
    walk, _, scans = tf.while_loop(
        go_on, step, start, (*shapes[:2], tf.TensorShape([None, 2])), parallel_iterations=1
    )
    scan_of_restart = tf.searchsorted(scans[:, 0], restarts, side='right')
    ends = tf.gather(tf.concat([[0], scans[:, 1]], 0), scan_of_restart)
    in_scans = tf.boolean_mask(restarts, restarts < ends)
    return walk, tf.sort(tf.concat([in_scans, scans[:, 1]], 0))


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in a block of Exif, an int32 scalar; 1 if no tag can be read.

    The block is a TIFF file, with or without `Exif` before it, of which the first directory is
    looked at: 2 bytes with the number of its entries, and 12 bytes each: tag, type, count, value.
    """
    skipped = tf.where(tf.strings.substr(exif, 0, len(_EXIF_START)) == _EXIF_START, 6, 0)
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
    # The tag's, of type SHORT: there is one.
    is_it = (
        (number(entries[:, :2]) == 0x0112)
        & (number(entries[:, 2:4]) == 3)
        & (number(entries[:, 4:8]) == 1)
    )
    values = number(tf.boolean_mask(entries, is_it)[:, 8:10])
    value = tf.cast(tf.concat([values, [1]], 0)[0], tf.int32)
    is_readable = (is_little | (order == b'MM\x00*')) & (value >= 1) & (value <= 8)
    return tf.where(is_readable, value, 1)
