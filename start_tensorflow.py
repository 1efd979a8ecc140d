"""How each process of this project starts TensorFlow: quietly, and with GPUs only for training.

TF_CPP_MIN_LOG_LEVEL=3 keeps TensorFlow 2.16 quiet. In 2.21 two libraries have logged a few lines
each by the time that they read the variable: these are left out here.

`python -m start_tensorflow tensorboard --logdir DIR` starts a command of this environment
with TensorFlow so loaded.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence

# GPUs are for training alone: TensorFlow would take them in every process that imports it.
_VISIBLE = 'CUDA_VISIBLE_DEVICES'
# What it was before `hide_gpus`.
_FOR_TRAINING = 'TRAINING_CUDA_VISIBLE_DEVICES'
_NOT_SET = 'all'

# Information, and the announcement of it. Warnings, errors and the last words of a crash are none.
# And what the decoder of JPEGs says of each, since capsmodel tries whether data are missing by
# giving it more.
_NOISE = (
    r'^(I0000 |WARNING: All log messages before absl::InitializeLog\(\)'
    '|Corrupt JPEG data: |Premature end of JPEG file)'
)

# TFX's clients of Vertex AI. With Google's packages they take a third of the time of importing TFX,
# for components that this project does not have.
_DEFERRED = 'tfx.extensions.google_cloud_ai_platform.runner'

# Packages that TensorFlow and Keras import if they are there, for what this project does not do: to
# train on tables of pandas, to show things in notebooks, to look for machines of Compute Engine.
# They take a fifth of the time of importing TensorFlow, and 70 MB. Who needs one imports it later.
_NOT_FOR_TENSORFLOW = ('IPython', 'googleapiclient', 'pandas')

# Python searches for garbage when it has made this many objects more than it has removed; 700 by
# default. Graphs are hundreds of thousands of objects that stay.
NEW_OBJECTS = 10_000


def load() -> None:
    """Imports TensorFlow; file descriptor 2 gets all that is not noise.

    TF_CPP_MIN_LOG_LEVEL is 3 from then on, where nobody has set it. Packages that TensorFlow can do
    without are hidden from it, and a part of TFX that is seldom needed is imported when somebody
    uses it.

    Python does not search for garbage during the import: the search would take a third of the time.
    Later searches leave out what was imported, since it stays until the process ends.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    gc.disable()
    try:
        with without_noise(), _hidden(_NOT_FOR_TENSORFLOW):
            import tensorflow  # noqa: F401
    finally:
        gc.enable()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
    if not any(isinstance(finder, _Deferring) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Deferring())


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """While the context lasts, packages that are not imported yet cannot be."""
    finder = _Hiding([name for name in packages if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hiding(importlib.abc.MetaPathFinder):
    """Lets no module of some packages be found."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> None:
        if name.partition('.')[0] in self._packages:
            raise ModuleNotFoundError(f'{name} is hidden from TensorFlow', name=name)


class _Deferring(importlib.abc.MetaPathFinder):
    """Lets the module _DEFERRED be imported when one of its attributes is asked for."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _DEFERRED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferredLoader(spec.loader)
        return spec


class _DeferredLoader(importlib.abc.Loader):
    """Leaves a module empty until an attribute is asked for that it does not have.

    Python's own LazyLoader loads a module even when somebody looks into its `__dict__`, and Beam
    looks into that of every module.
    """

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        lock = threading.RLock()

        def attribute(name: str) -> object:
            # Whoever looks at all modules asks for names such as __wrapped__: no module has these.
            if name.startswith('__'):
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            with lock:
                if vars(module).pop('__getattr__', None):
                    self._loader.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = attribute  # type: ignore[method-assign]


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Filters what this process writes to file descriptor 2 while the context lasts."""
    # A process, so that what is written before a crash gets through; in a session of its own, so
    # that Ctrl-C does not concern it.
    try:
        noise_filter = subprocess.Popen(
            ['grep', '--line-buffered', '-Ev', _NOISE],
            stdin=subprocess.PIPE,
            stdout=2,
            start_new_session=True,
        )
    except OSError:
        yield  # without grep there is noise
        return
    assert noise_filter.stdin is not None
    standard_error = os.dup(2)
    try:
        os.dup2(noise_filter.stdin.fileno(), 2)
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        noise_filter.stdin.close()
        noise_filter.wait()


def hide_gpus() -> None:
    """Hides the GPUs from this process and those that it starts, Beam's workers among them.

    To be called before TensorFlow is imported.
    """
    os.environ.setdefault(_FOR_TRAINING, os.environ.get(_VISIBLE, _NOT_SET))
    os.environ[_VISIBLE] = '-1'


def training_environment() -> dict[str, str]:
    """The environment for a process that trains: with the GPUs that `hide_gpus` has hidden."""
    environment = dict(os.environ)
    visible = environment.pop(_FOR_TRAINING, None)
    if visible == _NOT_SET:
        del environment[_VISIBLE]
    elif visible is not None:
        environment[_VISIBLE] = visible
    return environment


def main() -> None:
    """Starts the command that the arguments name."""
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    commands = importlib.metadata.entry_points(group='console_scripts', name=name)
    if not commands:
        sys.exit(f"There is no command '{name}' in this environment.")
    load()
    sys.argv = sys.argv[1:]
    sys.exit(next(iter(commands)).load()())


if __name__ == '__main__':
    main()
