"""The chunks of a PNG; see the PNG specification, section 5."""

from __future__ import annotations

import tensorflow as tf

from capsmodel.data import image_parts

START = b'\x89PNG\r\n\x1a\n'
# libpng writes 16 bits of RGBA of 4096 x 4096 pixels in 16,384 chunks.
MAX_CHUNKS = 20_000

# Bytes of the signature with the IHDR chunk, and of a chunk without its content.
_HEAD_SIZE = 33
_CHUNK_SIZE = 12
_CHANNELS = (1, 0, 3, 1, 2, 0, 4)
_LEGAL_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def kind(name: bytes) -> int:
    """A chunk's four letters as a big-endian number."""
    return int.from_bytes(name, 'big')


# This bit is set if a name's first letter is small: pixels do not need such a chunk.
_ANCILLARY = kind(b' \x00\x00\x00')


@image_parts.function_of_its_own
def examine(file: tf.Tensor) -> image_parts.Structure:
    """Checks the chunks from IHDR to IEND.

    libpng inflates texts and profiles that nobody reads, so `decodable` is without them. It also
    inflates data in IDAT chunks after the last pixel, so IDAT chunks with more data than the
    uncompressed pixels are refused.

    Args:
        file: string scalar that begins with START.
    """
    content = image_parts.content_of(file)
    file_size = tf.strings.length(file)
    head = tf.concat([content, tf.zeros([_HEAD_SIZE], tf.uint8)], 0)[:_HEAD_SIZE]
    head = tf.cast(tf.ensure_shape(head, [_HEAD_SIZE]), tf.int32)
    is_header = (image_parts.big_endian(head[8:12]) == 13) & (file_size >= _HEAD_SIZE)
    is_header &= image_parts.big_endian(head[12:16]) == kind(b'IHDR')
    size = image_parts.big_endian(tf.reshape(head[16:24], [2, 4]))
    # Width and height have no sign in a PNG.
    size = tf.where(is_header, tf.cast(tf.bitcast(size, tf.uint32), tf.int64), 0)
    bits, colour, compression, filtering, interlacing = tf.unstack(head[24:29])
    legal = [256 * colour + bits for colour, of_it in _LEGAL_BITS.items() for bits in of_it]
    is_legal = is_header & tf.reduce_any(256 * colour + bits == tf.constant(legal))
    is_legal &= (compression == 0) & (filtering == 0) & (interlacing <= 1)

    places, lengths, kinds = _chunks(content, file_size)
    is_idat = kinds == kind(b'IDAT')
    data_size = tf.reduce_sum(tf.cast(image_parts.where(is_idat, lengths), tf.int64))
    pixel_bits = bits * tf.gather(_CHANNELS, tf.minimum(colour, 6))
    most = _most_data(size, tf.cast(pixel_bits, tf.int64))
    # The places where a run of IDAT chunks begins.
    starts = is_idat & ~tf.concat([[False], is_idat[:-1]], 0)
    is_one_run = tf.reduce_sum(tf.cast(starts, tf.int32)) == 1
    is_end = kinds[-1:] == kind(b'IEND')
    is_damaged = ~is_legal | ~is_one_run | tf.reduce_any(is_end & (lengths[-1:] != 0))
    is_cut_off = (file_size < _HEAD_SIZE) | (is_legal & ~tf.reduce_any(is_end))
    verdict = tf.where(data_size > most, image_parts.TOO_MUCH, image_parts.GOOD)
    verdict = tf.where(is_damaged, image_parts.DAMAGED, verdict)
    verdict = tf.where(is_cut_off, image_parts.CUT_OFF, verdict)
    verdict = tf.where(tf.size(kinds) > MAX_CHUNKS, image_parts.TOO_LONG, verdict)

    is_key = kinds == kind(b'tRNS')
    is_needed = (tf.bitwise.bitwise_and(kinds, _ANCILLARY) == 0) | is_key
    # The first piece is the signature.
    end = tf.reduce_max(tf.concat([[len(START)], places + lengths + _CHUNK_SIZE], 0))
    cuts = tf.concat([[0], places, [end]], 0)
    needed = tf.concat([[0], 1 + tf.cast(tf.where(is_needed)[:, 0], tf.int32)], 0)
    exifs = tf.stack([places + 8, lengths], 1)
    return image_parts.Structure(
        verdict=verdict,
        size=size,
        exif=image_parts.first_where(kinds == kind(b'eXIf'), exifs, [0, 0]),
        decodable=image_parts.joined(content, cuts, needed),
        is_keyed=tf.reduce_any(is_key) & ((colour == 0) | (colour == 2)),
        is_sequential=tf.constant(False),
        data_ends=tf.zeros([0], tf.int32),
    )


def _chunks(content: tf.Tensor, file_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Places, lengths and kinds of the chunks up to IEND, int32 [chunks] each."""
    # Most places are ruled out first: those without a possible length and a letter.
    count = tf.maximum(file_size - _CHUNK_SIZE + 1, 0)
    highest = tf.cast(tf.bitwise.right_shift(file_size, 24), tf.uint8)
    may_be = (content[:count] <= highest) & (content[4 : count + 4] >= ord('A'))
    places = tf.cast(tf.where(may_be), tf.int32)
    heads = tf.cast(tf.gather(content, places + tf.range(8)), tf.int32)
    letters = tf.bitwise.bitwise_or(heads[:, 4:], 0x20)
    are_letters = tf.reduce_all((letters >= ord('a')) & (letters <= ord('z')), 1)
    places, lengths = places[:, 0], image_parts.big_endian(heads[:, :4])
    room = file_size - _CHUNK_SIZE - places
    may_be = are_letters & (lengths >= 0) & (lengths <= room) & (places >= len(START))
    places, lengths = image_parts.where(may_be, places), image_parts.where(may_be, lengths)
    kinds = image_parts.big_endian(image_parts.where(may_be, heads)[:, 4:])

    none = tf.size(places)
    ends = places + lengths + _CHUNK_SIZE
    following = tf.searchsorted(places, ends)
    follows = tf.gather(tf.concat([places, [file_size]], 0), following) == ends
    following = tf.where(follows & (kinds != kind(b'IEND')), following, none)
    start = tf.where(tf.reduce_any(places[:1] == len(START)), 0, none)
    found = image_parts.chain(start, following, MAX_CHUNKS + 1)
    return tf.gather(places, found), tf.gather(lengths, found), tf.gather(kinds, found)


def _most_data(size: tf.Tensor, pixel_bits: tf.Tensor) -> tf.Tensor:
    """The most bytes that IDAT chunks can need, int64 scalar.

    Besides the pixels these are a byte for each row and some bytes for each block of data. The
    bound leaves room for encoders that end a block with each row, and for the short rows of
    interlaced pictures.
    """
    row_bytes = size[0] * pixel_bits // 8 + 16
    return size[1] * row_bytes * 17 // 16 + 64
