"""Pushes a model, in a process that may be killed, for each line MODEL BASE_DIRECTORY ARCHIVE.

Prints the process, waits for a line, and prints the process's wait status.
"""

import os
import sys

from tfx.types import standard_artifacts

from components import pusher

for line in sys.stdin:
    model, base_directory, archive = line.split()
    process = os.fork()
    if not process:
        inputs = standard_artifacts.Model()
        inputs.uri = model
        pushed = standard_artifacts.PushedModel()
        pushed.uri = archive
        pusher.PusherExecutor().Do(
            {'model': [inputs]},
            {'pushed_model': [pushed]},
            {'base_directory': base_directory, 'run_id': 'run'},
        )
        os._exit(0)
    print(process, flush=True)
    sys.stdin.readline()  # until then it may be killed
    print(os.waitpid(process, 0)[1], flush=True)
