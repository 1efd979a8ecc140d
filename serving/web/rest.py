"""TensorFlow Serving's REST interface on aiohttp: from a request to its answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from aiohttp import web

# Not asyncio.wait_for, which makes a task. From Python 3.11 on, asyncio has this function.
from async_timeout import timeout_at

from serving.console import complain
from serving.errors import ServingError, error_json
from serving.metrics import CONTENT_TYPE, Metrics
from serving.models.descriptions import status_json
from serving.models.manager import ModelManager
from serving.models.model import COSTLY_AT_ONCE, LoadedModel
from serving.request_log.log import RequestLog
from serving.requests import question
from serving.requests.batching import Batcher, Tensors
from serving.requests.json_size import MAX_INSTANCES
from serving.requests.lane import Lane
from serving.web.bodies import SMALL_BYTES, Bodies, Body, BodyError
from serving.web.connections import Connections
from serving.web.demo_page import DemoPage
from serving.web.origins import CORS_HEADERS, Origins
from serving.web.routes import Route, parse_path

_T = TypeVar('_T')

# JSON with at most this many values, or SMALL_BYTES of serving/web/bodies.py, is handled on the
# event loop, because handing it to a thread would take longer.
_SMALL_VALUES = 1 << 13
# The total cost of the costly requests that may wait, enough for some of the costliest; and roughly
# the seconds that a request of cost 1 takes.
_MAX_COSTLY, _COSTLY_SECONDS = 512.0, 0.1
# The same for large JSON that waits to be read or written; small JSON has a cost of 1.
_MAX_JSON, _JSON_SECONDS = 8192.0, 0.002


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of requests and connections.

    Attributes:
        timeout: Seconds from a whole request to its answer; None for no limit.
        body_bytes: The most bytes of a body, decompressed.
        instances: The most instances of a request.
        pending: The most requests that wait or run; more are refused.
        connections: The most connections at a time; for each new one, the one that has been idle
            longest is closed. Twice the number of requests, so that a request too many is answered.
        transfer_seconds: The time in which a body must have come, or an answer must be taken.
        idle_seconds: The time in which the head of a connection's next request must have come.
        shutdown_seconds: The time for requests that run when the server is told to stop.
    """

    timeout: float | None = 30.0
    body_bytes: int = 32 << 20
    instances: int = MAX_INSTANCES
    pending: int = 1024
    connections: int = 2048
    transfer_seconds: float = 60.0
    idle_seconds: float = 75.0
    shutdown_seconds: float = 60.0


