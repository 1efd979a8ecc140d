"""Connections: how many there may be, and how long a client may keep the server waiting."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from serving.console import complain
from serving.errors import ServingError, error_json
from serving.web.descriptors import raise_descriptor_limit

_BACKLOG = 1024  # connections that wait to be accepted
_ACCEPTED_AT_ONCE = 16  # then other work has its turn in the event loop
# Descriptors that are kept free for everything else, such as the files of models.
_RESERVED_DESCRIPTORS = 256
# The most bytes of a request's line and headers. aiohttp's own limits allow a megabyte of them, but
# only 8,190 bytes in each, which some tickets of single sign-on go beyond.
_HEAD_BYTES = 1 << 16
# To read the rest of a refused request, before its client reads the refusal: 32 MB at 25 Mbit/s.
_LINGERING_SECONDS = 10.0
# Bytes that the system buffers for a client that has no room for them. Its default is megabytes.
_UNSENT_BYTES = 1 << 16
_RETRY_SECONDS = 0.2  # until the next try to accept a connection that found no descriptor
_QUIET_SECONDS = 60.0  # without a full server, before a full server is reported again
# Only a name: version numbers would help nobody but attackers.
_SERVER = 'capsnet'

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connections(web.Server):
    """Accepts connections; if there are too many, closes those that wait for their client.

    It does not let asyncio accept them, which accepts a thousand at a time, and prints a traceback
    for each if descriptors run out.

    Args:
        handler: Answers requests.
        most: The most connections at a time; fewer if the system allows fewer descriptors.
        idle_seconds: The time in which the head of a connection's next request must have come.
        write_seconds: The time in which a client must have taken its answer.
    """

    def __init__(
        self, handler: _Handler, most: int, idle_seconds: float, write_seconds: float
    ) -> None:
        # aiohttp would log the mistakes of clients, which the operator cannot correct.
        silent = logging.getLogger('serving.silent')
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        super().__init__(self._answered, handler_cancellation=True)
        self._handler = handler
        self._new_connection = functools.partial(
            _Connection,
            self,
            write_seconds,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle_seconds,
            lingering_time=_LINGERING_SECONDS,
            logger=silent,
            access_log=None,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            auto_decompress=False,  # aiohttp accepts a gzip body that is cut off
        )
        descriptors = raise_descriptor_limit(most + _RESERVED_DESCRIPTORS)
        self._most = min(most, max(descriptors - _RESERVED_DESCRIPTORS, descriptors // 2))
        self._open: set[_Connection] = set()
        self._accepting: set[asyncio.Task[object]] = set()
        # The connections that wait for their client, by its address, the longest wait first.
        self._waiting: dict[str, dict[_Connection, None]] = {}
        self._full_at = -_QUIET_SECONDS

    def __call__(self) -> web.RequestHandler:
        return self._new_connection()

    @contextlib.asynccontextmanager
    async def listening(
        self, listener: socket.socket, shutdown_seconds: float
    ) -> AsyncIterator[None]:
        """Accepts connections inside the context; then finishes the requests that run.

        Raises:
            ServingError: Another server has begun to listen at the address.
        """
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        if hasattr(socket, 'TCP_NOTSENT_LOWAT'):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        try:
            listener.listen(_BACKLOG)
        except OSError as error:
            raise ServingError(
                'UNAVAILABLE', f'The server cannot listen: {error.strerror}.'
            ) from None
        loop.add_reader(listener, self._accept, listener)
        try:
            yield
        finally:
            loop.remove_reader(listener)
            listener.close()
            for task in self._accepting:
                task.cancel()
            await asyncio.sleep(0)  # requests that have come already are answered
            self.pre_shutdown()
            await self.shutdown(shutdown_seconds)

    def answering(self, request: web.BaseRequest) -> None:
        """Notes that a whole request has come, and its client waits for the server."""
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.is_answering = True
        self._leave(connection)

    def opened(self, connection: _Connection) -> None:
        """Starts to count a connection."""
        self._open.add(connection)
        self._wait(connection)

    def closed(self, connection: _Connection) -> None:
        """Stops counting a connection."""
        self._open.discard(connection)
        self._leave(connection)

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._handler(request)
        finally:
            connection = request.protocol
            assert isinstance(connection, _Connection)
            connection.finish_request(request)
            if connection in self._open:
                self._leave(connection)
                self._wait(connection)

    def _wait(self, connection: _Connection) -> None:
        self._waiting.setdefault(connection.peer, {})[connection] = None

    def _leave(self, connection: _Connection) -> None:
        if others := self._waiting.get(connection.peer):
            others.pop(connection, None)
            if not others:
                del self._waiting[connection.peer]

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # There are no descriptors, or no memory.
                self._report(f'{error.strerror} at {len(self._open)} connections')
                if not self._close_one():
                    loop.remove_reader(listener)
                    loop.call_later(_RETRY_SECONDS, self._retry, listener)
                return
            if len(self._open) + len(self._accepting) >= self._most:
                self._report(f'There are {self._most} connections (--max_connections)')
                if not self._close_one():
                    _refuse(accepted)
                    continue
            task = loop.create_task(loop.connect_accepted_socket(self, accepted))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def _retry(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _close_one(self) -> bool:
        """Closes the connection that waits longest, of the address with the most that wait."""
        if not self._waiting:
            return False
        largest_group = max(self._waiting.values(), key=len)
        longest = next(iter(largest_group))
        self._leave(longest)
        longest.abort()
        return True

    def _report(self, what: str) -> None:
        """Reports that the server is full; again only after it was not full for a while."""
        now = time.monotonic()
        if now - self._full_at > _QUIET_SECONDS:
            complain(f'{what}: for each new one, the one that has been idle longest is closed.')
        self._full_at = now


class _Connection(web.RequestHandler):
    """One connection, with the limits that aiohttp lacks.

    Attributes:
        peer: The client: its IPv4 address, or its IPv6 network, in which a client has many.
        is_answering: Whether a whole request has come and is not answered yet.
    """

    def __init__(self, connections: Connections, write_seconds: float, **settings: object) -> None:
        super().__init__(connections, **settings)  # type: ignore[arg-type]
        self._connections = connections
        self._write_seconds = write_seconds
        self._socket: asyncio.Transport | None = None
        self._gives_up: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_request = False
        self._is_held = False
        self._body: aiohttp.StreamReader = aiohttp.EMPTY_PAYLOAD  # of the last request
        self.is_answering = False
        self.peer = ''

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        self.peer = _peer(transport)
        # An answer counts as written when the system has taken all of it. Otherwise small answers
        # that nobody reads would pile up here while the next requests are answered.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._gives_up:
            self._gives_up.cancel()
        self._connections.closed(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._gives_up = self._loop.call_later(self._write_seconds, self.abort)

    def resume_writing(self) -> None:
        if self._gives_up:
            self._gives_up.cancel()
        super().resume_writing()
        self._read_on()

    def data_received(self, data: bytes) -> None:
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._in_request = True
            self._head_bytes = 0
        elif not self._in_request and self._body.is_eof():
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self.abort()
        if data and self._socket and (self.is_answering or self.writing_paused):
            # The client's next request can wait outside.
            self._is_held = True
            self._socket.pause_reading()

    def finish_request(self, request: web.BaseRequest) -> None:
        """Goes on to the next request; the rest of this one's body may still have to come."""
        self.is_answering = False
        self._in_request = bool(self._messages)
        self._body = request.content
        self._read_on()

    def _read_on(self) -> None:
        if self._is_held and self._socket and not (self.is_answering or self.writing_paused):
            self._is_held = False
            # If aiohttp has stopped reading as well, it goes on by itself.
            if not (self._reading_paused or self._buffer_paused):
                self._socket.resume_reading()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        resp.headers.setdefault('Server', _SERVER)
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: Any = None, message: Any = None
    ) -> web.StreamResponse:
        """Answers what aiohttp cannot read as HTTP: with JSON, as every other error."""
        if request.writer.output_size > 0:
            raise ConnectionError('a part of the answer has been sent')
        # Behind the first line aiohttp shows the place, in several lines.
        what = (message or '').partition('\n')[0].rstrip(' :.')
        body = error_json(f'The request is no valid HTTP: {what}' if what else 'The server failed')
        response = web.Response(status=status, body=body, content_type='application/json')
        response.force_close()
        return response

    def abort(self) -> None:
        """Ends the connection at once, even if something is still to be written."""
        if self._socket:
            self._socket.abort()


def _peer(transport: asyncio.Transport) -> str:
    address = (transport.get_extra_info('peername') or ('',))[0]
    try:
        ip = ipaddress.ip_address(address.partition('%')[0])
    except ValueError:
        return ''
    if isinstance(ip, ipaddress.IPv6Address) and not ip.ipv4_mapped:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return address


def _refuse(accepted: socket.socket) -> None:
    """Refuses a connection without reading from it, since all connections are busy."""
    body = error_json('The server is busy with all its connections (--max_connections)')
    head = (
        'HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n'
        f'Content-Length: {len(body)}\r\nServer: {_SERVER}\r\nConnection: close\r\n\r\n'
    )
    with accepted, contextlib.suppress(OSError):
        accepted.setblocking(False)
        accepted.send(head.encode() + body)
