"""Apache Beam's job service in a process of its own: on a cluster it is Flink's or Spark's."""

import contextlib
import pathlib
import subprocess
import sys
import time

_SECONDS = 120


@contextlib.contextmanager
def beam_job_service(folder):
    """Runs it; gives its address and the file with what it says of its jobs."""
    folder = pathlib.Path(folder)
    port_file, log = folder / 'port', folder / 'log'
    with (
        open(log, 'wb') as output,
        subprocess.Popen(
            [
                *(sys.executable, '-m', 'apache_beam.runners.portability.local_job_service_main'),
                *(f'--port_file={port_file}', f'--staging_dir={folder / "staging"}'),
            ],
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + _SECONDS
            while not (port_file.exists() and port_file.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield f'localhost:{port_file.read_text()}', log
        finally:
            process.terminate()
