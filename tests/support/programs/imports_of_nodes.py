"""Prints for each node, and for `shown`, what a training shows, the project's modules it imports.

One process forgets the project's modules for each of them, since TensorFlow takes seconds to load.
"""

import importlib
import pkgutil
import sys

import start_tensorflow

start_tensorflow.load()

import capsmodel.summaries  # noqa: E402
from pipeline.code_version import STARTS_WITH  # noqa: E402

_PACKAGES = ('capsmodel', 'components', 'pipeline', 'serving', 'start_tensorflow')


def _imported():
    return [name for name in sys.modules if name.partition('.')[0] in _PACKAGES]


shown = [each.name for each in pkgutil.walk_packages(capsmodel.summaries.__path__)]
starts_with = {'shown': [f'capsmodel.summaries.{name}' for name in shown], **STARTS_WITH}
for node, modules in starts_with.items():
    for name in _imported():
        del sys.modules[name]
    for module in modules:
        importlib.import_module(module)
    print(node, *_imported())
