"""The environment of `make setup-kubeflow-lint`, and what it says of the files in kubeflow/."""

import subprocess

import pytest
from project_paths import ROOT

_BIN = ROOT / '.venv-kubeflow-lint' / 'bin'


def command(name):
    """The path of a program of that environment; skips the test where it is not set up."""
    if not (_BIN / name).exists():
        pytest.skip('make setup-kubeflow-lint installs what this test needs')
    return str(_BIN / name)


def rendered(folder):
    """YAML of the resources in a folder of manifests, as `kubectl apply -k` sends them."""
    return subprocess.check_output(
        [command('kubectl'), 'kustomize', ROOT / 'kubeflow' / 'manifests' / folder], text=True
    )


def mistakes(resources):
    """What is wrong with resources, YAML, a line each."""
    done = subprocess.run(
        [command('python'), ROOT / 'tests' / 'kubeflow' / 'check_manifests.py'],
        input=resources,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    assert done.returncode == bool(done.stdout.strip())
    return done.stdout.strip().splitlines()
