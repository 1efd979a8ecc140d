"""Estimates from its structure how much work it is to decode a PNG or a JPEG.

A small file may cause much work: many pixels, many scans that each cover all pixels, compressed
texts, or more pixel data than pixels. Nothing is decoded here, and the time is linear in the file's
size.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8\xff'
# The length of a bytes field in a protocol buffer, before a JPEG in a tf.Example. Without this
# check, the three bytes would be found in compressed data as well.
_FIELD_LENGTH = re.compile(rb'(?:\x0a|\x8a\x80*\x00)[\x80-\xff]{0,9}[\x00-\x7f]\Z', re.DOTALL)
_FIELD_HEAD_BYTES = 20
_MAX_EMBEDDED = 1000  # pictures in one string

_MAX_CHUNKS = 20_000  # 16 bits of RGBA of 4096 x 4096 pixels in libpng's usual pieces are 16,384
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# For a compressed text or colour profile: the decompressed size up to which it is not counted,
# libpng's own limit, and the most bytes that deflate makes of one byte.
_SMALL_TEXT = 1 << 16
_LARGEST_TEXT = 8_000_000
_MAX_RATIO = 1032
# Pixel data up to this compressed size are not inflated to find out their real size, because a
# decoder takes less than 0.1 s for them.
_UNCHECKED_IDAT = 1 << 15

# Before a segment of a JPEG there may be any bytes, and any number of 0xff.
_MARKER = re.compile(rb'\xff+([^\x00\xff])', re.DOTALL)
_MAX_SEGMENTS = 1000
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_BARE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a length
# A scan of a progressive JPEG costs this fraction of decoding its pixels; such a file has ten.
_SCAN_SHARE = 1 / 32

TOO_MUCH = math.inf


def pixels(data: bytes) -> float:
    """Estimates the work of decoding as a number of pixels that take as long.

    Args:
        data: A file, or a serialized tf.Example with files in it.

    Returns:
        0 if there is no file in it; TOO_MUCH for a file that no decoder should be given.
    """
    return sum(
        _Png(data, start).pixels() if data.startswith(_PNG, start) else _jpeg(data, start)
        for start in _pictures(data)
    )


def hides_data(data: bytes) -> bool:
    """Whether a PNG has many times the data of its pixels, all of which a decoder would inflate.

    This takes as long as a decoder takes for the pixels, so check `pixels` first.

    Args:
        data: A file, or a serialized tf.Example with files in it.
    """
    return any(
        data.startswith(_PNG, start) and _Png(data, start).hides_data() for start in _pictures(data)
    )


def _pictures(data: bytes) -> Iterator[int]:
    """The positions in `data` at which files begin."""
    if data.startswith((_PNG, _JPEG)):
        yield 0
        return
    start = -1
    while (start := data.find(_PNG, start + 1)) >= 0:
        yield start
    start = -1
    while (start := data.find(_JPEG, start + 1)) >= 0:
        if _FIELD_LENGTH.search(data[max(0, start - _FIELD_HEAD_BYTES) : start]):
            yield start


class _Png:
    """The chunks of a PNG."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        head = data[start + 16 : start + 26]
        self._width, self._height, bits, colours = (
            struct.unpack('>IIBB', head) if len(head) == 10 else (0, 0, 0, 0)
        )
        row = (self._width * bits * _CHANNELS.get(colours, 4) + 7) // 8 + 1
        # An interlaced PNG has up to 7 passes, each with one more byte a row.
        self._size = self._height * row + 7 * (self._height + 1)
        self._idat: list[tuple[int, int]] = []
        self._extra = 0.0
        self._walk(start + len(_PNG))

    def _walk(self, position: int) -> None:
        data = self._data
        for _ in range(_MAX_CHUNKS):
            if position + 12 > len(data):
                return
            (length,) = struct.unpack_from('>I', data, position)
            kind, content = data[position + 4 : position + 8], position + 8
            position = content + length + 4
            if kind == b'IEND':
                return
            if kind == b'IDAT':
                self._idat.append((content, min(content + length, len(data))))
            elif kind in (b'zTXt', b'iTXt', b'iCCP'):
                self._extra += _text(data[content : content + length])
        self._extra = TOO_MUCH

    def pixels(self) -> float:
        return self._width * self._height + self._extra

    def hides_data(self) -> bool:
        compressed = sum(end - start for start, end in self._idat)
        if compressed > self._size + self._size // 64 + 1024:
            return True
        if compressed <= _UNCHECKED_IDAT:
            return False
        stream = zlib.decompressobj()
        left = self._size + _SMALL_TEXT
        try:
            for start, end in self._idat:
                piece = self._data[start:end]
                while piece and not stream.eof:
                    left -= len(stream.decompress(piece, _SMALL_TEXT))
                    if left <= 0:
                        return True
                    piece = stream.unconsumed_tail
        except zlib.error:
            return False  # a decoder stops there as well
        return False


def _text(chunk: bytes) -> float:
    """The cost of a chunk that may be compressed, in bytes, which cost about as much as pixels."""
    for start in _zlib_starts(chunk):
        stream = zlib.decompressobj()
        try:
            stream.decompress(chunk[start:], _SMALL_TEXT)
        except zlib.error:
            continue
        if not stream.eof and stream.unconsumed_tail:
            return min(_MAX_RATIO * len(chunk), _LARGEST_TEXT)
    return 0.0


def _zlib_starts(chunk: bytes) -> Iterator[int]:
    """Where compressed data may begin: two bytes after a name, or after iTXt's third text."""
    name_end = chunk.find(b'\0', 0, 80)
    if name_end < 0:
        return
    yield name_end + 2
    language_end = chunk.find(b'\0', name_end + 3)
    if language_end >= 0 and (text := chunk.find(b'\0', language_end + 1)) >= 0:
        yield text + 1


def _jpeg(data: bytes, start: int) -> float:
    position = start + 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position)
        if not marker:
            return 0.0
        position = marker.end()
        kind = marker[1][0]
        if kind in _BARE:
            continue
        if kind == _SCAN:
            return 0.0  # a decoder refuses a scan before the frame
        if kind in _FRAMES:
            frame = data[position : position + 7]
            if len(frame) < 7:
                return 0.0
            height, width = struct.unpack_from('>HH', frame, 3)
            scans = data.count(bytes([0xFF, _SCAN]), position)
            return height * width * (1 + scans * _SCAN_SHARE)
        if position + 2 > len(data):
            return 0.0
        position += struct.unpack_from('>H', data, position)[0]
    return TOO_MUCH
