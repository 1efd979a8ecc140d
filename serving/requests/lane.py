"""Threads for costly work, so that it does not delay quick work."""

from __future__ import annotations

import asyncio
import bisect
import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from serving.errors import ServingError

_T = TypeVar('_T')

_MAX_WAITING = 256  # jobs


@dataclasses.dataclass(order=True)
class _Job:
    """Work that waits, ordered by `key`; `future` gets its result."""

    key: tuple[float, int]
    cost: float = dataclasses.field(compare=False)
    work: Callable[[], Any] = dataclasses.field(compare=False)
    future: asyncio.Future[Any] = dataclasses.field(compare=False)


class Lane:
    """Runs costly work in threads of its own; belongs to one event loop.

    The cheapest job runs first, but a job that has waited long runs before a cheaper one that has
    just come.

    Args:
        name: The name of the threads.
        width: The number of jobs that run at the same time.
        max_cost: The most total cost of the jobs that wait. Beyond it, the costliest is refused.
        seconds_per_cost: How long a job of cost 1 lets later jobs of cost 0 run first.
    """

    def __init__(self, name: str, width: int, max_cost: float, seconds_per_cost: float) -> None:
        self._width = width
        self._max_cost = max_cost
        self._seconds_per_cost = seconds_per_cost
        self._executor = concurrent.futures.ThreadPoolExecutor(width, name)
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._waiting: list[_Job] = []
        self._running = 0

    async def run(self, work: Callable[[], _T], cost: float) -> _T:
        """Calls `work` in a thread and returns its result.

        Work that is cancelled before it starts never runs.

        Args:
            work: The work.
            cost: Its cost, in any unit.

        Raises:
            ServingError: Too much work waits already (UNAVAILABLE). Errors of `work` are raised as
                well.
        """
        key = self._loop.time() + cost * self._seconds_per_cost, next(self._numbers)
        job = _Job(key, cost, work, self._loop.create_future())
        bisect.insort(self._waiting, job)
        self._start()
        self._refuse_the_costliest()
        try:
            return await job.future
        finally:
            if job in self._waiting:
                self._waiting.remove(job)
            # An error of the future would hold this frame, and the frame holds the future, so that
            # the work would stay in memory until Python's garbage collector runs.
            del job

    def shut_down(self) -> None:
        """Waits for the jobs that run, and ends the threads."""
        self._executor.shutdown()

    def _refuse_the_costliest(self) -> None:
        total = sum(job.cost for job in self._waiting)
        # One job may always wait, even if it costs more than `max_cost`.
        while len(self._waiting) > 1 and (
            total > self._max_cost or len(self._waiting) > _MAX_WAITING
        ):
            worst = max(self._waiting, key=lambda job: (job.cost, job.key))
            self._waiting.remove(worst)
            total -= worst.cost
            if not worst.future.done():
                worst.future.set_exception(
                    ServingError(
                        'UNAVAILABLE',
                        'The server is busy with other large requests. Send this one again later, '
                        'or send smaller ones',
                    )
                )

    def _start(self) -> None:
        while self._running < self._width and self._waiting:
            job = self._waiting.pop(0)
            if job.future.done():
                continue
            self._running += 1
            running = self._loop.run_in_executor(self._executor, job.work)
            running.add_done_callback(functools.partial(self._finish, job.future))

    def _finish(self, future: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
        self._running -= 1
        error = done.exception()
        if not future.done():
            if error:
                future.set_exception(error)
            else:
                future.set_result(done.result())
        self._start()
