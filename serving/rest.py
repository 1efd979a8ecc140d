"""TensorFlow Serving's REST interface on aiohttp: from a request to its answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import re
import socket
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

from aiohttp import web

# Not asyncio.wait_for, which makes a task of what it waits for; asyncio has it from Python 3.11 on.
from async_timeout import timeout
from tensorflow.core.protobuf import meta_graph_pb2

from serving import examples, json_tensor, responses
from serving.batching import Batcher, Tensors
from serving.connections import Connections
from serving.console import complain
from serving.errors import ServingError
from serving.manager import ModelManager
from serving.metrics import CONTENT_TYPE, Metrics
from serving.origins import CORS_HEADERS, Origins
from serving.responses import Route

_T = TypeVar('_T')

# JSON of less is read and written on the event loop: to hand it to a thread would take longer.
_SMALL_BYTES = 1 << 16
_SMALL_VALUES = 1 << 13
# Bodies that are held at one time, in multiples of the largest one.
_BODIES_HELD = 16
# Of the page; a bare container's mimetypes may know none.
_DEMO_TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.svg': 'image/svg+xml',
}
# The page runs its own scripts alone, asks its own server alone, and appears in no other page.
_DEMO_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    Attributes:
        timeout: Seconds from a whole request to its answer; None for as long as it takes.
        body_bytes: The largest body, decompressed.
        pending: Requests that wait or run; those beyond are refused.
        connections: Connections at a time; for each one beyond, the one that has been idle longest
            is closed. Twice as many as requests, so that one too many gets an answer.
        transfer_seconds: In which a body must have come, and an answer must have been taken.
        idle_seconds: In which the head of a connection's next request must have come.
        shutdown_seconds: For what runs when the server is told to stop.
    """

    timeout: float | None = 30.0
    body_bytes: int = 32 << 20
    pending: int = 1024
    connections: int = 2048
    transfer_seconds: float = 60.0
    idle_seconds: float = 75.0
    shutdown_seconds: float = 60.0


@dataclasses.dataclass(frozen=True)
class _Question:
    """What is asked of a signature; `write` makes the answer of its outputs."""

    signature_name: str
    inputs: Tensors
    write: Callable[[Tensors], bytes]


class _BodyError(ServingError):
    """A body that is not taken; the status is one that no canonical code has."""

    def __init__(self, code: str, http_status: int, message: str):
        super().__init__(code, message)
        self._http_status = http_status

    @property
    def http_status(self) -> int:
        return self._http_status


