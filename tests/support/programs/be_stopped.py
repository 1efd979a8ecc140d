"""Prints 'ready' and works until it is told to stop: HOW [serving].

With `serving`, work is to end within half a second from then on.
"""

import contextlib
import os
import sys
import threading
import time

from serving import stopping

stopping.THREADS_SECONDS = 0.3
_, how, *serving = sys.argv
finish = threading.Event()
with stopping.Stopping() as told:
    if serving:
        told.finish_by(finish.set, 0.5)
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