class RestService:
    """Answers requests; belongs to one event loop.

    Args:
        manager: The models.
        model_names: The names of all configured models; the page asks the first.
        executor: Runs the models for light requests that are not merged.
        batcher: Merges requests; None to run each apart.
        metrics: Where requests are counted.
        metrics_path: Where Prometheus finds the metrics; None for nowhere.
        demo_dir: The files of the page at /demo/; None for no page.
        limits: The limits of requests and connections.
        origins: The web pages that may use the server.
        request_log: Keeps a sample of the requests that are answered; None for none.

    Attributes:
        model_names: As above; change it when the models change.
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
        request_log: RequestLog | None = None,
    ) -> None:
        self.model_names = model_names
        self._manager = manager
        self._executor = executor
        self._batcher = batcher
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._page = demo_dir and DemoPage(demo_dir)
        self._limits = limits
        self._origins = origins
        self._request_log = request_log
        self._connections = Connections(
            self._handle, limits.connections, limits.idle_seconds, limits.transfer_seconds
        )
        self._loop = asyncio.get_running_loop()
        self.pending = 0
        self._bodies = Bodies(limits.body_bytes, limits.transfer_seconds)
        # One thread for large JSON, because Python runs only one thread at a time.
        self._json = Lane('json', 1, _MAX_JSON, _JSON_SECONDS)
        self._costly = Lane('costly', COSTLY_AT_ONCE, _MAX_COSTLY, _COSTLY_SECONDS)

    @contextlib.asynccontextmanager
    async def listening(self, listener: socket.socket) -> AsyncIterator[None]:
        """Answers requests inside the context; then finishes those that run.

        Raises:
            ServingError: Another server has begun to listen at the address.
        """
        async with self._connections.listening(listener, self._limits.shutdown_seconds):
            try:
                yield
            finally:
                # Bodies may take long to come.
                self._bodies.stop()

    def close(self) -> None:
        """Ends the threads when they have finished their work."""
        self._json.shut_down()
        self._costly.shut_down()

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
        page = None
        if self._page and self.model_names and request.method in ('GET', 'HEAD'):
            page = self._page.answer(path, self.model_names[0], self._card)
        return page or _error(404, f'Malformed request: {request.method} {path}')

    def _card(self, model: str) -> bytes | None:
        """The card of the version that answers by default; None if there is no such model."""
        try:
            with self._manager.servable(model) as servable:
                return servable.model.card
        except ServingError:
            return None

    async def _rest(self, request: web.BaseRequest, path: str) -> web.Response:
        model = api = ''
        code = 'OK'
        body = Body()
        start = time.perf_counter()
        try:
            if request.method == 'OPTIONS':
                _check_preflight(request)
                return web.Response()
            route = parse_path(request.method, path)
            # Metrics keep each name for ever, so names that clients invent must not get there.
            model = route.model if route.model in self.model_names else ''
            if route.kind in ('status', 'metadata'):
                answer = self._described(route)
            else:
                api = route.kind
                await self._bodies.receive(request, body)
                self._connections.answering(request)
                start = time.perf_counter()
                answer = await self._answered(route, body)
            return web.Response(body=answer, headers={'Content-Type': 'application/json'})
        except ServingError as error:
            code = error.code
            response = _error(error.http_status, error.message)
            if isinstance(error, BodyError):
                response.force_close()
            return response
        except (asyncio.CancelledError, ConnectionError):
            code = 'CANCELLED'
            raise
        except Exception as error:
            code = 'INTERNAL'
            complain(f'{request.method} {path} failed: {error!r}')
            return _error(500, f'The server failed over this request: {type(error).__name__}')
        finally:
            self._bodies.release(body)
            self._metrics.request(model, api, code, time.perf_counter() - start)

    def _described(self, route: Route) -> bytes:
        if route.kind == 'status':
            return status_json(self._manager.status(route.model, route.version, route.label))
        with self._manager.servable(route.model, route.version, route.label) as servable:
            return servable.metadata

    async def _answered(self, route: Route, body: Body) -> bytes:
        if self.pending >= self._limits.pending:
            raise ServingError(
                'UNAVAILABLE',
                f'The server is busy with {self.pending} requests (--max_pending_requests)',
            )
        self.pending += 1
        try:
            return await self._answer(route, body)
        finally:
            self.pending -= 1

    @contextlib.asynccontextmanager
    async def _until(self, end: float | None) -> AsyncIterator[None]:
        """Raises ServingError if what is inside has not ended by `end`, a time of the loop."""
        try:
            async with timeout_at(end):
                yield
        except asyncio.TimeoutError:
            raise ServingError(
                'DEADLINE_EXCEEDED',
                f'There was no answer within {self._limits.timeout:g} seconds '
                '(--rest_api_timeout_in_ms)',
            ) from None

    async def _answer(self, route: Route, body: Body) -> bytes:
        end = None
        if self._limits.timeout is not None:
            end = self._loop.time() + self._limits.timeout
        with (
            self._manager.servable(route.model, route.version, route.label) as servable,
            self._metrics.of_version(route.model, servable.version, route.kind),
        ):
            async with self._until(end):
                model = servable.model
                asked = await self._read(route.kind, body, model)
                name, inputs = asked.signature_name, asked.inputs
                start = time.perf_counter()
                outputs = await self._run(model, name, inputs, asked.cost)
                seconds = time.perf_counter() - start
        self._metrics.runtime(route.model, route.kind, seconds)
        if self._request_log:
            self._request_log.add(route.model, servable.version, name, inputs, outputs)
        values = sum(value.size for value in outputs.values())
        write = functools.partial(asked.write, outputs)
        async with self._until(end):
            return await self._computed(write, values / _SMALL_VALUES)

    async def _run(self, model: LoadedModel, name: str, inputs: Tensors, cost: float) -> Tensors:
        # A request that does not fit the signature could spoil those that it is merged with.
        model.check(name, inputs)
        batcher = self._batcher if model.can_merge(name) else None
        if batcher:
            batcher.check(inputs)
        if cost > 1:
            run = functools.partial(model.run, name, inputs, is_costly=True)
            return await self._costly.run(run, cost)
        if batcher:
            return await batcher.run(model.run, name, inputs, cost)
        return await self._loop.run_in_executor(self._executor, model.run, name, inputs)

    async def _read(self, kind: str, body: Body, model: LoadedModel) -> question.Question:
        """Reads the body, and releases it."""
        parse = functools.partial(
            question.parse, kind, body.content, model.signature_defs, self._limits.instances
        )
        try:
            return await self._computed(parse, len(body.content) / SMALL_BYTES)
        finally:
            self._bodies.release(body)

    async def _computed(self, compute: Callable[[], _T], size: float) -> _T:
        """Reads or writes JSON; `size` is 1 for the largest JSON that is small."""
        return compute() if size <= 1 else await self._json.run(compute, size)


def _check_preflight(request: web.BaseRequest) -> None:
    """Raises ServingError unless a preflight is from a browser; the real server's check."""
    if not re.search('https?://', request.headers.get('Origin', '')):
        raise ServingError('FAILED_PRECONDITION', 'Origin header is missing in CORS preflight')


def _error(status: int, message: str) -> web.Response:
    return web.Response(
        status=status,
        body=error_json(message),
        headers={'Content-Type': 'application/json'},
    )