class RestService:
    """Answers requests; belongs to one event loop.

    Args:
        manager: The models.
        model_names: Of all models that there are to be, that of the page first.
        executor: Runs the models, and reads and writes large JSON.
        batcher: Merges requests, if that is wanted.
        metrics: Where requests are counted.
        metrics_path: Where Prometheus finds them; None for nowhere.
        demo_dir: The files of the page at /demo/; None for no page.
        limits: What a client may ask.
        origins: Which web pages may ask.

    Attributes:
        model_names: As above; to be changed when the models are.
    """

    def __init__(
        self,
        manager: ModelManager,
        model_names: Sequence[str],
        executor: concurrent.futures.Executor,
        batcher: Batcher | None,
        metrics: Metrics,
        metrics_path: str | None,
        demo_dir: str | None,
        limits: Limits,
        origins: Origins,
    ) -> None:
        self.model_names = model_names
        self._manager = manager
        self._executor = executor
        self._batcher = batcher
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._demo = _read_demo(demo_dir) if demo_dir else {}
        self._limits = limits
        self._origins = origins
        self._connections = Connections(
            self._handle, limits.connections, limits.idle_seconds, limits.transfer_seconds
        )
        self._loop = asyncio.get_running_loop()
        self._pending = 0
        self._held_bytes = 0
        self._reading: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, listener: socket.socket) -> AsyncIterator[None]:
        """Answers requests inside the context; then finishes those that run.

        Raises:
            ServingError: Another server has begun to listen there.
        """
        async with self._connections.listening(listener, self._limits.shutdown_seconds):
            try:
                yield
            finally:
                # Their bodies may be long in coming.
                for task in self._reading:
                    task.cancel()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path_qs
        try:
            self._origins.check(request)
        except ServingError as error:
            return _error(error.http_status, error.message)
        if path == self._metrics_path:
            return web.Response(body=self._metrics.page(), headers={'Content-Type': CONTENT_TYPE})
        if path[:4].lower() == '/v1/':
            response = await self._rest(request, path)
            if self._origins.any_page:
                response.headers.update(CORS_HEADERS)
            return response
        if self._demo and request.method in ('GET', 'HEAD') and path.startswith('/demo'):
            return self._page(path)
        return _error(404, f'Malformed request: {request.method} {path}')

    async def _rest(self, request: web.BaseRequest, path: str) -> web.Response:
        model = api = ''
        code = 'OK'
        content = bytearray()
        start = time.perf_counter()
        try:
            if request.method == 'OPTIONS':
                _check_preflight(request)
                return web.Response()
            route = responses.parse_path(request.method, path)
            # Metrics keep every name for ever, so that clients must not invent any.
            model = route.model if route.model in self.model_names else ''
            if route.kind in ('status', 'metadata'):
                body = self._described(route)
            else:
                api = route.kind
                await self._receive(request, content)
                self._connections.answering(request)
                start = time.perf_counter()
                body = await self._answered(route, bytes(content))
            return web.Response(body=body, headers={'Content-Type': 'application/json'})
        except ServingError as error:
            code = error.code
            response = _error(error.http_status, error.message)
            if isinstance(error, _BodyError):
                response.force_close()
            return response
        except asyncio.CancelledError:
            code = 'CANCELLED'
            raise
        except Exception as error:
            code = 'INTERNAL'
            complain(f'{request.method} {path} failed: {error!r}')
            return _error(500, f'The server failed over this request: {type(error).__name__}')
        finally:
            self._held_bytes -= len(content)
            self._metrics.request(model, api, code, time.perf_counter() - start)

    def _described(self, route: Route) -> bytes:
        if route.kind == 'status':
            return responses.status_json(
                self._manager.status(route.model, route.version, route.label)
            )
        with self._manager.servable(route.model, route.version, route.label) as servable:
            return responses.metadata_json(
                servable.name, servable.version, servable.model.signature_defs
            )

    async def _receive(self, request: web.BaseRequest, content: bytearray) -> None:
        """Appends the body to `content`, in which `_held_bytes` are counted."""
        if request.content.is_eof():
            self._take(content, request.content.read_nowait())
            return
        # No need to begin with what is declared to be too much.
        self._check_size(request.content_length or 0)
        if request.headers.get('Expect', '').lower() == '100-continue':
            await request.writer.write(b'HTTP/1.1 100 Continue\r\n\r\n')
        self._reading.add(request.task)
        seconds = self._limits.transfer_seconds
        try:
            await asyncio.wait_for(self._read(request, content), seconds)
        except asyncio.TimeoutError:
            raise _BodyError(
                'DEADLINE_EXCEEDED', 408, f'The body did not come within {seconds:g} seconds'
            ) from None
        finally:
            self._reading.remove(request.task)

    async def _read(self, request: web.BaseRequest, content: bytearray) -> None:
        try:
            while chunk := await request.content.readany():
                self._take(content, chunk)
        except web.RequestPayloadError as error:
            raise _BodyError('INVALID_ARGUMENT', 400, f'The body cannot be read: {error}') from None

    def _take(self, content: bytearray, chunk: bytes) -> None:
        content += chunk
        self._held_bytes += len(chunk)
        self._check_size(len(content))
        if self._held_bytes > _BODIES_HELD * self._limits.body_bytes:
            raise _BodyError('RESOURCE_EXHAUSTED', 429, 'Too many large requests at the same time')

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise _BodyError(
                'INVALID_ARGUMENT',
                413,
                f'The body is larger than the {self._limits.body_bytes >> 20} MB that are allowed '
                '(--max_body_mb)',
            )

    async def _answered(self, route: Route, content: bytes) -> bytes:
        if self._pending >= self._limits.pending:
            raise ServingError(
                'UNAVAILABLE',
                f'The server is busy with {self._pending} requests (--max_pending_requests)',
            )
        self._pending += 1
        try:
            if self._batcher:
                answer = self._answer_batched(route, content, self._batcher)
            else:
                answer = self._answer_alone(route, content)
            async with timeout(self._limits.timeout):
                return await answer
        except asyncio.TimeoutError:
            raise ServingError(
                'DEADLINE_EXCEEDED',
                f'There was no answer within {self._limits.timeout:g} seconds '
                '(--rest_api_timeout_in_ms)',
            ) from None
        finally:
            self._pending -= 1

    async def _answer_alone(self, route: Route, content: bytes) -> bytes:
        def answer() -> tuple[bytes, float]:
            with self._manager.servable(route.model, route.version, route.label) as servable:
                model = servable.model
                question = _parse(route.kind, content, model.signature_defs)
                start = time.perf_counter()
                outputs = model.run(question.signature_name, question.inputs)
                seconds = time.perf_counter() - start
            return question.write(outputs), seconds

        body, seconds = await self._loop.run_in_executor(self._executor, answer)
        self._metrics.runtime(route.model, route.kind, seconds)
        return body

    async def _answer_batched(self, route: Route, content: bytes, batcher: Batcher) -> bytes:
        with self._manager.servable(route.model, route.version, route.label) as servable:
            model = servable.model
            parse = functools.partial(_parse, route.kind, content, model.signature_defs)
            question = await self._computed(parse, len(content) <= _SMALL_BYTES)
            asked = question.signature_name, question.inputs
            # One that does not fit the signature may spoil the answers to those it is merged with.
            model.check(*asked)
            start = time.perf_counter()
            if model.can_merge(question.signature_name):
                outputs = await batcher.run(model.run, *asked)
            else:
                outputs = await self._loop.run_in_executor(self._executor, model.run, *asked)
            seconds = time.perf_counter() - start
        self._metrics.runtime(route.model, route.kind, seconds)
        values = sum(value.size for value in outputs.values())
        write = functools.partial(question.write, outputs)
        return await self._computed(write, values <= _SMALL_VALUES)

    async def _computed(self, compute: Callable[[], _T], is_small: bool) -> _T:
        if is_small:
            return compute()
        return await self._loop.run_in_executor(self._executor, compute)

    def _page(self, path: str) -> web.Response:
        path, _, query = path.partition('?')
        if path in ('/demo', '/demo/') and not query:
            model = urllib.parse.quote(self.model_names[0], safe='')
            return web.Response(status=302, headers={'Location': f'/demo/?model={model}'})
        name = path.removeprefix('/demo/') or 'index.html'
        if name not in self._demo:
            return _error(404, f'There is no {path}')
        headers = {
            'Content-Type': _DEMO_TYPES[os.path.splitext(name)[1]],
            'Cache-Control': 'no-cache',
            'Content-Security-Policy': _DEMO_POLICY,
            'X-Content-Type-Options': 'nosniff',
        }
        return web.Response(body=self._demo[name], headers=headers)


