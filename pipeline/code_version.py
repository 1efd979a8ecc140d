"""The version of the code that a node runs: part of its cache key.

TFX names a component's code by its dotted path. By itself, an edit of the code would not change the
cache key, and TFX would take results of the old code from the cache. So each node gets the version
as one of its settings.

The sources tell which code a node runs: the modules that a module imports, at its top or in a
function, and those that it names in a string, for example to start a process.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import pathlib
import re
from collections.abc import Iterable

_PACKAGES = ('capsmodel', 'components', 'pipeline', 'serving', 'start_tensorflow', 'study')

# The modules that each node starts with. To these, a node's code is added by reading the sources.
STARTS_WITH = {
    'ImageFolderExampleGen': (
        'components.image_folder_example_gen',
        'capsmodel.data.image_facts',
    ),
    'TfdsExampleGen': ('components.tfds_example_gen', 'capsmodel.data.image_facts'),
    'AnomalyGate': ('components.anomaly_gate',),
    'Transform': ('capsmodel.data.preprocessing',),
    'Tuner': ('capsmodel.tuner',),
    'Trainer': ('capsmodel.trainer',),
    'PictureKinds': ('components.picture_kinds.component', 'capsmodel.data.images'),
    'Evaluator': ('components.output_metrics', 'pipeline.calibration_metric'),
    'ModelCard': ('components.model_card', 'capsmodel.calibration'),
    'EvaluationGate': ('components.evaluation_gate',),
    'InfraCheck': ('components.infra_check',),
    'CheckpointRemoval': ('components.checkpoint_removal',),
}

# The last parts of the names by which sources in C++ count as modules.
_CPP = ('cc', 'h')

# No result depends on these: how TensorFlow starts, and what you see of a training.
WITHOUT_RESULTS = ('start_tensorflow', 'capsmodel.summaries')


def code_version(node: str) -> str:
    """A hash of the source files that a node runs.

    Args:
        node: A key of STARTS_WITH.

    Returns:
        16 hexadecimal digits.
    """
    return version_of(*STARTS_WITH[node])


def version_of(*modules: str) -> str:
    """A hash of the source files that run where some modules of this project do.

    Args:
        *modules: Their dotted names.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModuleNotFoundError: There is no such module.
    """
    digest = hashlib.sha256()
    for module, file in sorted(_run_with(modules).items()):
        digest.update(f'{module} {hashlib.sha256(file.read_bytes()).hexdigest()}\n'.encode())
    return digest.hexdigest()[:16]


def modules_of(node: str) -> dict[str, pathlib.Path]:
    """The modules of this project that a node runs, with their files.

    Args:
        node: A key of STARTS_WITH.

    Raises:
        ModuleNotFoundError: There is no such module.
    """
    return _run_with(STARTS_WITH[node])


def _run_with(modules: Iterable[str]) -> dict[str, pathlib.Path]:
    """These modules and all that they run, with their files."""
    found: dict[str, pathlib.Path] = {}
    left = set(modules)
    while left:
        module = left.pop()
        file = _file(module)
        if file is None:
            raise ModuleNotFoundError(f'There is no module {module}')
        found[module] = file
        left |= {
            each
            for each in _named_in(module)
            if each not in found and not _is_in(each, WITHOUT_RESULTS)
        }
    return found


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f'{package}.') for package in packages)


@functools.cache
def _file(module: str) -> pathlib.Path | None:
    """The file of a module or a package of this project; None if it does not exist."""
    top, *rest = module.split('.')
    specification = importlib.util.find_spec(top) if top in _PACKAGES else None
    if specification is None or specification.origin is None:
        return None
    path = pathlib.Path(specification.origin)
    if rest and rest[-1] in _CPP:
        path = path.parent.joinpath(*rest[:-1]).with_suffix(f'.{rest[-1]}')
    elif rest:
        path = path.parent.joinpath(*rest, '__init__.py')
        if not path.exists():
            path = path.parent.with_suffix('.py')
    return path if path.exists() else None


@functools.cache
def _named_in(module: str) -> frozenset[str]:
    """The modules of this project that a module imports or names, and the packages around it."""
    file = _file(module)
    assert file is not None
    parts = module.split('.')
    named = {'.'.join(parts[:length]) for length in range(1, len(parts))}
    source = b'' if file.suffix[1:] in _CPP else file.read_bytes()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            named |= {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r'\w+\.py', node.value):  # a program that lies beside the module
                named.add('.'.join([*parts[:-1], node.value.removesuffix('.py')]))
            elif re.fullmatch(
                rf'\w+\.({"|".join(_CPP)})', node.value
            ):  # what is compiled lies there, too
                named.add('.'.join([*parts[:-1], node.value]))
            elif re.fullmatch(r'\w+(\.\w+)+', node.value):
                named.add(node.value)
    return frozenset(filter(None, map(_longest_module, named)))


def _longest_module(name: str) -> str:
    """The module in `module.attribute` or `module`; empty if it is not of this project."""
    while name and _file(name) is None:
        name = name.rpartition('.')[0]
    return name
