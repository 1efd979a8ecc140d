"""TensorBoard in a process of its own, as `make tensorboard` starts it."""

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from outer_environment import without_settings
from rest_server import opener

_SECONDS = 120  # in which what is written must be shown


class Board:
    """The data of a TensorBoard."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **query):
        encoded = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        return self._read(f'{self.url}data/{path}?{encoded}')

    def post(self, path, **body):
        return self._read(
            urllib.request.Request(
                f'{self.url}data/{path}',
                json.dumps(body).encode(),
                {'Content-Type': 'application/json'},
            )
        )

    def _read(self, request):
        with opener.open(request, timeout=60) as response:
            content = response.read()
        # The profile's are compressed, asked for or not.
        return gzip.decompress(content) if content.startswith(b'\x1f\x8b') else content

    def scalars(self, run, tag):
        """The values of a scalar by step; empty if the run does not have it."""
        tags = json.loads(self.get('plugin/scalars/tags'))
        if tag not in tags.get(run, {}):
            return {}
        rows = json.loads(self.get('plugin/scalars/scalars', run=run, tag=tag))
        steps = [step for _, step, _ in rows]
        assert steps == sorted(set(steps))
        return {step: value for _, step, value in rows}

    def wait_for(self, condition):
        """The first true thing that the condition gives."""
        end = time.monotonic() + _SECONDS
        while not (value := condition()):
            assert time.monotonic() < end
            time.sleep(0.5)
        return value


@contextlib.contextmanager
def started(root, **settings):
    """Starts `make tensorboard` in a project's folder; yields the Board when it can be asked."""
    # -o: what is being tested is set up already.
    command = ['make', '--no-print-directory', '-o', 'setup', 'tensorboard', 'PORT=0']
    with subprocess.Popen(
        [*command, *(f'{name}={value}' for name, value in settings.items())],
        cwd=root,
        env=without_settings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r'http://localhost:\d+/', line):
                    break
            else:
                pytest.fail(''.join(lines))
            # Nothing but the address: what libraries have to say is of no use here.
            assert len(lines) == 1, lines
            yield Board(found[0])
        finally:
            os.killpg(process.pid, signal.SIGTERM)
