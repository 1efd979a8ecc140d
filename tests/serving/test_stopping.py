"""How a process ends that was told to stop, whatever its threads do."""

import signal
import subprocess
import sys
import time

import pytest
from project_paths import PROGRAMS

_LATE = 'The server still works 0.5 seconds after it was told to stop: it ends without finishing '


@pytest.mark.parametrize(
    ('arguments', 'signals', 'code', 'said', 'complained'),
    [
        (['finishes', '60'], 1, 0, 'finished\n', ''),
        (['stuck'], 1, 0, '', ''),
        (['stuck', '0.5'], 1, 1, '', f'{_LATE}(--shutdown_seconds).\n'),
        (['stuck', '60'], 2, 1, '', ''),
        (
            ['stuck afterwards', '60'],
            1,
            0,
            '',
            'Nobody waits for the threads that still work: the server ends without them.\n',
        ),
    ],
)
def test_it_ends(root, arguments, signals, code, said, complained):
    with subprocess.Popen(
        [sys.executable, PROGRAMS / 'be_stopped.py', *arguments],
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
    program = PROGRAMS / 'end_by_a_signal_afterwards.py'
    done = subprocess.run([sys.executable, program], cwd=root, check=False)
    assert done.returncode == -signal.SIGTERM
