"""Bounds of connections, on real sockets."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys

import pytest
from aiohttp import web
from project_paths import PROGRAMS
from slow_client import slow_client

from serving.web.connections import Connections

_GET = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
_WAIT = _GET.replace(b'/', b'/wait', 1)
_PATIENCE = 20  # seconds


class _World:
    """Connections, where they are accepted, and what has been asked."""

    def __init__(self, connections, address):
        self.connections = connections
        self.address = address
        self.go_on = asyncio.Event()
        self.asked = []

    async def handle(self, request):
        await request.read()
        self.asked.append(request.path)
        if request.path == '/wait':
            self.connections.answering(request)
            await self.go_on.wait()
        return web.Response(body=b'x' * 1000)

    async def connect(self, source='127.0.0.1', text=b''):
        streams = await asyncio.open_connection(*self.address, local_addr=(source, 0))
        streams[1].write(text)
        return streams

    async def is_answered(self, source='127.0.0.1'):
        reader, writer = await self.connect(source, _GET)
        with contextlib.suppress(ConnectionError):
            answer = await reader.read(1000)
            writer.close()
            return answer.startswith(b'HTTP/1.1 200 ')


def _run(scenario, most=4, idle_seconds=60.0, write_seconds=60.0):
    async def run():
        async def handle(request):
            return await world.handle(request)

        connections = Connections(handle, most, idle_seconds, write_seconds)
        with socket.socket() as listener:
            listener.bind(('127.0.0.1', 0))
            world = _World(connections, listener.getsockname())
            async with connections.listening(listener, 0.1):
                await asyncio.wait_for(scenario(world), _PATIENCE)

    asyncio.run(run())


async def _is_closed(reader):
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(1), _PATIENCE) == b''
    return True


async def _is_open(reader):
    try:
        await asyncio.wait_for(reader.read(1), 0.1)
    except asyncio.TimeoutError:
        return True
    return False


@pytest.mark.parametrize(
    'beginning',
    [b'', b'GET / HT', _GET.replace(b'GET', b'POST')[:-2] + b'Content-Length: 9\r\n\r\n'],
)
def test_when_all_are_taken_the_one_that_waits_longest_makes_way(capfd, beginning):
    async def scenario(world):
        silent = [await world.connect(text=beginning) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert await world.is_answered()
        assert await _is_closed(silent[0][0])
        assert await _is_open(silent[3][0])
        for _ in range(20):
            assert await world.is_answered()

    _run(scenario)
    said = capfd.readouterr().err.splitlines()
    assert said == [
        'There are 4 connections (--max_connections): for each new one, the one that has been idle '
        'longest is closed.'
    ]


def test_who_has_most_connections_loses_one():
    async def scenario(world):
        lonely, _ = await world.connect('127.0.0.2')
        greedy = [await world.connect('127.0.0.3') for _ in range(3)]
        await asyncio.sleep(0.1)
        assert await world.is_answered('127.0.0.4')
        assert await _is_closed(greedy[0][0])
        assert await _is_open(lonely)

    _run(scenario)


def test_whoever_is_being_answered_stays():
    async def scenario(world):
        busy = [await world.connect(text=_WAIT) for _ in range(4)]
        while len(world.asked) < 4:
            await asyncio.sleep(0.01)
        reader, _ = await world.connect()
        head, body = (await reader.read()).split(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 503 Service Unavailable\r\n')
        assert list(json.loads(body)) == ['error']
        world.go_on.set()
        for reader, _ in busy:
            assert (await reader.readline()).startswith(b'HTTP/1.1 200 ')
        assert await world.is_answered()

    _run(scenario)


def test_answers_that_nobody_reads_end_the_connection():
    async def flood(client):
        for _ in range(50):
            with contextlib.suppress(asyncio.TimeoutError):
                sending = asyncio.get_running_loop().sock_sendall(client, _GET * 100_000)
                await asyncio.wait_for(sending, 0.1)

    async def scenario(world):
        async with slow_client(world.address) as client:
            with pytest.raises(ConnectionError):
                await flood(client)
        # What is answered lies in the system's buffers, and the rest was not even read.
        assert len(world.asked) < 50_000

    _run(scenario, write_seconds=0.5)


def test_who_reads_slowly_is_given_the_time():
    async def scenario(world):
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with slow_client(world.address) as client:
            await loop.sock_sendall(client, _GET * 300)
            left = 300 * 1000
            while left > 0:
                answers = await loop.sock_recv(client, 4096)
                assert answers, 'it was closed'
                left -= answers.count(b'x')
                await asyncio.sleep(0.01)
        # The server had to wait for the client time and again.
        assert loop.time() - started > 0.5

    _run(scenario, write_seconds=0.3)


def test_a_head_has_a_largest_size():
    async def scenario(world):
        reader, writer = await world.connect(text=_GET[:-2])
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                writer.write(b'a%d: %s\r\n' % (number, b'b' * 1000))
                await writer.drain()
        assert await _is_closed(reader)
        # Beside a large body it is not taken for a part of it.
        large = _GET.replace(b'GET', b'POST')[:-2] + b'Content-Length: 200000\r\n\r\n'
        reader, writer = await world.connect(text=large + b' ' * 200_000 + _GET)
        for _ in range(2):
            assert (await reader.readuntil(b'\r\n\r\n')).startswith(b'HTTP/1.1 200 ')
            await reader.readexactly(1000)

    _run(scenario)


def test_what_is_asked_beside_a_request_that_runs_waits_outside():
    async def scenario(world):
        _, writer = await world.connect(text=_WAIT)
        while not world.asked:
            await asyncio.sleep(0.01)
        sent = 0
        with contextlib.suppress(asyncio.TimeoutError):
            while sent < 50 << 20:
                writer.write(_GET * 1000)
                sent += 1000 * len(_GET)
                await asyncio.wait_for(writer.drain(), 0.3)
        assert sent < 50 << 20
        # Python closes the connection of a writer that is lost.
        reader, kept_open = await world.connect(text=_WAIT + _GET)
        while len(world.asked) < 2:
            await asyncio.sleep(0.01)
        world.go_on.set()
        for _ in range(2):
            assert (await reader.readuntil(b'\r\n\r\n')).startswith(b'HTTP/1.1 200 ')
            await reader.readexactly(1000)
        kept_open.close()

    _run(scenario)


class _From(asyncio.Transport):
    """A connection from an address: this machine has one of IPv6 alone."""

    def __init__(self, address):
        super().__init__({'peername': (address, 1234, 0, 0)})

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ('addresses', 'peer'),
    [
        # Each client has the whole of a network.
        (['2001:db8:0:5::1', '2001:db8::5:ffff:0:0:9'], '2001:db8:0:5::/64'),
        (['2001:db8:0:6::1'], '2001:db8:0:6::/64'),
        (['fe80::1%eth0', 'fe80::2'], 'fe80::/64'),
        # IPv4 at a socket for both: all of these are in one network of IPv6.
        (['::ffff:192.0.2.7'], '::ffff:192.0.2.7'),
        (['192.0.2.7'], '192.0.2.7'),
        ([''], ''),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(addresses, peer):
    async def scenario(world):
        for address in addresses:
            connection = world.connections()
            connection.connection_made(_From(address))
            assert connection.peer == peer
            connection.connection_lost(None)

    _run(scenario)


def test_the_server_header_tells_no_versions():
    async def scenario(world):
        for text in (_GET, b'nonsense\r\n\r\n'):
            reader, _ = await world.connect(text=text)
            head = (await reader.readuntil(b'\r\n\r\n')).decode()
            assert '\r\nServer: capsnet\r\n' in head

    _run(scenario)


@pytest.mark.parametrize(
    ('hard', 'taken', 'raised', 'said'),
    [
        # The soft limit is raised, and half of so few are for connections.
        (128, 0, 128, 'There are 64 connections (--max_connections): '),
        (128, 90, 128, 'Too many open files at '),
        (4096, 0, 756, ''),
    ],
)
def test_it_gets_along_with_few_descriptors(root, hard, taken, raised, said):
    with _few_descriptors(root, hard, taken) as (process, connect):
        for _ in range(150):
            connect()
        for _ in range(20):
            client = connect()
            client.sendall(_GET)
            assert client.recv(1000).endswith(str(raised).encode())
            client.close()
        process.kill()
        complained = process.stdout.read().splitlines()
    assert len(complained) == bool(said)
    assert all(line.startswith(said) for line in complained)


def test_it_accepts_again_once_there_are_descriptors(root):
    with _few_descriptors(root, 128, 90) as (process, connect):

        def ask():
            # It meets whole requests, since it could close a connection that waits for its client.
            process.send_signal(signal.SIGSTOP)
            clients.append(connect())
            clients[-1].sendall(_WAIT)
            process.send_signal(signal.SIGCONT)

        clients: list[socket.socket] = []
        said = 'busy\n'
        while said == 'busy\n':
            ask()
            said = process.stdout.readline()
        assert said.startswith('Too many open files at ')
        ask()  # for this one there is no descriptor
        process.stdin.write('go on\n')
        process.stdin.flush()
        for client in clients:
            assert client.recv(1000).startswith(b'HTTP/1.1 200 ')
            client.close()


@contextlib.contextmanager
def _few_descriptors(root, hard, taken):
    """A server with a hard limit of descriptors of which some are taken, and a way to connect."""
    program = PROGRAMS / 'listen_with_few_descriptors.py'
    command = f'ulimit -Sn 64; ulimit -Hn {hard}; exec "$@"'
    with (
        subprocess.Popen(
            ['bash', '-c', command, 'bash', sys.executable, program, str(taken)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        address = '127.0.0.1', int(process.stdout.readline())

        def connect():
            return stack.enter_context(socket.create_connection(address, 5))

        yield process, connect
