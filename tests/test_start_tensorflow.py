"""TensorFlow is loaded without its noise, and with the GPUs only where a process trains."""

import os
import signal
import subprocess
import sys

import pytest
from project_paths import PROGRAMS

import start_tensorflow

_LOAD = 'import start_tensorflow; start_tensorflow.load()'


def _python(root, *arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={'PATH': '/usr/bin:/bin', 'PYTHONWARNINGS': 'ignore', **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def played(root):
    """Loads a module named tensorflow that says what the real one does, and may fail then."""

    def load(fails=''):
        path = str(PROGRAMS / 'noisy')
        return _python(root, PROGRAMS / 'load_tensorflow.py', PYTHONPATH=path, FAILS=fails)

    return load


def test_the_real_one_says_nothing_and_garbage_is_searched_for_in_what_comes_after_it(root):
    program = f"""{_LOAD}
import gc, weakref
import tensorflow as tf
class Node: pass
frozen, node = gc.get_freeze_count(), Node()
node.itself, gone = node, weakref.ref(node)
del node
garbage = [[] for _ in range(100_000)]
print(frozen > 100_000, gc.isenabled(), gone())
print(tf.constant(1).numpy())
"""
    done = _python(root, '-c', program)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'True True None\n1\n', '')


def test_what_tensorflow_does_not_need_is_imported_by_who_does(root):
    program = f"""{_LOAD}
import sys
hidden = start_tensorflow._NOT_FOR_TENSORFLOW
print([name for name in hidden if name in sys.modules])
import keras, IPython, googleapiclient.discovery, pandas
print(all(name in sys.modules for name in hidden), keras.Sequential, pandas.DataFrame)
"""
    done = _python(root, '-c', program)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == '[]'
    assert second.startswith('True ')


def test_warnings_get_through_and_afterwards_everything_does(played):
    done = played()
    assert done.stderr.splitlines() == [
        'W0000 00:00:1795613495.959737   31847 port.cc:9] look out',
        'I0000 after',
    ]


def test_last_words_of_a_crash_get_through(played):
    done = played('crash')
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.splitlines()[-1] == 'F0000 no AVX here'


def test_an_import_error_is_one(played):
    done = played('import')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'ImportError: no such library'


def test_it_starts_commands_of_the_environment(root):
    done = _python(root, '-m', 'start_tensorflow', 'tfx', 'pipeline', '--help')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'List all the pipelines' in done.stdout


@pytest.mark.parametrize('arguments', [[], ['no-such-command']])
def test_a_command_that_is_not_there_is_named(root, arguments):
    done = _python(root, '-m', 'start_tensorflow', *arguments)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == f"There is no command '{''.join(arguments)}' in this environment.\n"


@pytest.mark.parametrize('visible', [None, '', '0,2'])
def test_training_sees_what_was_there_before(monkeypatch, visible):
    monkeypatch.delenv('TRAINING_CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    before = start_tensorflow.training_environment()
    for _ in range(2):  # a pipeline within a pipeline changes nothing
        start_tensorflow.hide_gpus()
        assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'
        assert start_tensorflow.training_environment() == before
    assert before.get('CUDA_VISIBLE_DEVICES') == visible


def test_clients_of_vertex_ai_are_imported_when_they_are_used(root):
    program = f"""{_LOAD}
import sys
from tfx import v1
from tfx.extensions.google_cloud_ai_platform import runner
for module in list(sys.modules.values()):
    vars(module), hasattr(module, '__wrapped__')
print('google.cloud.aiplatform' in sys.modules)
print(runner.start_cloud_training.__name__, 'google.cloud.aiplatform' in sys.modules)
"""
    done = _python(root, '-c', program)
    assert done.stdout.splitlines() == ['False', 'start_cloud_training True'], done.stderr
