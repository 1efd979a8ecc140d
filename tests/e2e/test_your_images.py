"""docs/your-images.md, followed word for word on pictures that this test makes."""

import os
import re
import signal
import socket
import subprocess
import sys

import outer_environment
import own_images
import pytest
from project_paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# A small network and a short training; the images are too large for a decoder.
_SMALL = {
    'CONV1_FILTERS': '32',
    'PRIMARY_CHANNELS': '8',
    'DIGIT_DIM': '8',
    'IMAGE_HEIGHT': '56',
    'IMAGE_WIDTH': '50',
    'EPOCHS': '5',
    'LEARNING_RATE': '0.004',
}
# With a tenth of the pictures this test would be about chance.
_LENIENT = {'MIN_CLASS_IMAGES': '3', 'MIN_TEST_IMAGES': '20', 'GUARD_FALSE_ALARMS': '1'}


def _blocks(language):
    text = (ROOT / 'docs' / 'your-images.md').read_text()
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path):
    """Runs a command of the page in the project's folder; gives what it printed."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **outer_environment.without_settings(),
        'HOME': str(tmp_path),
        'VAR': str(tmp_path / 'var'),
        'PORT': str(port),
        **_SMALL,
        **_LENIENT,
    }

    def start(*command, **options):
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{'cwd': ROOT, **options},
        )

    return start


def _output(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def test_the_page_leads_from_a_folder_to_answers_with_names(run, tmp_path):
    own_images.write_folder(tmp_path / 'Pictures' / 'fruit', 300, damaged=5)
    train, serve, predict, settings = _blocks('sh')
    assert 'capsnet-fruit' in _output(run('bash', '-c', settings))
    said = _output(run('bash', '-c', train))
    assert f'Pictures of {tmp_path}/Pictures/fruit: 300 in 3 classes' in said
    assert 'The network gets them in colour as 56 x 50 pixels' in said
    assert 'No decoder, since the images have more than 48 pixels' in said
    assert 'Left out:       5 images' in said
    assert re.search(r'Blessed: +yes', said)

    with run('bash', '-c', serve, start_new_session=True) as server:
        while 'Serving' not in server.stdout.readline():
            assert server.poll() is None
        try:
            answer = _output(run('bash', '-c', predict))
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # make, its shell and the server
    assert 'lime' in answer.splitlines()[0]
    (program,) = _blocks('python')
    assert _output(run(sys.executable, '-c', program, cwd=tmp_path)).strip() == 'lime'
