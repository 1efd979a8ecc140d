"""Bodies, received from real connections."""

import asyncio
import contextlib
import gzip
import socket
import zlib

from aiohttp import web

from serving.web.bodies import SMALL_BYTES, Bodies, Body, BodyError

_LARGEST = 1 << 20


class _Asked:
    """A server that answers with the size of the body and says what went wrong."""

    def __init__(self, address, bodies):
        self.address = address
        self.bodies = bodies

    async def send(self, *parts, headers=''):
        """Reader and writer of a connection over which parts of a body were sent."""
        reader, writer = await asyncio.open_connection(*self.address)
        head = f'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}'
        writer.write(f'{head}Transfer-Encoding: chunked\r\n\r\n'.encode())
        for part in parts:
            writer.write(b'%x\r\n%s\r\n' % (len(part), part))
            await writer.drain()
        return reader, writer

    async def ask(self, *parts, headers=''):
        """Status and text of the answer to a whole body."""
        reader, writer = await self.send(*parts, headers=headers)
        writer.write(b'0\r\n\r\n')
        answer = await _answer(reader)
        writer.close()
        return answer

    async def until_held(self, size):
        while self.bodies.large_bytes != size:
            await asyncio.sleep(0.01)


async def _answer(reader):
    head, _, body = (await reader.read()).partition(b'\r\n\r\n')
    return int(head.split()[1]), body.decode()


def _run(scenario, seconds=5.0):
    async def run():
        bodies = Bodies(_LARGEST, seconds)

        async def handle(request):
            body = Body()
            try:
                await bodies.receive(request, body)
                return web.Response(text=str(zlib.crc32(body.content)))
            except BodyError as error:
                return web.Response(status=error.http_status, text=error.message)
            finally:
                bodies.release(body)

        server = web.Server(handle, auto_decompress=False, lingering_time=0.1)
        runner = web.ServerRunner(server)
        await runner.setup()
        with socket.socket() as listener:
            listener.bind(('127.0.0.1', 0))
            await web.SockSite(runner, listener).start()
            try:
                await asyncio.wait_for(scenario(_Asked(listener.getsockname(), bodies)), 20)
                await _Asked(None, bodies).until_held(0)
            finally:
                await runner.cleanup()

    asyncio.run(run())


def _encoding(name):
    return f'Content-Encoding: {name}\r\n'


def test_bodies_come_decompressed():
    body = b'{"instances": [1]}' * 20_000
    half = len(body) // 2
    members = gzip.compress(body[:half]) + gzip.compress(body[half:])
    sent = {
        '': body,
        _encoding('identity'): body,
        _encoding('gzip'): gzip.compress(body),
        _encoding('GZIP'): members,
        _encoding('x-gzip'): gzip.compress(body),
        _encoding('deflate'): zlib.compress(body),
    }

    async def scenario(asked):
        for headers, content in sent.items():
            for size in (len(content), 1000):
                parts = [content[i : i + size] for i in range(0, len(content), size)]
                answer = await asked.ask(*parts, headers=headers)
                assert answer == (200, str(zlib.crc32(body))), headers

    _run(scenario)


def test_bodies_that_cannot_be_decompressed_are_refused():
    content = gzip.compress(b'{}' * 1000)

    async def scenario(asked):
        gzipped = _encoding('gzip')
        cut_off = 400, 'The body ends in the middle of its gzip data'
        assert await asked.ask(content[:-1], headers=gzipped) == cut_off
        assert await asked.ask(content[:5], headers=gzipped) == cut_off
        status, message = await asked.ask(content + b'more', headers=gzipped)
        assert status == 400
        assert 'The body is not gzip' in message
        status, message = await asked.ask(b'{"instances": []}', headers=gzipped)
        assert status == 400
        assert 'The body is not gzip' in message
        status, message = await asked.ask(b'x', headers=_encoding('br'))
        assert status == 415
        assert 'Content-Encoding is br; gzip, deflate' in message
        large = gzip.compress(bytes(_LARGEST + 1))
        assert len(large) < 2000
        status, message = await asked.ask(large, headers=gzipped)
        assert status == 413
        assert 'larger than the 1 MB that are allowed' in message
        empty = gzip.compress(b'') * 20_000
        status, message = await asked.ask(empty, headers=gzipped)
        assert status == 400
        assert 'more than 10,000 gzip members' in message

    _run(scenario)


def test_unfinished_bodies_keep_nobody_out():
    """The one that has held the most for the longest is refused, and small ones need no room."""
    data = zlib.compressobj(wbits=31)
    content = data.compress(bytes(_LARGEST - 10)) + data.flush(zlib.Z_SYNC_FLUSH)

    async def scenario(asked):
        async with contextlib.AsyncExitStack() as stack:
            held = []
            for count in range(1, 5):
                held.append(await asked.send(content, headers=_encoding('gzip')))
                stack.callback(held[-1][1].close)
                await asked.until_held(count * (_LARGEST - 10))
                await asyncio.sleep(0.05)
            assert (await asked.ask(bytes(SMALL_BYTES)))[0] == 200
            assert asked.bodies.large_bytes == 4 * (_LARGEST - 10)
            assert (await asked.ask(bytes(_LARGEST)))[0] == 200
            status, message = await _answer(held[0][0])
            assert status == 429
            assert 'Too many large requests at the same time' in message
            # Only as many go as there must.
            await asked.until_held(3 * (_LARGEST - 10))

    _run(scenario)


def test_a_body_that_comes_too_slowly_is_given_up():
    async def scenario(asked):
        reader, writer = await asked.send(b' ' * 100_000)
        assert await _answer(reader) == (408, 'The body did not come within 0.3 seconds')
        writer.close()

    _run(scenario, seconds=0.3)


def test_clients_that_hang_up_leave_nothing_behind():
    async def scenario(asked):
        _, writer = await asked.send(bytes(SMALL_BYTES + 1))
        await asked.until_held(SMALL_BYTES + 1)
        writer.close()

    _run(scenario)
