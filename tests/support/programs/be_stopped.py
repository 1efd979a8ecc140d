"""Prints 'ready' and works until it is told to stop: HOW [SECONDS].

With SECONDS, work is to end within as many from then on.
"""

import contextlib
import os
import sys
import threading
import time

from serving import stopping

stopping.THREADS_SECONDS = 0.3
_, how, *seconds = sys.argv
finish = threading.Event()
with stopping.Stopping() as told:
    if seconds:
        told.finish_by(finish.set, float(seconds[0]))
    print('ready', flush=True)
    if how == 'finishes':
        finish.wait()
        print('finished', flush=True)
    elif how == 'stuck':
        # As a thread that reads from a pipe to which nobody writes.
        os.read(os.pipe()[0], 1)
    elif how == 'stuck afterwards':
        finish.wait()
        stack = contextlib.ExitStack()
        stack.callback(time.sleep, 60)
        stopping.close(stack)
