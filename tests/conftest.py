"""What several folders of tests need."""

import os
import signal

import pytest
from project_paths import ROOT

from components.temporary_files import temporary_files_in

# Folders with the files of tests that take longest.
_FIRST = {'e2e', 'kubeflow'}

# A shell lets what it starts in the background ignore Ctrl-C, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Puts the longest files first: at the end, one of them would have nothing beside it."""
    items.sort(key=lambda item: not _FIRST.intersection(item.path.parts))


@pytest.fixture(scope='session', autouse=True)
def _temporary_files(tmp_path_factory):
    """What tests leave of temporary files is removed with their other files."""
    with temporary_files_in(str(tmp_path_factory.mktemp('tmp'))):
        yield


@pytest.fixture(scope='session')
def mnist_dir():
    """TFDS's folder with the whole of genuine MNIST prepared, shared by all runs of the tests."""
    from components.datasets.prepare import prepare
    from pipeline.configs import from_preset

    folder = from_preset('quick', var=str(ROOT / 'var')).data_dir
    prepare('mnist', folder)
    return folder


@pytest.fixture(scope='session')
def root():
    """The project's folder."""
    return os.fspath(ROOT)
