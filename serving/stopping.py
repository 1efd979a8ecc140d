"""The end of the server: after a signal it finishes its requests; at a deadline it ends anyway."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

from serving.console import complain

_SIGNALS = {signal.SIGTERM, signal.SIGINT}
# Time for threads whose results nobody waits for any more.
THREADS_SECONDS = 5.0


class Stopping:
    """Waits for SIGTERM and SIGINT inside its context, in a thread of its own.

    It needs a thread because the event loop notices no signal while its own thread is stuck. Before
    `finish_by` is called, a signal ends the process at once; after that, the second signal does.
    """

    def __init__(self) -> None:
        self._finish: Callable[[], object] | None = None
        self._seconds = 0.0
        self._deadline: threading.Timer | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._wait, name='signals', daemon=True)

    def __enter__(self) -> Stopping:
        # Threads that start from now on leave these signals to the thread that waits for them.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        if self._thread.ident and self._thread.is_alive():
            signal.pthread_kill(self._thread.ident, signal.SIGTERM)
            self._thread.join()
        if self._deadline:
            self._deadline.cancel()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def finish_by(self, finish: Callable[[], object], seconds: float) -> None:
        """From now on a signal calls `finish`; `seconds` later the process ends in any case."""
        self._seconds = seconds
        self._finish = finish

    def _wait(self) -> None:
        while True:
            signal.sigwait(_SIGNALS)
            if self._is_over:
                return
            if self._finish is None:
                os._exit(0)
            if self._deadline:
                os._exit(1)
            self._deadline = threading.Timer(self._seconds, self._give_up)
            self._deadline.daemon = True
            self._deadline.start()
            self._finish()

    def _give_up(self) -> None:
        complain(
            f'The server still works {self._seconds:g} seconds after it was told to stop: it ends '
            'without finishing (--shutdown_seconds).'
        )
        os._exit(1)


def close(resources: contextlib.ExitStack) -> None:
    """Closes resources that no request needs any more; ends the process if a thread is stuck."""
    closing = threading.Thread(target=resources.close, name='closing', daemon=True)
    closing.start()
    closing.join(THREADS_SECONDS)
    if closing.is_alive():
        complain('Nobody waits for the threads that still work: the server ends without them.')
        os._exit(0)
