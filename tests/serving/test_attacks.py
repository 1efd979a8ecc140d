"""A light client beside many that send what would harm a server, to a model that protects nothing.

The model is of an earlier version: its graph decodes whatever it is given.
"""

import json
import subprocess
import sys
import tarfile
import time

import attacks
import numpy as np
import pytest
from project_paths import DATA, ROOT
from rest_server import request, rest_server

_LIGHT = attacks.pictures(attacks.png(28))
_LIGHT_SECONDS = 0.05  # between light requests


@pytest.fixture(scope='module')
def url(tmp_path_factory):
    """The model on a server as `make serve` starts it."""
    folder = tmp_path_factory.mktemp('capsnet')
    with tarfile.open(DATA / 'earlier_model.tar.xz') as archive:
        archive.extractall(folder, filter='data')
    flags = ['--enable_batching', '--batching_parameters_file=serving/config/batching.config']
    with rest_server(f'--model_base_path={folder}', *flags) as url:
        yield url


def _attack(url, count):
    """Seconds that each light request took beside `count` attacks, and the answers to these."""
    command = [sys.executable, str(ROOT / 'tests' / 'support' / 'attacks.py'), url, str(count), '1']
    seconds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'ready\n'
        due = time.monotonic()
        while process.poll() is None:
            status, _, text = request('POST', f'{url}:predict', _LIGHT)
            assert status == 200, text
            seconds.append(time.monotonic() - due)
            due = max(due + _LIGHT_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        return seconds, json.loads(process.stdout.read())


def _check(url, count):
    seconds, answers = _attack(url, count)
    print(f'{len(seconds)} light requests, slowest {max(seconds):.2f} s; {answers}')
    assert sum(answers.values()) == count
    # They reach what they attack.
    assert not any(answer.endswith(': 403') for answer in answers)
    assert np.percentile(seconds, 99) < 1


def test_a_light_client_beside_attacks(url):
    _check(url, 100)


@pytest.mark.slow
def test_a_light_client_beside_many_attacks(url):
    _check(url, 2000)
