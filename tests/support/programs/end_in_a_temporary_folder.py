"""Is killed while it has a file in the temporary folder of a run: VAR."""

import os
import signal
import sys
import tempfile

from pipeline import configs
from pipeline.temporary_folder import temporary_folder

with temporary_folder(configs.from_preset('tiny', var=sys.argv[1])):
    tempfile.mkstemp()
    os.kill(os.getpid(), signal.SIGKILL)
