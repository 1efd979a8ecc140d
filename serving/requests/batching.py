"""Merges concurrent requests to one signature into one call of the model.

Limits, order and refusals follow TensorFlow's shared_batch_scheduler.h and TensorFlow Serving's
batching_session.cc (commit 9d981c5), with two differences in favour of the requests: requests that
cannot be merged run apart instead of failing, and a request that fails does not fail the others.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.config_files import BatchingOptions
from serving.errors import ServingError, invalid
from serving.metrics import Metrics
from serving.requests.request_cost import MAX_BATCH_COST

# A batch runs after this number of turns of the event loop without a new request. Clients who got
# their answers from one batch ask again at about the same time; if the first of them ran alone, all
# others would wait for it. A request takes one turn to be received and another one to be read.
_TURNS = 3

Tensors = Mapping[str, np.ndarray]
Run = Callable[[str, Tensors], Tensors]


@dataclasses.dataclass
class _Task:
    """A request, or a part of a request; `future` gets its outputs."""

    inputs: Tensors
    size: int
    cost: float
    future: asyncio.Future[Tensors]
    enqueued: float


@dataclasses.dataclass(eq=False)
class _Batch:
    """Tasks that will run together; more join until the batch is full or runs."""

    queue: tuple[Run, str]
    key: object
    tasks: list[_Task] = dataclasses.field(default_factory=list)
    size: int = 0
    cost: float = 0.0
    ready: bool = False
    timer: asyncio.Handle = dataclasses.field(init=False)


class Batcher:
    """Collects requests that come at the same time; belongs to one event loop.

    A batch runs when a thread is free and it is full, or it is `batch_timeout_micros` old and no
    more requests are just coming; it grows while all threads are busy. Requests are merged along
    axis 0 if model, signature, dtypes and the other dimensions agree, as long as the batch is not
    too costly.

    Args:
        options: How requests are merged.
        executor: Runs the batches; should have `options.num_batch_threads` threads.
        metrics: Counts the batches.
    """

    def __init__(
        self, options: BatchingOptions, executor: concurrent.futures.Executor, metrics: Metrics
    ) -> None:
        self._options = options
        self._executor = executor
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._limit = (
            options.max_execution_batch_size
            if options.enable_large_batch_splitting
            else options.max_batch_size
        )
        # All batches that do not run yet, in the order of their first tasks.
        self._waiting: list[_Batch] = []
        # The batches that more tasks may join, by what must agree.
        self._open: dict[object, _Batch] = {}
        self._enqueued: Counter[tuple[Run, str]] = Counter()
        self._running = 0

    def run(
        self, run: Run, signature_name: str, inputs: Tensors, cost: float = 0.0
    ) -> asyncio.Future[Tensors]:
        """The outputs of `run(signature_name, inputs)`, in a call that others may share.

        If the future is cancelled before its batch runs, the batch runs without it.

        Args:
            run: Runs the model in a thread; equal for all requests that may be merged.
            signature_name: The signature.
            inputs: One array [n, ...] for each of its inputs.
            cost: The cost estimated by serving/requests/request_cost.py.

        Raises:
            ServingError: The inputs cannot be merged (INVALID_ARGUMENT), or the signature's queue
                is full (UNAVAILABLE). Errors of the model are raised by the future.
        """
        size = self.check(inputs)
        queue = (run, signature_name)
        key = (queue, _layout(inputs))
        batch = self._open.get(key)
        room = self._limit - batch.size if batch else 0
        self._check_capacity(queue, size, room)
        for _ in inputs:
            self._metrics.input(size)
        futures = []
        # The first part fills the open batch; the other parts are as large as possible.
        start, end = 0, size if size <= self._limit else room or self._limit
        while True:
            part = {name: value[start:end] for name, value in inputs.items()}
            share = cost * (end - start) / size if size else cost
            futures.append(self._enqueue(queue, key, part, end - start, share))
            if end == size:
                break
            start, end = end, min(end + self._limit, size)
        self._start_ready()
        return futures[0] if len(futures) == 1 else self._loop.create_task(_joined(futures))

    def check(self, inputs: Tensors) -> int:
        """The number of rows of a request.

        Raises:
            ServingError: The request cannot be merged, or has too many rows.
        """
        if not inputs:
            raise invalid('Batching Run() must have at least one input tensor')
        if not all(value.ndim for value in inputs.values()):
            raise invalid('Batching Run() input tensors must have at least one dimension')
        size, *others = {len(value) for value in inputs.values()}
        if others:
            raise invalid('Batching Run() input tensors must have equal 0th-dimension size')
        most = self._options.max_batch_size
        if size > most:
            raise invalid(f'Task size {size} is larger than maximum input batch size {most}')
        return size

    def _check_capacity(self, queue: tuple[Run, str], size: int, room: int) -> None:
        enqueued, most = self._enqueued[queue], self._options.max_enqueued_batches
        if size > room + (most - enqueued) * self._limit:
            raise ServingError(
                'UNAVAILABLE',
                'The batch scheduling queue to which this task was submitted is full; currently '
                f'{enqueued} batches enqueued and max_enqueued_batches is {most}',
            )

    def _enqueue(
        self, queue: tuple[Run, str], key: object, inputs: Tensors, size: int, cost: float
    ) -> asyncio.Future[Tensors]:
        batch = self._open.get(key)
        if batch and (batch.size + size > self._limit or batch.cost + cost > MAX_BATCH_COST):
            _make_ready(batch)
            batch = None
        if not batch:
            batch = self._open[key] = _Batch(queue, key)
            self._waiting.append(batch)
            self._enqueued[queue] += 1
            seconds = self._options.batch_timeout_micros / 1e6
            batch.timer = self._loop.call_later(seconds, self._run_when_quiet, batch)
        task = _Task(inputs, size, cost, self._loop.create_future(), self._loop.time())
        batch.tasks.append(task)
        batch.size += size
        batch.cost += cost
        if batch.size >= self._limit:
            _make_ready(batch)
        return task.future

    def _run_when_quiet(self, batch: _Batch, tasks: int = 0, turns: int = 0) -> None:
        """Lets a batch run, whose time is up, as soon as no more tasks join it.

        Args:
            batch: The batch.
            tasks: How many it had a turn of the event loop ago.
            turns: In how many turns none has joined.
        """
        turns = turns + 1 if len(batch.tasks) == tasks else 0
        if turns < _TURNS:
            batch.timer = self._loop.call_soon(self._run_when_quiet, batch, len(batch.tasks), turns)
            return
        _make_ready(batch)
        self._start_ready()

    def _start_ready(self) -> None:
        while self._running < self._options.num_batch_threads:
            batch = next((batch for batch in self._waiting if batch.ready), None)
            if not batch:
                return
            self._waiting.remove(batch)
            if self._open.get(batch.key) is batch:
                del self._open[batch.key]
            self._enqueued[batch.queue] -= 1
            if not self._enqueued[batch.queue]:
                # A key would keep an unloaded model in memory.
                del self._enqueued[batch.queue]
            tasks = [task for task in batch.tasks if not task.future.done()]
            if tasks:
                self._start(batch.queue, tasks)

    def _start(self, queue: tuple[Run, str], tasks: list[_Task]) -> None:
        self._running += 1
        size = sum(task.size for task in tasks)
        allowed = self._options.allowed_batch_sizes
        now = self._loop.time()
        self._metrics.batch(
            self._options.thread_pool_name,
            [now - task.enqueued for task in tasks],
            size,
            _padding(size, allowed),
        )
        requests = [task.inputs for task in tasks]
        outcomes = self._loop.run_in_executor(
            self._executor, _run_isolated, *queue, requests, allowed
        )
        outcomes.add_done_callback(lambda outcomes: self._finish(tasks, outcomes.result()))

    def _finish(self, tasks: list[_Task], outcomes: list[Tensors | Exception]) -> None:
        self._running -= 1
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task.future.done():
                continue
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)
        self._start_ready()


def _make_ready(batch: _Batch) -> None:
    batch.ready = True
    batch.timer.cancel()


def _layout(inputs: Tensors) -> object:
    """Names, dtypes and shapes, which must be equal if arrays are to be merged."""
    return frozenset((name, value.dtype, value.shape[1:]) for name, value in inputs.items())


def _padding(size: int, allowed_sizes: Sequence[int]) -> int:
    """The number of rows to add to `size` to reach an allowed size, if there are any."""
    return next((allowed for allowed in allowed_sizes if allowed >= size), size) - size


async def _joined(parts: Sequence[asyncio.Future[Tensors]]) -> Tensors:
    """The outputs of a request that was split."""
    outputs = await asyncio.gather(*parts)
    return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}


def _run_isolated(
    run: Run, signature_name: str, requests: Sequence[Tensors], allowed_sizes: Sequence[int]
) -> list[Tensors | Exception]:
    """The outputs or the error of each request."""
    try:
        return list(_run_merged(run, signature_name, requests, allowed_sizes))
    except Exception as error:
        is_late = isinstance(error, ServingError) and error.code == 'DEADLINE_EXCEEDED'
        if is_late or len(requests) == 1:
            return [error] * len(requests)
    # One request made the others fail: run each apart.
    return [
        outcome
        for inputs in requests
        for outcome in _run_isolated(run, signature_name, [inputs], allowed_sizes)
    ]


def _run_merged(
    run: Run, signature_name: str, requests: Sequence[Tensors], allowed_sizes: Sequence[int]
) -> list[Tensors]:
    sizes = [len(next(iter(inputs.values()))) for inputs in requests]
    size = sum(sizes)
    # Without a row there is nothing to pad with.
    padding = _padding(size, allowed_sizes) if size else 0
    merged = {}
    for name in requests[0]:
        value = np.concatenate([inputs[name] for inputs in requests])
        if padding:
            # A copy of a row is valid.
            value = np.concatenate([value, np.repeat(value[:1], padding, axis=0)])
        merged[name] = value
    outputs = run(signature_name, merged)
    for value in outputs.values():
        if not value.ndim:
            raise ServingError('FAILED_PRECONDITION', 'Batched output tensor has 0 dimensions')
        if len(value) != size + padding:
            raise ServingError(
                'FAILED_PRECONDITION',
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                'sizes of the input tensors',
            )
    ends = np.cumsum(sizes)
    return [
        {name: value[end - size : end] for name, value in outputs.items()}
        for end, size in zip(ends, sizes, strict=True)
    ]
