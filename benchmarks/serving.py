"""The server under load, over loopback, with and without batching, beside the bare call.

`python -m benchmarks.serving` takes about two minutes. The clients share one process; each sends
the next image when it has the answer to the last one. They are plain sockets, because an HTTP
client in Python would add half a millisecond to each request. The bare call is a call of the
server's own function in a process that does nothing else, with one image or with 32: there
`connections` are the images of a call, and `requests_per_s` counts images. All of them take turns.
`ready_s` is how many seconds a server takes to be ready, `idle_cpu` the share of a processor core
that it takes while nobody asks.

Without `--model`, requests go to a network with its first weights, with the signature `pixels`: 784
numbers each. A pushed model, `--model var/serving_model/capsnet/VERSION`, can also be asked with
PNGs, as people do: `--signature serving_default`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import multiprocessing
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import psutil

import start_tensorflow
from benchmarks.inference import export
from benchmarks.interleaved import report

_CONNECTIONS = (1, 8, 32)
# Of a bare call: one, and as many as there are connections at most.
_IMAGES = (1, max(_CONNECTIONS))
_IDLE_SECONDS = 5
# The name of each signature's input.
_INPUTS = {'pixels': 'pixels', 'serving_default': 'image_bytes'}
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_BATCHING = os.path.join(_ROOT, 'serving', 'config', 'batching.config')
_BATCHED = 'server, batching'
# For each row: the flags of the server.
_SERVERS: dict[str, tuple[str, ...]] = {
    'server': (),
    _BATCHED: ('--enable_batching', f'--batching_parameters_file={_BATCHING}'),
}

_COLUMNS = {
    'name': '',
    'connections': '',
    'requests_per_s': '.1f',
    'p50_ms': '.2f',
    'p99_ms': '.2f',
    'over_bare': '+.1%',
    'ratio_to_unbatched': '.2f',
    'ready_s': '.1f',
    'idle_cpu': '.2%',
}


class Server(NamedTuple):
    """A running server: the URL of its model, the seconds until it was ready, its process."""

    url: str
    ready_s: float
    process: psutil.Process

    def idle_cpu(self) -> float:
        """The share of a processor core that it takes while nobody asks."""
        before = sum(self.process.cpu_times()[:2])
        time.sleep(_IDLE_SECONDS)
        return (sum(self.process.cpu_times()[:2]) - before) / _IDLE_SECONDS


class Sample(NamedTuple):
    """The measurements of one turn: images a second, and the seconds of each request or call."""

    rate: float
    latencies: list[float]


def serve_calls(pipe: Any, directory: str, signature: str) -> None:
    """Receives (images of a call, seconds), makes bare calls for that time, sends their Sample."""
    from serving.models.model import LoadedModel

    model = LoadedModel(directory)
    image = _image()[np.newaxis] if signature == 'pixels' else np.array([_png()], object)
    while True:
        latencies = []
        images, end = pipe.recv()
        inputs = {_INPUTS[signature]: np.repeat(image, images, axis=0)}
        start = now = time.perf_counter()
        end += start
        while now < end:
            model.run(signature, inputs)
            latencies.append(time.perf_counter() - now)
            now += latencies[-1]
        pipe.send(Sample(images * len(latencies) / (now - start), latencies))


def serve_requests(pipe: Any) -> None:
    """Receives (URL, signature, connections, seconds), and sends the Sample of those requests."""
    while True:
        pipe.send(_ask(*pipe.recv()))


class _Client:
    """A connection to a server, which sends one request after another."""

    def __init__(self, url: str, signature: str):
        is_png = signature != 'pixels'
        image = {'b64': base64.b64encode(_png()).decode()} if is_png else _image().tolist()
        content = json.dumps({'signature_name': signature, 'instances': [image]}).encode()
        parts = urllib.parse.urlsplit(url)
        head = f'POST {parts.path}:predict HTTP/1.1\r\nHost: {parts.netloc}\r\n'
        self._request = f'{head}Content-Length: {len(content)}\r\n\r\n'.encode() + content
        self.socket = socket.create_connection((parts.hostname or '', parts.port or 80))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = 0
        self.asked = 0.0
        self.answered = 0.0
        self._received = b''

    def ask(self) -> None:
        self._received = b''
        self.asked = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Receives available bytes, and returns whether the answer is complete."""
        self._received += self.socket.recv(1 << 16)
        now = time.perf_counter()
        head, _, body = self._received.partition(b'\r\n\r\n')
        if not head.startswith(b'HTTP/1.1 200 '):
            raise SystemExit(f'The server answered: {self._received.decode()}')
        length = re.search(rb'(?i)\r\ncontent-length: (\d+)', head)
        if not length or len(body) < int(length[1]):
            return False
        self.answered = now
        self.answers += 1
        return True


