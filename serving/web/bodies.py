"""The bodies of requests: received, decompressed, and kept within limits.

A body of a few kilobytes is always accepted. Larger bodies share a budget. If it is used up, the
server refuses the body that is still coming and has taken the most memory for the longest time, so
that clients who do not finish cannot keep out those who do.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from aiohttp import web

from serving.errors import ServingError

SMALL_BYTES = 1 << 16  # a body of at most this size does not count towards the budget
# Memory for larger bodies at one time, in multiples of the largest body allowed.
_LARGE_HELD = 4
# Bytes that are decompressed in one go on the event loop; this takes half a millisecond.
_STEP_BYTES = 1 << 18
# Compressed bytes given to zlib in one go: it copies those that it does not use.
_PIECE_BYTES = 1 << 14
# Programs that compress in parallel write one member per block; an empty member has 20 bytes.
_MAX_MEMBERS = 10_000

_WINDOW_BITS = {'gzip': 31, 'x-gzip': 31, 'deflate': 15}


class BodyError(ServingError):
    """A body is refused, with an HTTP status that belongs to no canonical code."""

    def __init__(self, code: str, http_status: int, message: str):
        super().__init__(code, message)
        self._http_status = http_status

    @property
    def http_status(self) -> int:
        return self._http_status


class Body:
    """The part of a body that has come.

    Attributes:
        content: The decompressed bytes.
    """

    def __init__(self) -> None:
        self.content: bytes | bytearray = b''
        self._since = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._is_refused = False


class Bodies:
    """Receives bodies; belongs to one event loop.

    Args:
        largest: The most bytes of a body, decompressed.
        seconds: The time in which a body must have come.

    Attributes:
        large_bytes: The bytes that all bodies of more than SMALL_BYTES hold at the moment.
    """

    def __init__(self, largest: int, seconds: float) -> None:
        self._largest = largest
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._large: set[Body] = set()
        self.large_bytes = 0
        self._receiving: set[asyncio.Task[None]] = set()

    async def receive(self, request: web.BaseRequest, body: Body) -> None:
        """Fills `body`, which must be released afterwards, also after an error.

        Raises:
            BodyError: The body is too large, too slow, damaged or compressed in an unknown way, or
                there is no room for it.
        """
        encoding = request.headers.get('Content-Encoding', '').strip().lower()
        if request.content.is_eof() and not encoding:
            body.content = request.content.read_nowait()
            self._check_size(len(body.content))
            return
        if encoding not in ('', 'identity', *_WINDOW_BITS):
            raise BodyError(
                'INVALID_ARGUMENT',
                415,
                f"The body's Content-Encoding is {encoding}; gzip, deflate and identity are known",
            )
        # A body that declares itself too large need not be received.
        self._check_size(request.content_length or 0)
        if request.headers.get('Expect', '').lower() == '100-continue':
            await request.writer.write(b'HTTP/1.1 100 Continue\r\n\r\n')
        body.content = bytearray()
        body._since = self._loop.time()
        body._reading = self._loop.create_task(self._read(request, body, encoding))
        self._receiving.add(request.task)
        try:
            await asyncio.wait_for(body._reading, self._seconds)
        except asyncio.TimeoutError:
            raise BodyError(
                'DEADLINE_EXCEEDED', 408, f'The body did not come within {self._seconds:g} seconds'
            ) from None
        except asyncio.CancelledError:
            if body._is_refused:
                raise _no_room() from None
            raise
        finally:
            body._reading = None
            self._receiving.remove(request.task)

    def release(self, body: Body) -> None:
        """Frees the content of a body; a second call does nothing."""
        if body in self._large:
            self._large.remove(body)
            self.large_bytes -= len(body.content)
        body.content = b''

    def stop(self) -> None:
        """Cancels the requests whose bodies are still coming, since that may take long."""
        for task in self._receiving:
            task.cancel()

    async def _read(self, request: web.BaseRequest, body: Body, encoding: str) -> None:
        inflater = _Inflater(encoding) if encoding in _WINDOW_BITS else None
        try:
            while chunk := await request.content.readany():
                if not inflater:
                    self._take(body, chunk)
                    continue
                for part in inflater.parts(chunk):
                    self._take(body, part)
                    await asyncio.sleep(
                        0
                    )  # few bytes may become many: let other requests run between
        except web.RequestPayloadError as error:
            raise _unreadable(f'The body cannot be read: {error}') from None
        except ConnectionError:
            raise BodyError('CANCELLED', 499, 'The client hung up') from None
        if inflater:
            inflater.finish()

    def _take(self, body: Body, chunk: bytes) -> None:
        assert isinstance(body.content, bytearray)
        self._check_size(len(body.content) + len(chunk))
        body.content += chunk
        if body in self._large:
            self.large_bytes += len(chunk)
        elif len(body.content) > SMALL_BYTES:
            self._large.add(body)
            self.large_bytes += len(body.content)
        while self.large_bytes > _LARGE_HELD * self._largest:
            self._refuse_one(body)

    def _refuse_one(self, newest: Body) -> None:
        """Refuses the body that has held the most for the longest; raises if it is `newest`."""
        now = self._loop.time()
        coming = [body for body in self._large if body._reading and not body._reading.done()]
        worst = max(coming, key=lambda body: len(body.content) * (now - body._since))
        if worst is newest:
            raise _no_room()
        assert worst._reading
        worst._is_refused = True
        worst._reading.cancel()
        self.release(worst)

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise BodyError(
                'INVALID_ARGUMENT',
                413,
                f'The body is larger than the {self._largest >> 20} MB that are allowed '
                '(--max_body_mb)',
            )


class _Inflater:
    """Decompresses a body that comes in chunks."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._members = 0
        self._begin()

    def _begin(self) -> None:
        self._stream = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _unreadable(f'The body has more than {_MAX_MEMBERS:,} {self._encoding} members')

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """Decompresses a chunk, in parts that take little time each.

        Raises:
            BodyError: The chunk is damaged.
        """
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = chunk[start : start + _PIECE_BYTES]
            while piece:
                if self._stream.eof:
                    self._begin()
                try:
                    yield self._stream.decompress(piece, _STEP_BYTES)
                except zlib.error as error:
                    raise _unreadable(f'The body is not {self._encoding}: {error}') from None
                piece = self._stream.unconsumed_tail or self._stream.unused_data

    def finish(self) -> None:
        """Raises BodyError if the compressed data are incomplete."""
        if not self._stream.eof:
            raise _unreadable(f'The body ends in the middle of its {self._encoding} data')


def _no_room() -> BodyError:
    return BodyError(
        'RESOURCE_EXHAUSTED',
        429,
        'Too many large requests at the same time: there is no room for the body of this one. '
        'Send it again later, or send smaller ones',
    )


def _unreadable(message: str) -> BodyError:
    return BodyError('INVALID_ARGUMENT', 400, message)
