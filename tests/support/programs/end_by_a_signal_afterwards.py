"""Is ended by SIGTERM as any process is, after `stopping` has looked after signals."""

import os
import signal
import threading

from serving import stopping

before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
with stopping.Stopping() as told:
    told.finish_by(lambda: os._exit(3), 60)
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
assert threading.active_count() == 1
os.kill(os.getpid(), signal.SIGTERM)