def _ask(url: str, signature: str, connections: int, seconds: float) -> Sample:
    latencies = []
    clients = [_Client(url, signature) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        start = time.perf_counter()
        for client in clients:
            client.ask()
        while selector.get_map():
            for key, _ in selector.select():
                client = key.data
                if not client.receive():
                    continue
                latencies.append(client.answered - client.asked)
                if client.answered < start + seconds:
                    client.ask()
                else:
                    selector.unregister(client.socket)
                    client.socket.close()
    # Each client is counted until its last answer.
    rate = sum(client.answers / (client.answered - start) for client in clients)
    return Sample(rate, latencies)


def _image() -> np.ndarray:
    """A digit 1 in many shades of grey."""
    image = np.zeros([28, 28], np.uint8)
    image[4:24, 11:17] = np.random.default_rng(0).integers(128, 256, [20, 6])
    return image


def _png() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(_image()).save(file, 'PNG')
    return file.getvalue()


@contextlib.contextmanager
def _process(program: Callable[..., None], *arguments: Any) -> Iterator[Callable[..., Any]]:
    """Starts `program` in a process; yields a function that asks it and waits for its answer."""
    context = multiprocessing.get_context('spawn')
    pipe, end = context.Pipe()
    process = context.Process(target=program, args=(end, *arguments), daemon=True)
    process.start()
    end.close()

    def ask(question: Any) -> Any:
        pipe.send(question)
        return pipe.recv()

    try:
        yield ask
    except EOFError:
        raise SystemExit('A measured program has ended early: see what it says above.') from None
    finally:
        process.terminate()


@contextlib.contextmanager
def _server(base_path: str, flags: tuple[str, ...]) -> Iterator[Server]:
    """Starts a server, and yields it when it is ready."""
    command = [
        *(sys.executable, '-W', 'ignore', '-m', 'serving.server', '--rest_api_port=0'),
        *('--model_name=capsnet', f'--model_base_path={base_path}', *flags),
    ]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            ready = re.search(r'at (http://\S+)', process.stdout.readline())
            if not ready:
                raise SystemExit('The server did not start: see what it says above.')
            yield Server(ready[1], time.monotonic() - started, psutil.Process(process.pid))
        finally:
            process.terminate()


def _samples(
    base_path: str, signature: str, turns: int, seconds: float
) -> tuple[dict[tuple[str, int], list[Sample]], dict[str, dict[str, float]]]:
    """The samples of all turns, by the row's name and the number of connections.

    Also, by the name of each server, what it is like while nobody asks.
    """
    samples: dict[tuple[str, int], list[Sample]] = {}
    with contextlib.ExitStack() as stack:
        call = stack.enter_context(_process(serve_calls, f'{base_path}/1', signature))
        request = stack.enter_context(_process(serve_requests))
        servers = {
            name: stack.enter_context(_server(base_path, flags)) for name, flags in _SERVERS.items()
        }
        for turn in range(1 + turns):
            # The first turn is a warm-up.
            length = seconds if turn else 0.5
            sampled = {('bare call', images): call((images, length)) for images in _IMAGES}
            for connections in _CONNECTIONS:
                for name, server in servers.items():
                    sampled[name, connections] = request(
                        (server.url, signature, connections, length)
                    )
            if turn:
                for row, sample in sampled.items():
                    samples.setdefault(row, []).append(sample)
        idle = {
            name: {'ready_s': server.ready_s, 'idle_cpu': server.idle_cpu()}
            for name, server in servers.items()
        }
    return samples, idle


def _rows(base_path: str, signature: str, turns: int, seconds: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    all_samples, idle = _samples(base_path, signature, turns, seconds)
    for (name, connections), samples in all_samples.items():
        latencies = [latency for sample in samples for latency in sample.latencies]
        row = {
            'name': name,
            'connections': connections,
            'requests_per_s': statistics.median(sample.rate for sample in samples),
            'p50_ms': 1000 * statistics.median(latencies),
            'p99_ms': 1000 * float(np.quantile(latencies, 0.99)),
        }
        if connections == 1:
            bare = (rows or [row])[0]
            row['over_bare'] = row['p50_ms'] / bare['p50_ms'] - 1
            row |= idle.get(name, {})
        if name == _BATCHED:
            row['ratio_to_unbatched'] = row['requests_per_s'] / rows[-1]['requests_per_s']
        rows.append(row)
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=7, help='turns that the medians are over')
    parser.add_argument('--seconds', type=float, default=2, help='seconds for each row in a turn')
    parser.add_argument('--model', help='a folder with an exported model')
    parser.add_argument(
        '--signature', choices=_INPUTS, default='pixels', help='the signature to ask'
    )
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if arguments.signature != 'pixels' and not arguments.model:
        parser.error('only a pushed model has other signatures than pixels: name one with --model')
    start_tensorflow.load()
    with tempfile.TemporaryDirectory() as base_path:
        if arguments.model:
            os.symlink(os.path.abspath(arguments.model), f'{base_path}/1')
        else:
            export('ours', f'{base_path}/1')
        rows = _rows(base_path, arguments.signature, arguments.turns, arguments.seconds)
        report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
