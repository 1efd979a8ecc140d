"""How a process ends that was told to stop, whatever its threads do."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

_PROGRAM = """
    import contextlib, os, threading, time
    from serving import stopping

    stopping._THREADS_SECONDS = 0.3
    finish = threading.Event()
    with stopping.Stopping() as told:
        if SERVING:
            told.finish_by(finish.set, 0.5)
        print('ready', flush=True)
        WORK
"""
_FINISH = 'finish.wait(); print("finished", flush=True)'
# As a thread that reads from a pipe to which nobody writes.
_STUCK = 'os.read(os.pipe()[0], 1)'
_STUCK_AFTERWARDS = (
    'finish.wait(); stack = contextlib.ExitStack(); stack.callback(time.sleep, 60); '
    'stopping.close(stack)'
)
_LATE = 'The server still works 0.5 seconds after it was told to stop: it ends without finishing '


@pytest.mark.parametrize(
    ('serving', 'work', 'signals', 'code', 'said', 'complained'),
    [
        (True, _FINISH, 1, 0, 'finished\n', ''),
        (False, _STUCK, 1, 0, '', ''),
        (True, _STUCK, 1, 1, '', f'{_LATE}(--shutdown_seconds).\n'),
        (True, _STUCK, 2, 1, '', ''),
        (
            True,
            _STUCK_AFTERWARDS,
            1,
            0,
            '',
            'Nobody waits for the threads that still work: the server ends without them.\n',
        ),
    ],
)
def test_it_ends(root, serving, work, signals, code, said, complained):
    program = textwrap.dedent(_PROGRAM).replace('SERVING', str(serving)).replace('WORK', work)
    with subprocess.Popen(
        [sys.executable, '-c', program],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == 'ready\n'
            for number in (signal.SIGTERM, signal.SIGINT)[:signals]:
                time.sleep(0.1)
                process.send_signal(number)
            assert process.wait(5) == code
            assert process.communicate() == (said, complained)
        finally:
            process.kill()


def test_afterwards_signals_are_what_they_were(root):
    program = """
        import os, signal, threading
        from serving import stopping

        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        with stopping.Stopping() as told:
            told.finish_by(lambda: os._exit(3), 60)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
        assert threading.active_count() == 1
        os.kill(os.getpid(), signal.SIGTERM)
    """
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(program)], cwd=root, check=False)
    assert done.returncode == -signal.SIGTERM
