"""What must not harm a server: malformed requests, models that change under load, slow clients."""

import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import select
import shutil
import socket
import threading
import time
import urllib.parse

import pytest
from malformed_requests import good_request, malformed_request
from rest_server import request, rest_server
from saved_models import half_plus_two

_TIMEOUT = 30  # seconds
_HEAD = b'POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\n'


@pytest.fixture(scope='module')
def url(tmp_path_factory):
    """Half plus two on a server."""
    folder = str(tmp_path_factory.mktemp('half'))
    half_plus_two(folder)
    with rest_server('--model_name=half', f'--model_base_path={folder}', '--max_body_mb=1') as url:
        yield url


def _address(url):
    host, port = urllib.parse.urlsplit(url).netloc.split(':')
    return host, int(port)


class _Client:
    """Sends bytes as they are, over one connection as long as the server keeps it."""

    def __init__(self, url):
        self._address = _address(url)
        self._socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()

    def hang_up(self):
        if self._socket:
            self._socket.close()
            self._socket = None

    def ask(self, text):
        """Status and body of the answer; within five seconds."""
        if not self._socket:
            self._socket = socket.create_connection(self._address, 5)
        self._socket.sendall(text)
        with http.client.HTTPResponse(self._socket) as answer:
            answer.begin()
            status, body = answer.status, answer.read()
            if answer.will_close:
                self.hang_up()
        return status, body


def _send_malformed_requests(url, seed, count):
    source = random.Random(seed)
    with _Client(url) as client:
        for _ in range(count):
            text, is_http = malformed_request(source)
            status, body = client.ask(text)
            assert 400 <= status < 500, (status, body, text)
            if is_http:
                assert list(json.loads(body)) == ['error']
            else:
                client.hang_up()
        assert client.ask(good_request(source))[0] == 200


def test_what_malformed_requests_are_made_of_is_good(url):
    source = random.Random(0)
    with _Client(url) as client:
        for _ in range(100):
            text = good_request(source)
            status, body = client.ask(text)
            assert status == 200, (text, body)


def test_a_thousand_malformed_requests(url):
    _send_malformed_requests(url, 1, 1000)


@pytest.mark.slow
def test_ten_thousand_malformed_requests(url):
    _send_malformed_requests(url, 2, 10_000)


class _Load:
    """Clients that ask without a pause; `answers` are the distinct answers, `errors` the others."""

    def __init__(self, url, clients=4):
        self.answers: collections.Counter = collections.Counter()
        self.errors = []
        self._stop = threading.Event()
        self._address = _address(url)
        self._path = urllib.parse.urlsplit(url).path + ':predict'
        self._clients = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for client in self._clients:
            client.join()

    def _ask(self):
        host, port = self._address
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        while not self._stop.is_set():
            try:
                connection.request('POST', self._path, '{"instances": [0]}')
                response = connection.getresponse()
                text = response.read().decode()
            except OSError as error:
                self.errors.append(error)
                return
            if response.status == 200:
                self.answers[text] += 1
            else:
                self.errors.append(text)


def _wait_for(condition):
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _reload(tmp_path, count):
    """Replaces a model `count` times while clients ask it."""
    models = tmp_path / 'models'
    exports = [
        half_plus_two(str(tmp_path / 'exports'), version, plus=float(version))
        for version in range(3)
    ]

    def publish(version):
        shutil.copytree(exports[version % 3], tmp_path / 'copy')
        os.makedirs(models, exist_ok=True)
        os.rename(tmp_path / 'copy', models / str(version))

    def served(url):
        versions = json.loads(request('GET', url)[2])['model_version_status']
        return [each['version'] for each in versions if each['state'] == 'AVAILABLE']

    publish(1)
    with rest_server(
        '--model_name=m',
        f'--model_base_path={models}',
        '--file_system_poll_wait_seconds=0.01',
    ) as url:
        with _Load(url) as load:
            for version in range(2, 2 + count):
                publish(version)
                _wait_for(lambda: served(url) == [str(version)])  # noqa: B023
                shutil.rmtree(models / str(version - 1))
            asked = load.answers.total()
            _wait_for(lambda: load.answers.total() > asked + 10)
        assert load.errors == []
        assert {json.loads(text)['predictions'][0] for text in load.answers} == {0.0, 1.0, 2.0}


def test_ten_reloads_under_load_fail_no_request(tmp_path):
    _reload(tmp_path, 10)


@pytest.mark.slow
def test_a_hundred_reloads_under_load_fail_no_request(tmp_path):
    _reload(tmp_path, 100)


@contextlib.contextmanager
def _slow_clients(url, texts, beginning=b''):
    """Connections that send one byte a second of each text, as long as the context lasts.

    They send `beginning` at once and before.
    """
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(_address(url), _TIMEOUT)) for _ in texts
        ]
        for client in clients:
            client.sendall(beginning)

        def send():
            for position in itertools.count():
                for client, text in zip(clients, texts, strict=True):
                    client.sendall(text[position : position + 1])
                if stop.wait(1):
                    return

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield clients
        finally:
            stop.set()
            sender.join()


def test_clients_that_send_a_byte_a_second_hold_up_nobody(url):
    body = b'{"instances": [1.0]}'
    with _slow_clients(url, [_HEAD] * 50) as clients:
        # These send only the ends of their bodies slowly.
        beginning = _HEAD + b'Content-Length: %d\r\n\r\n' % len(body) + body[:-3]
        with _slow_clients(url, [body[-3:]] * 50, beginning) as others:
            start = time.monotonic()
            for _ in range(100):
                assert request('POST', f'{url}:predict', body)[0] == 200
            assert time.monotonic() - start < 5
            # A slow client that is done at last is answered like anybody.
            for other in others:
                assert other.recv(1000).startswith(b'HTTP/1.1 200 OK')
        assert not select.select(clients, [], [], 0)[0]
