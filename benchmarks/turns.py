"""The loop of a measured program, which waits for its turns.

It needs only the standard library: peers run it in interpreters without this project's packages.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any


def serve(
    call: Callable[[], object],
    facts: dict[str, Any],
    receive: Callable[[], int],
    send: Callable[[Any], None],
    warm_ups: int = 2,
) -> None:
    """Warms up, sends `facts`, and then makes as many calls as each received number says.

    After the calls it sends a list: the seconds and the CPU seconds (of all threads) for each call,
    the peak memory of the process in MB, and what the last call has returned if that is a number.
    It ends with the error that `receive` raises.

    Args:
        call: The function to time.
        facts: What the program reports about itself.
        receive: Waits for a number and returns it.
        send: Sends a message.
        warm_ups: Calls that are not timed. The first call traces the graph.
    """
    for _ in range(warm_ups):
        call()
    send(facts)
    while True:
        calls = receive()
        result: object = None
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            result = call()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        number = result if isinstance(result, int | float) else None
        send([wall / calls, cpu / calls, _peak_rss_mb(), number])


def _peak_rss_mb() -> float:
    try:
        with open('/proc/self/status', encoding='ascii') as status:
            (line,) = (line for line in status if line.startswith('VmHWM:'))
        return int(line.split()[1]) / 1024
    except FileNotFoundError:
        # Without /proc. This starts from the memory of the process that started this one.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
