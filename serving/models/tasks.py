"""Work that may get stuck, such as reading from a disk that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar('_T')


class Task(Generic[_T]):
    """A function that runs in a thread of its own, for which nobody has to wait.

    Nothing can interrupt a thread, so a stuck one lasts as long as the process.

    Args:
        function: The work.
        done: Called in that thread when the work is done.

    Attributes:
        started: The time at which it started, by `time.monotonic`.
    """

    def __init__(
        self, function: Callable[[], _T], done: Callable[[], object] = lambda: None
    ) -> None:
        self._function = function
        self._done = done
        self._result: _T | None = None
        self._error: Exception | None = None
        self._finished = threading.Event()
        self.started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name='task', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except Exception as error:
            self._error = error
        self._finished.set()
        self._done()

    @property
    def is_finished(self) -> bool:
        """Whether there is a result or an error."""
        return self._finished.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it is finished, at most `seconds`; returns whether it is finished."""
        return self._finished.wait(seconds)

    def result(self) -> _T:
        """Waits for the function; returns its result, or raises its error."""
        self._thread.join()
        if self._error:
            raise self._error
        return self._result  # type: ignore[return-value]
