"""Records which modules of the project each process imports.

Python imports this module when it starts with this folder in PYTHONPATH. RECORDED_IMPORTS is a
folder, in which each process writes a file: its command, then a line for each module.
"""

import os
import sys

_PACKAGES = ('capsmodel', 'components', 'serving')
_RECORD = os.path.join(os.environ['RECORDED_IMPORTS'], str(os.getpid()))


def _record(event, arguments):
    if event == 'import' and arguments[0].partition('.')[0] in _PACKAGES:
        # Nothing is held open: a process may be killed, or start another one.
        with open(_RECORD, 'a') as file:
            file.write(f'{arguments[0]}\n')


with open(_RECORD, 'a') as file:
    file.write(f'{" ".join(sys.orig_argv)}\n')
sys.addaudithook(_record)
