"""The story of a model that is asked other pictures, with the commands that a person types."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import numpy as np
import outer_environment
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from rest_server import opener

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# The whole picture is framed, so that an inverted one stays inverted; and a run is short.
_SETTINGS = {
    'PRESET': 'tiny',
    'EPOCHS': '3',
    'FRAMING': 'whole',
    'MIN_ACCURACY': '0.5',
    'MIN_CLASS_ACCURACY': '0',
}


@pytest.fixture(scope='module')
def var(root, mnist_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('var')
    (folder / 'data').symlink_to(mnist_dir)
    done = _make(root, folder, 'run')
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope='module')
def digits(mnist_dir):
    """uint8 [900, 28, 28]: test images, which no training has seen."""
    data = tfds.load('mnist', split='test[:900]', data_dir=mnist_dir, batch_size=-1)
    return tfds.as_numpy(data)['image'][..., 0]


def _environment(var):
    return {**outer_environment.without_settings(), **_SETTINGS, 'VAR': str(var)}


def _make(root, var, target):
    return subprocess.run(
        ['make', target], cwd=root, env=_environment(var), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@contextlib.contextmanager
def _served(root, var, stop=signal.SIGTERM):
    """Starts `make serve`, which keeps requests, and yields the model's URL."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = listener.getsockname()[1]
    with subprocess.Popen(
        ['make', 'serve', 'LOG_REQUESTS=1', f'PORT={port}'],
        cwd=root,
        env=_environment(var),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said = ''
            for line in process.stdout:
                said += line
                if served := re.match(r'Serving .* at (http://\S+)$', line):
                    yield served[1]
                    break
            else:
                pytest.fail(said)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, stop)
            process.communicate(timeout=90)


def _ask(url, images, answered=None):
    for image in images:
        encoded = base64.b64encode(tf.io.encode_png(image[..., np.newaxis]).numpy()).decode()
        body = json.dumps({'instances': [{'b64': encoded}]}).encode()
        with opener.open(urllib.request.Request(f'{url}:predict', body), timeout=60) as answer:
            answer.read()
        if answered:
            answered.release()


def test_ordinary_digits_pass_and_inverted_ones_are_named(root, var, digits):
    with _served(root, var) as url:
        _ask(url, digits[:300])
    done = _make(root, var, 'drift')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'was asked about 300 images' in done.stdout
    with _served(root, var) as url:
        _ask(url, 255 - digits[300:600])
    done = _make(root, var, 'drift')
    # What make says of exit code 1; its own is 2 for any.
    assert 'Error 1' in done.stderr
    (moved,) = re.findall(r'trained with: (.*) moved\.', done.stdout)
    assert {'brightness', 'ink', 'known'} <= {*moved.split(', ')}
    assert '</html>' in next(var.glob('drift/*/report.html')).read_text()


@pytest.mark.goes_on_from('test_ordinary_digits_pass_and_inverted_ones_are_named')
def test_a_server_that_is_killed_while_it_writes_leaves_a_log_that_is_read(root, var, digits):
    answered = threading.Semaphore(0)

    def ask(url):
        # The server dies meanwhile.
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            _ask(url, np.tile(digits, (10, 1, 1)), answered)

    with _served(root, var, signal.SIGKILL) as url:
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        for _ in range(600):
            assert answered.acquire(timeout=60)
    client.join(60)
    newest = max(var.glob('requests/*/*.tfrecord'), key=lambda path: path.stat().st_mtime)
    # As if the kill had come in the middle of a record.
    os.truncate(newest, newest.stat().st_size - 3)
    done = _make(root, var, 'drift')
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = re.findall(r'was asked about ([\d,]+) images', done.stdout)
    assert 100 < int(count.replace(',', '')) < 9000
    assert 'Traceback' not in done.stderr
