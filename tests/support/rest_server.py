"""The server of serving/ in a process of its own, as its user starts it."""

import contextlib
import re
import subprocess
import sys
import urllib.error
import urllib.request

from project_paths import ROOT

# For servers on this machine, wherever a proxy leads.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_READY = re.compile(r'^Serving .* at (http://\S+)$')


@contextlib.contextmanager
def rest_server(*flags, python=sys.executable, cwd=None):
    """Starts the server on a free port and waits until it serves; yields the model's URL.

    It is the project's own, unless `python` is another environment's, started in the folder `cwd`.
    """
    command = [python, '-W', 'ignore', '-m', 'serving.server', '--rest_api_port=0', *flags]
    with subprocess.Popen(
        command, cwd=cwd or ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            ready = _READY.match(process.stdout.readline())
            assert ready, process.stderr.read()
            yield ready[1]
        finally:
            process.terminate()
            process.wait(60)


def request(method, url, body=None):
    """Status, headers and text of an answer, whether it is an error or not."""
    asked = urllib.request.Request(url, body, method=method)
    try:
        with opener.open(asked, timeout=60) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()