def _check_preflight(request: web.BaseRequest) -> None:
    """Whether it is a browser that asks what it may ask; as the real server checks it."""
    if not re.search('https?://', request.headers.get('Origin', '')):
        raise ServingError('FAILED_PRECONDITION', 'Origin header is missing in CORS preflight')


def _parse(
    kind: str, content: bytes, signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
) -> _Question:
    if kind == 'predict':
        predict = json_tensor.parse_predict_request(content, signature_defs)
        write = functools.partial(
            json_tensor.format_predict_response, row_format=predict.row_format
        )
        return _Question(predict.signature_name, predict.inputs, write)
    request = examples.parse_examples_request(content, kind, signature_defs)
    write = functools.partial(
        examples.format_classify_response
        if kind == 'classify'
        else examples.format_regress_response,
        count=len(request.examples),
    )
    return _Question(request.signature_name, {'inputs': request.examples}, write)


def _error(status: int, message: str) -> web.Response:
    return web.Response(
        status=status,
        body=responses.error_json(message),
        headers={'Content-Type': 'application/json'},
    )


def _read_demo(folder: str) -> dict[str, bytes]:
    files = {}
    for name in os.listdir(folder):
        if os.path.splitext(name)[1] in _DEMO_TYPES:
            with open(os.path.join(folder, name), 'rb') as file:
                files[name] = file.read()
    return files
