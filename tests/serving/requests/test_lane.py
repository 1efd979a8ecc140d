"""Costly work: its order, its bounds, and what becomes of it when nobody waits for it any more."""

import asyncio
import threading
import time

import pytest

from serving.errors import ServingError
from serving.requests.lane import Lane


def _run(scenario, width=1, max_cost=10.0):
    async def run():
        lane = Lane('test', width, max_cost, 0.1)
        try:
            return await asyncio.wait_for(scenario(lane), 20)
        finally:
            lane.shut_down()

    return asyncio.run(run())


class _Work:
    """Notes what has run, in order; `held` is work that lasts until `go`."""

    def __init__(self):
        self.done = []
        self.go = threading.Event()
        self.began = threading.Event()

    def held(self):
        self.began.set()
        assert self.go.wait(10)

    async def hold(self, lane):
        """Occupies the lane."""
        task = asyncio.create_task(lane.run(self.held, 1.0))
        while not self.began.is_set():
            await asyncio.sleep(0.001)
        return task

    def start(self, lane, name, cost):
        return asyncio.create_task(lane.run(lambda: self.done.append(name), cost))


def test_results_and_errors_are_those_of_the_work():
    async def scenario(lane):
        assert await lane.run(lambda: 'result', 1.0) == 'result'
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0, 1.0)
        assert await lane.run(lambda: 'result', 1e9) == 'result'

    _run(scenario)


def test_the_cheapest_goes_first_unless_another_has_waited_for_long():
    async def scenario(lane):
        work = _Work()
        held = await work.hold(lane)
        tasks = [work.start(lane, cost, cost) for cost in (3.0, 2.0, 500.0)]
        await asyncio.sleep(0.35)
        tasks.append(work.start(lane, 'late', 1.0))
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(held, *tasks)
        assert work.done == [2.0, 3.0, 'late', 500.0]

    _run(scenario, max_cost=1000.0)


def test_the_costliest_is_refused():
    async def scenario(lane):
        work = _Work()
        held = await work.hold(lane)
        tasks = [work.start(lane, cost, cost) for cost in (4.0, 5.0, 1.0, 3.0)]
        await asyncio.sleep(0)
        work.go.set()
        await held
        refused = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in refused] == [
            type(None),
            ServingError,
            type(None),
            type(None),
        ]
        assert refused[1].code == 'UNAVAILABLE'
        assert 'busy with other large requests' in refused[1].message
        assert work.done == [1.0, 3.0, 4.0]

    _run(scenario)


def test_no_more_than_so_many_wait():
    async def scenario(lane):
        work = _Work()
        held = await work.hold(lane)
        tasks = [work.start(lane, number, 0.01) for number in range(257)]
        await asyncio.sleep(0)
        work.go.set()
        await held
        refused = await asyncio.gather(*tasks, return_exceptions=True)
        # The one that came last.
        assert [type(each) for each in refused] == [type(None)] * 256 + [ServingError]
        assert work.done == list(range(256))

    _run(scenario, max_cost=100.0)


def test_no_more_than_its_width_runs_and_what_is_cancelled_never_does():
    running, most = 0, 0

    def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    async def scenario(lane):
        tasks = [asyncio.create_task(lane.run(work, 0.1)) for _ in range(6)]
        held = _Work()
        cancelled = held.start(lane, 'cancelled', 0.1)
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(*tasks)
        assert most == 2
        assert held.done == []

    _run(scenario, width=2)
