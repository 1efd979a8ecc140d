"""The segments and scans of a JPEG; see ITU-T T.81, annex B."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from capsmodel.data import image_parts

START = b'\xff\xd8\xff'
EXIF_START = b'Exif\x00\x00'
# A JPEG has a few dozen segments, or a few hundred if a camera stores a depth map in them.
MAX_SEGMENTS = 1000
# libjpeg goes over the whole picture in each scan: 17 ms for 4096 x 4096 pixels, even without data.
# Its own progressive files have ten scans, those of optimizing encoders up to 20.
MAX_SCANS = 24

_EOI, _SOS, _DRI, _APP1 = 0xD9, 0xDA, 0xDD, 0xE1
_PROGRESSIVE = 0xC2  # the kind of its frame
# The first bytes of a segment: 0xff, its kind, its length, and the beginning of a frame's header.
_HEAD_SIZE = 10
# Where data are missing, libjpeg fills in grey. Decoded as data, these bytes do not give grey.
# The first one makes data of a 0xff that would else begin a marker.
_FILLER = b'\0' + bytes.fromhex('d6592ce3b49a27c5719e4b36d8a56c1b') * 4
# The kind of the first restart marker, and how many there are.
_RST0, _RESTARTS = 0xD0, 8
# What is inserted before a restart marker, and after the data of a scan that would go on with the
# restart marker 0, 1, ... 7.
_FILLERS = (_FILLER, *(_FILLER + bytes([0xFF, _RST0 + n]) + _FILLER for n in range(_RESTARTS)))


class _Segments(NamedTuple):
    """Segments in their order, int32 [segments, ...]; the first one follows SOI."""

    places: tf.Tensor  # where their markers are
    heads: tf.Tensor  # [segments, _HEAD_SIZE]
    ends: tf.Tensor
    scan_ends: tf.Tensor  # where the data end if a scan begins at the segment


@image_parts.function_of_its_own
def examine(file: tf.Tensor) -> image_parts.Structure:
    """Checks the segments from SOI to EOI.

    Args:
        file: string scalar that begins with START, or is no picture.
    """
    content = image_parts.content_of(file)
    file_size = tf.strings.length(file)
    # There may be several 0xff bytes before a marker, which begins at the last of them.
    markers = tf.where((content[:-1] == 0xFF) & (content[1:] != 0xFF))[:, 0]
    kinds = tf.cast(tf.gather(content, markers + 1), tf.int32)
    markers = tf.cast(markers, tf.int32)
    is_restart = _is_restart(kinds)
    # The data of a scan continue after a restart marker, and 0xff00 stands for 0xff in them.
    is_segment = ~is_restart & (kinds != 0)
    segments = _segments(content, file_size, markers, image_parts.where(is_segment, markers))
    heads, ends = segments.heads, segments.ends
    kinds_in_order = heads[:, 1]
    is_scan = kinds_in_order == _SOS
    restarts = image_parts.where(is_restart, tf.stack([markers, kinds - _RST0], 1))
    scan_is_bad, data_ends = _restarts_of_scans(segments, is_scan, restarts)

    is_frame = (kinds_in_order >= 0xC0) & (kinds_in_order <= 0xCF)
    # Tables and extensions are not frames.
    is_frame &= tf.reduce_all(kinds_in_order[:, tf.newaxis] != [0xC4, 0xC8, 0xCC], 1)
    is_end = kinds_in_order == _EOI
    frames, scans = (tf.cumsum(tf.cast(each, tf.int32)) for each in (is_frame, is_scan))
    lengths = image_parts.big_endian(heads[:, 2:4])
    is_legal = (kinds_in_order >= 0xC0) & (kinds_in_order != 0xC8)
    is_legal &= (kinds_in_order < 0xD0) | (kinds_in_order > 0xD8)
    is_legal &= is_end | (lengths >= 2)
    is_legal &= ~is_frame | ((lengths >= 8) & (frames == 1))
    is_legal &= ~is_scan | ((frames > 0) & ~scan_is_bad)
    is_legal &= ~is_end | (scans > 0)
    is_too_long = (tf.range(tf.size(ends)) >= MAX_SEGMENTS) | (scans > MAX_SCANS)
    # Usual JPEGs are baseline or progressive, with Huffman codes and 8 bits.
    is_rare = is_frame & ((kinds_in_order > 0xC2) | (heads[:, 4] != 8))
    verdicts = tf.where(is_rare, image_parts.RARE, image_parts.GOOD)
    verdicts = tf.where(is_too_long, image_parts.TOO_LONG, verdicts)
    verdicts = tf.where(is_legal, verdicts, image_parts.DAMAGED)
    verdicts = tf.where(ends > file_size, image_parts.CUT_OFF, verdicts)
    # After the last segment, either the bytes are not a segment, or the file ends.
    is_more = tf.reduce_any(markers[-1:] >= ends[-1:]) & ~tf.reduce_any(is_scan[-1:])
    last = tf.where(is_more, image_parts.DAMAGED, image_parts.CUT_OFF)
    last = tf.where(tf.reduce_any(is_end[-1:]), image_parts.GOOD, last)

    is_exif = (kinds_in_order == _APP1) & (scans == 0)
    is_exif &= tf.reduce_all(heads[:, 4:] == list(EXIF_START), 1)
    size = tf.stack([image_parts.big_endian(heads[:, at : at + 2]) for at in (7, 5)], 1)
    return image_parts.Structure(
        verdict=image_parts.first_where(verdicts != image_parts.GOOD, verdicts, last),
        size=tf.cast(image_parts.first_where(is_frame, size, [0, 0]), tf.int64),
        exif=image_parts.first_where(
            is_exif, tf.stack([segments.places + 4, lengths - 2], 1), [0, 0]
        ),
        decodable=file,
        is_keyed=tf.constant(False),
        is_sequential=(tf.math.count_nonzero(is_scan) == 1)
        & ~tf.reduce_any(kinds_in_order == _PROGRESSIVE),
        data_ends=data_ends,
    )


def with_more_data(jpeg: tf.Tensor, data_ends: tf.Tensor) -> tf.Tensor:
    """Inserts some bytes after the data of each scan and before each restart marker.

    A decoder skips them unless data are missing there: then they become pixels. After a scan they
    come with the restart marker that would follow and once more: a decoder that waits for this
    marker skips what is before it.

    Args:
        jpeg: string scalar, a JPEG whose structure is good.
        data_ends: int32 [any], from `examine`.
    """
    file_size = tf.strings.length(jpeg)
    content = tf.io.decode_raw(tf.strings.join([jpeg, *_FILLERS]), tf.uint8)
    lengths = tf.constant([len(each) for each in _FILLERS])
    cuts = tf.concat([[0], data_ends, [file_size], file_size + tf.cumsum(lengths)], 0)
    kinds = tf.cast(tf.gather(content, data_ends + 1), tf.int32)
    is_restart = _is_restart(kinds)
    # Restart markers count from 0 to 7 and begin again with each scan.
    following = tf.where(is_restart, kinds - _RST0 + 1, 0)
    following = tf.concat([[0], following], 0)[:-1] % _RESTARTS
    first = tf.size(data_ends) + 1
    fillers = first + tf.where(is_restart, 0, 1 + following)
    pieces = tf.reshape(tf.stack([tf.range(first - 1), fillers], 1), [-1])
    return image_parts.joined(content, cuts, tf.concat([pieces, [first - 1]], 0))


def _is_restart(kinds: tf.Tensor) -> tf.Tensor:
    return (kinds >= _RST0) & (kinds < _RST0 + _RESTARTS)


def _segments(
    content: tf.Tensor, file_size: tf.Tensor, markers: tf.Tensor, candidates: tf.Tensor
) -> _Segments:
    """Finds the segments among int32 [any] candidates, which are some of the markers."""
    padded = tf.concat([candidates, [file_size]], 0)
    padded_markers = tf.concat([markers, [file_size]], 0)
    none = tf.size(candidates)

    def beginning_at(position: tf.Tensor) -> tf.Tensor:
        """int32 [n] to int32 [n]: the number of the candidate at each position, or `none`."""
        number = tf.searchsorted(candidates, position)
        marker = tf.gather(padded_markers, tf.searchsorted(markers, position))
        is_there = tf.gather(content, tf.minimum(position, file_size)) == 0xFF
        return tf.where(is_there & (tf.gather(padded, number) == marker), number, none)

    heads = tf.gather(content, candidates[:, tf.newaxis] + tf.range(_HEAD_SIZE))
    heads = tf.cast(heads, tf.int32)
    kinds = heads[:, 1]
    ends = candidates + 2 + tf.where(kinds == _EOI, 0, image_parts.big_endian(heads[:, 2:4]))
    behind_data = tf.searchsorted(candidates, ends)
    following = tf.where(kinds == _SOS, behind_data, beginning_at(ends))
    following = tf.where((kinds == _EOI) | (ends > file_size), none, following)
    found = image_parts.chain(
        beginning_at(tf.constant([2]))[0], following, max(MAX_SEGMENTS, MAX_SCANS) + 1
    )
    return _Segments(
        places=tf.gather(candidates, found),
        heads=tf.gather(heads, found),
        ends=tf.gather(ends, found),
        scan_ends=tf.gather(padded, tf.gather(behind_data, found)),
    )


def _restarts_of_scans(
    segments: _Segments, is_scan: tf.Tensor, restarts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks the restart markers in the data of scans.

    Args:
        segments: All segments.
        is_scan: bool [segments].
        restarts: int32 [any, 2], place and number of each restart marker.

    Returns:
        bool [segments], true for a scan with markers that no DRI segment announced or that are not
        in order; and int32 [any], the places where data end.
    """
    starts = image_parts.where(is_scan, segments.ends)
    ends = image_parts.where(is_scan, segments.scan_ends)
    places, numbers = restarts[:, 0], restarts[:, 1]
    # Scans count from 1 here, since there may be markers before the first one or after the last.
    scan = tf.searchsorted(starts, places, side='right')
    is_within = places < tf.gather(tf.concat([[0], ends], 0), scan)
    first = tf.gather(tf.concat([[0], tf.searchsorted(places, starts)], 0), scan)
    is_in_order = numbers == (tf.range(tf.size(places)) - first) % _RESTARTS
    heads = segments.heads
    is_interval = heads[:, 1] == _DRI
    has_interval = image_parts.where(is_interval, heads[:, 4] + heads[:, 5] > 0)
    intervals = image_parts.where(is_scan, tf.cumsum(tf.cast(is_interval, tf.int32)))
    is_announced = tf.gather(tf.concat([[False], has_interval], 0), intervals)
    is_right = is_in_order & tf.gather(tf.concat([[True], is_announced], 0), scan)
    wrong = image_parts.where(is_within & ~is_right, scan)
    wrong_of_scan = tf.math.unsorted_segment_sum(tf.ones_like(wrong), wrong, tf.size(starts) + 1)
    scan_of_segment = tf.cumsum(tf.cast(is_scan, tf.int32))
    is_bad = is_scan & (tf.gather(wrong_of_scan, scan_of_segment) > 0)
    return is_bad, tf.sort(tf.concat([image_parts.where(is_within, places), ends], 0))
