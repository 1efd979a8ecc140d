"""What several folders of tests need."""

import gc
import os
import signal

import pytest
from project_paths import ROOT

import start_tensorflow
from components.temporary_files import temporary_files_in

# Folders with the files of tests that take longest; those of the last one share a training, so that
# two processes must not come to them at the same time.
_FIRST = ('e2e', 'kubeflow', 'serving')

# A shell lets what it starts in the background ignore Ctrl-C, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(start_tensorflow.NEW_OBJECTS)

_PASSED = pytest.StashKey[set]()


def pytest_configure(config):
    config.stash[_PASSED] = set()
    config.addinivalue_line(
        'markers',
        'goes_on_from(name): a later part of a story, which tests of a file tell together',
    )


def pytest_runtest_setup(item):
    """Skips a part of a story if the part before it has not passed."""
    for marker in item.iter_markers('goes_on_from'):
        (name,) = marker.args
        assert hasattr(item.module, name), f'{item.path.name} has no {name} to continue'
        if (item.path, name) not in item.config.stash[_PASSED]:
            pytest.skip(f'{name} comes before and has not passed: run all of {item.path.name}')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == 'call' and report.passed:
        item.config.stash[_PASSED].add((item.path, item.originalname))
    return report


def pytest_collection_modifyitems(items):
    """Puts the longest files first: at the end, one of them would have nothing beside it."""
    items.sort(
        key=lambda item: next(
            (place for place, folder in enumerate(_FIRST) if folder in item.path.parts),
            len(_FIRST),
        )
    )


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
