"""The service's bounds, on a real listener and with a real model that takes its time."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import socket
import threading
import time

import aiohttp
import pytest
from busy_model import busy_model
from project_paths import ROOT
from slow_client import slow_client

from serving.config_files import BatchingOptions, single_model_config
from serving.metrics import Metrics
from serving.models.manager import ModelManager
from serving.models.model import LoadedModel
from serving.requests.batching import Batcher
from serving.web import connections
from serving.web.origins import Origins
from serving.web.rest import Limits, RestService

_LIMITS = Limits()
_PREDICT = b'POST /v1/models/busy:predict HTTP/1.1\r\nHost: x\r\n'


@pytest.fixture(scope='module')
def manager(tmp_path_factory):
    """The model `busy`, which takes as many seconds as it is asked to."""
    folder = tmp_path_factory.mktemp('busy')
    busy_model(str(folder))
    manager = ModelManager(single_model_config('busy', str(folder)), 0)
    manager.start(wait_for_first=True)
    yield manager
    manager.close()


@dataclasses.dataclass
class _Asked:
    """A service that listens, where, what it counts, and a client of it."""

    service: RestService
    address: tuple[str, int]
    metrics: Metrics
    session: aiohttp.ClientSession

    async def predict(self, *seconds, signature='serving_default'):
        """Status and JSON of the answer."""
        url = 'http://{}:{}/v1/models/busy:predict'.format(*self.address)
        data = json.dumps({'signature_name': signature, 'instances': seconds})
        async with self.session.post(url, data=data) as response:
            return response.status, await response.json()

    async def connect(self):
        return await asyncio.open_connection(*self.address)

    async def until_pending(self, count):
        while self.service.pending != count:
            await asyncio.sleep(0.01)


def _run(
    manager,
    scenario,
    limits=_LIMITS,
    threads=4,
    batching=None,
    origins=Origins(is_local=False),  # noqa: B008
    demo_dir=None,
):
    """The result of the coroutine function `scenario`, given an `_Asked`."""

    async def run():
        metrics = Metrics()
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(concurrent.futures.ThreadPoolExecutor(threads))
            batcher = batching and Batcher(batching, executor, metrics)
            service = RestService(
                manager,
                ['busy'],
                executor,
                batcher,
                metrics,
                '/metrics',
                demo_dir,
                limits,
                origins,
            )
            stack.callback(service.close)
            listener = stack.enter_context(socket.socket())
            listener.bind(('127.0.0.1', 0))
            async with service.listening(listener), aiohttp.ClientSession() as session:
                asked = _Asked(service, listener.getsockname(), metrics, session)
                return await asyncio.wait_for(scenario(asked), 30)

    return asyncio.run(run())


class _Held:
    """The runs of the model that are asked for more than 0 seconds: each waits for `go_on`."""

    def __init__(self, monkeypatch):
        self.go_on = threading.Event()
        self.begun: list[object] = []
        run = LoadedModel.run

        def hold(model, name, inputs, **options):
            if inputs['seconds'].any():
                self.begun.append(inputs)
                assert self.go_on.wait(10)
            return run(model, name, inputs, **options)

        monkeypatch.setattr(LoadedModel, 'run', hold)


@pytest.fixture
def held(monkeypatch):
    return _Held(monkeypatch)


def _count(metrics, status):
    name = f':tensorflow:serving:request_count{{model_name="busy",status="{status}"}}'
    lines = metrics.page().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize('batching', [None, BatchingOptions(num_batch_threads=4)])
def test_what_takes_too_long_is_given_up(manager, batching):
    async def scenario(asked):
        status, answer = await asked.predict(1.0)
        assert status == 504
        assert answer['error'] == (
            'There was no answer within 0.3 seconds (--rest_api_timeout_in_ms)'
        )
        assert _count(asked.metrics, 'DEADLINE_EXCEEDED') == 1
        of_version = 'capsnet_serving_request_count{model_name="busy",status="DEADLINE_EXCEEDED"'
        assert of_version in asked.metrics.page().decode()
        while await asked.predict(0.0) != (200, {'predictions': [0.0]}):
            pass

    _run(manager, scenario, Limits(timeout=0.3), batching=batching)


def test_without_a_model_there_is_no_page(manager):
    async def scenario(asked):
        asked.service.model_names = []
        for path in ('/demo/', '/demo/card', '/demo/card?model=busy'):
            async with asked.session.get('http://{}:{}'.format(*asked.address) + path) as response:
                assert response.status == 404
                assert await response.json() == {'error': f'Malformed request: GET {path}'}

    _run(manager, scenario, demo_dir=os.path.join(ROOT, 'serving', 'demo'))


@pytest.mark.parametrize(
    'batching', [None, BatchingOptions(max_batch_size=64, num_batch_threads=1)]
)
def test_costly_requests_do_not_hold_up_light_ones(manager, held, batching):
    async def scenario(asked):
        costly = [asyncio.create_task(asked.predict(*[0.1] * 20)) for _ in range(2)]
        await asked.until_pending(2)
        while not held.begun:
            await asyncio.sleep(0.01)
        assert await asked.predict(0.0) == (200, {'predictions': [0.0]})
        assert not any(task.done() for task in costly)
        held.go_on.set()
        assert [status for status, _ in await asyncio.gather(*costly)] == [200, 200]

    _run(manager, scenario, threads=1, batching=batching)


def test_more_instances_than_allowed_are_refused(manager):
    async def scenario(asked):
        assert (await asked.predict(0.0, 0.0))[0] == 200
        status, answer = await asked.predict(0.0, 0.0, 0.0)
        assert status == 400
        assert answer['error'] == (
            'The request has 3 instances; at most 2 are allowed (--max_instances)'
        )

    for batching in (None, BatchingOptions()):
        _run(manager, scenario, Limits(instances=2), batching=batching)


def test_what_was_given_up_before_it_began_never_runs(manager, held):
    async def scenario(asked):
        answers = await asyncio.gather(*(asked.predict(0.1) for _ in range(5)))
        assert [status for status, _ in answers] == [504] * 5
        held.go_on.set()
        while (await asked.predict(0.0))[0] != 200:
            pass
        # One ran to its end, the others were in the queue.
        assert len(held.begun) <= 1

    _run(manager, scenario, Limits(timeout=0.5), threads=1)


def test_requests_run_at_the_same_time_in_all_threads(manager, monkeypatch):
    together = threading.Barrier(4)
    run = LoadedModel.run

    def meet(*asked):
        together.wait(10)
        return run(*asked)

    async def scenario(asked):
        monkeypatch.setattr(LoadedModel, 'run', meet)
        answers = await asyncio.gather(*(asked.predict(0.0) for _ in range(4)))
        assert [status for status, _ in answers] == [200] * 4

    _run(manager, scenario, threads=4)


def test_an_error_that_nobody_expected_fails_its_request_alone(manager, monkeypatch, capfd):
    def run(*_):
        raise RuntimeError('secret')

    async def scenario(asked):
        with monkeypatch.context() as patched:
            patched.setattr(LoadedModel, 'run', run)
            failed = await asked.predict(0.0)
        assert failed == (500, {'error': 'The server failed over this request: RuntimeError'})
        assert _count(asked.metrics, 'INTERNAL') == 1
        assert await asked.predict(0.0) == (200, {'predictions': [0.0]})

    _run(manager, scenario)
    assert capfd.readouterr().err.splitlines() == [
        "POST /v1/models/busy:predict failed: RuntimeError('secret')"
    ]


def test_what_cannot_wait_is_refused_at_once(manager, held):
    async def scenario(asked):
        waiting = [asyncio.create_task(asked.predict(0.1)) for _ in range(2)]
        await asked.until_pending(2)
        status, answer = await asked.predict(0.0)
        assert not any(task.done() for task in waiting)
        assert status == 503
        assert answer['error'] == 'The server is busy with 2 requests (--max_pending_requests)'
        held.go_on.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert (await asked.predict(0.0))[0] == 200
        assert _count(asked.metrics, 'UNAVAILABLE') == 1

    _run(manager, scenario, Limits(pending=2), threads=1)


def test_there_are_no_more_connections_than_it_may_have(manager):
    async def scenario(asked):
        idle, _ = await asked.connect()
        await asked.connect()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(idle.read(), 5) == b''

    _run(manager, scenario, Limits(connections=1))


def test_batches_are_merged_and_bounded(manager):
    options = BatchingOptions(
        max_batch_size=2,
        batch_timeout_micros=100_000,
        max_enqueued_batches=1,
        num_batch_threads=1,
    )

    async def scenario(asked):
        running = asyncio.create_task(asked.predict(1.5, 1.5))
        await asked.until_pending(1)
        waiting = [asyncio.create_task(asked.predict(seconds)) for seconds in (0.25, 0.5)]
        await asked.until_pending(3)
        status, answer = await asked.predict(0.0)
        assert status == 503
        assert (
            'The batch scheduling queue to which this task was submitted is full'
            in (answer['error'])
        )
        assert await running == (200, {'predictions': [1.5, 1.5]})
        assert [answer for _, answer in await asyncio.gather(*waiting)] == [
            {'predictions': [0.25]},
            {'predictions': [0.5]},
        ]
        status, answer = await asked.predict(0.0, 0.0, 0.0)
        assert status == 400
        assert answer['error'] == 'Task size 3 is larger than maximum input batch size 2'
        page = asked.metrics.page()
        assert b':tensorflow:serving:batching_session:wrapped_run_count 2.0\n' in page

    _run(manager, scenario, batching=options)


def test_what_does_not_fit_the_signature_enters_no_batch(manager):
    options = BatchingOptions(max_batch_size=8, batch_timeout_micros=50_000, num_batch_threads=1)

    async def scenario(asked):
        wrong = [[0.1]], [[0.1, 0.2]], [[[0.1]]]
        answers = await asyncio.gather(
            *(asked.predict(*instances) for instances in wrong), asked.predict(0.0)
        )
        assert [status for status, _ in answers] == [400, 400, 400, 200]
        assert 'must have the shape [?], not [1, 2]' in answers[1][1]['error']
        assert b'processed_batch_size_sum 1.0\n' in asked.metrics.page()

    _run(manager, scenario, batching=options)


def test_a_signature_of_a_fixed_size_is_not_merged(manager):
    options = BatchingOptions(
        max_batch_size=8,
        batch_timeout_micros=50_000,
        num_batch_threads=1,
        allowed_batch_sizes=(4, 8),
    )

    async def scenario(asked):
        pairs = [(0.0, 0.01), (0.02, 0.03), (0.01, 0.0)]
        answers = await asyncio.gather(*(asked.predict(*pair, signature='pair') for pair in pairs))
        assert answers == [(200, {'predictions': list(pair)}) for pair in pairs]
        status, answer = await asked.predict(0.0, signature='pair')
        assert status == 400
        assert 'must have the shape [2], not [1]' in answer['error']

    _run(manager, scenario, batching=options)


def test_a_body_that_comes_too_slowly_is_given_up(manager, monkeypatch):
    monkeypatch.setattr(connections, '_LINGERING_SECONDS', 1.0)

    async def scenario(asked):
        reader, writer = await asked.connect()
        writer.write(_PREDICT + b'Content-Length: 100\r\n\r\n')
        start = time.monotonic()
        reading = asyncio.create_task(reader.read())
        with contextlib.suppress(ConnectionError):
            while not reading.done():
                writer.write(b' ')
                await asyncio.sleep(0.1)
        answer = await reading
        assert 0.4 < time.monotonic() - start < 6
        assert answer.startswith(b'HTTP/1.1 408 Request Timeout\r\n')
        assert answer.endswith(b'{"error": "The body did not come within 0.5 seconds"}')
        writer.close()

    _run(manager, scenario, Limits(transfer_seconds=0.5))


def test_a_head_that_comes_too_slowly_is_given_up(manager):
    async def scenario(asked):
        start = time.monotonic()
        silent, _ = await asked.connect()
        reader, writer = await asked.connect()
        with contextlib.suppress(ConnectionError):
            for byte in _PREDICT * 10:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                # The last byte may have come to a closed socket, which is answered by a reset.
                if reader.at_eof() or reader.exception():
                    break
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b''
        assert await silent.read() == b''
        assert 0.4 < time.monotonic() - start < 3

    _run(manager, scenario, Limits(idle_seconds=0.5))


def test_an_answer_that_is_not_taken_is_given_up(manager):
    # More than the sockets' buffers hold.
    body = json.dumps({'instances': [-1.2345679e-30] * 400_000}).encode()

    async def scenario(asked):
        asked.service._bodies._seconds = 20.0  # it takes time to come
        loop = asyncio.get_running_loop()
        async with slow_client(asked.address) as client:
            await loop.sock_sendall(client, _PREDICT + b'Content-Length: %d\r\n\r\n' % len(body))
            await loop.sock_sendall(client, body)
            taken = await loop.sock_recv(client, 1000)
            assert taken.startswith(b'HTTP/1.1 200 OK\r\n')
            assert (await asked.predict(0.0))[0] == 200
            await asyncio.sleep(1)
            with contextlib.suppress(ConnectionResetError):
                while chunk := await loop.sock_recv(client, 1 << 20):
                    taken += chunk
            assert len(taken) < len(body)

    _run(manager, scenario, Limits(transfer_seconds=0.5, instances=400_000))


def test_who_hangs_up_is_counted_and_no_longer_pending(manager):
    async def scenario(asked):
        for _ in range(3):
            _, writer = await asked.connect()
            writer.write(_PREDICT + b'Content-Length: 18\r\n\r\n{"instances": [1]}')
            await asked.until_pending(1)
            writer.close()
            await asked.until_pending(0)
        assert _count(asked.metrics, 'CANCELLED') == 3
        _, writer = await asked.connect()
        writer.write(_PREDICT + b'Content-Length: 18\r\n\r\n{"instances"')
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        while _count(asked.metrics, 'CANCELLED') != 4:
            await asyncio.sleep(0.01)
        assert (await asked.predict(0.0))[0] == 200

    _run(manager, scenario, Limits(pending=1))


def test_large_json_is_read_and_written_beside_the_loop(manager):
    """A request of megabytes holds up a small one for less than it takes itself."""
    rows = 500_000

    async def scenario(asked):
        body = json.dumps({'instances': [0] * rows}).encode()
        loop = asyncio.get_running_loop()
        gaps = []

        async def tick():
            while True:
                before = loop.time()
                await asyncio.sleep(0)
                gaps.append(loop.time() - before)

        started = loop.time()
        reader, writer = await asked.connect()
        writer.write(_PREDICT + b'Content-Length: %d\r\n\r\n' % len(body) + body)
        ticking = asyncio.create_task(tick())
        assert await asked.predict(0.0) == (200, {'predictions': [0.0]})
        head = await reader.readuntil(b'\r\n\r\n')
        took = loop.time() - started
        ticking.cancel()
        assert head.startswith(b'HTTP/1.1 200 ')
        size = int(re.search(rb'(?i)\r\ncontent-length: (\d+)', head)[1])
        assert len(json.loads(await reader.readexactly(size))['predictions']) == rows
        writer.close()
        assert max(gaps) < took / 4

    options = BatchingOptions(max_batch_size=rows, num_batch_threads=2)
    _run(manager, scenario, Limits(instances=rows), batching=options)


def test_cors_is_that_of_the_real_server(manager):
    cors = {
        'Access-Control-Allow-Origin': '*',
        'Access-Control-Allow-Methods': 'POST, GET',
        'Access-Control-Allow-Headers': 'Content-Type',
    }
    page = {'Origin': 'https://page.example'}
    asked_for = [
        ('OPTIONS', '/v1/models/busy:predict', page, '', 200),
        ('OPTIONS', '/v1/models/nobody:predict', page, '', 200),
        ('OPTIONS', '/v1/models/busy:predict', {'Origin': 'null'}, '', 400),
        ('OPTIONS', '/v1/models/busy:predict', {}, '', 400),
        ('POST', '/v1/models/busy:predict', page, '{"instances": [0]}', 200),
        ('POST', '/v1/models/busy:predict', page, 'x', 400),
        ('POST', '/v1/models/busy:predict', page, ' ' * 2000, 413),
        ('GET', '/v1/models/nobody', page, '', 404),
    ]

    async def answers(asked):
        found = []
        for verb, path, headers, data, _ in asked_for:
            url = 'http://{}:{}{}'.format(*asked.address, path)
            async with asked.session.request(verb, url, headers=headers, data=data) as response:
                sent = {name: response.headers.get(name) for name in cors}
                found.append((response.status, {k: v for k, v in sent.items() if v}))
        return found

    statuses = [status for *_, status in asked_for]
    limits = Limits(body_bytes=1000)
    every = Origins(is_local=True, any_page=True)
    assert _run(manager, answers, limits, origins=every) == [(status, cors) for status in statuses]
    # Without the flag the preflight is answered, too, but allows nothing.
    own = _run(manager, answers, limits, origins=Origins(is_local=True))
    assert own == [(403 if verb == 'POST' else status, {}) for verb, *_, status in asked_for]
