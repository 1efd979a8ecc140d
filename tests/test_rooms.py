"""The order of the house: imports go one way, and nothing in it is too large to read."""

import ast
import functools

import pytest
from project_paths import ROOT

# Packages, each with the packages that it may import besides itself.
_PACKAGES = {
    'start_tensorflow': '',
    'capsmodel': 'start_tensorflow',
    'components': 'start_tensorflow',
    'serving': 'start_tensorflow',
    'pipeline': 'start_tensorflow capsmodel components',
    'kubeflow': 'start_tensorflow capsmodel components pipeline',
    'benchmarks': 'start_tensorflow capsmodel components pipeline serving',
    'study': 'start_tensorflow capsmodel components pipeline benchmarks',
}

# The rooms of a package from the ground up, a floor a row: a room may import itself and the floors
# below, not its neighbours. A module that no row names is on the top floor.
_FLOORS = {
    'capsmodel': [
        'settings',
        'data networks',
        'calibration guard model_facts warmup_requests',
        'summaries signatures',
        'training',
    ],
    'components': [
        'temporary_files locks gate push_error request_log',
        'datasets',
        'checked_images',
    ],
    'serving': [
        'console errors processors',
        'config metrics stopping',
        'config_files',
        'models',
        'requests request_log',
        'web',
        'app client running_server',
    ],
    'pipeline': [
        'presets',
        'code_version metadata_error settings',
        'configs',
        'beam_options evaluation image_settings make_commands metadata schema',
        'own_images',
        'slices',
    ],
}
_MOST_LINES = {'file': 320, 'function': 80}


@functools.cache
def _modules():
    """Each module outside tests by its dotted name, parsed."""
    files = (file for package in _PACKAGES for file in (ROOT / package).rglob('*.py'))
    trees = {}
    for file in (ROOT / 'start_tensorflow.py', *files):
        parts = file.relative_to(ROOT).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        trees[name] = ast.parse(file.read_text())
    return trees


def _imports():
    """Pairs of a module and a module that it imports, at its top or in a function."""
    for module, tree in _modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    submodule = f'{node.module}.{alias.name}'
                    yield module, submodule if submodule in _modules() else node.module


def _room(module):
    """The package of a module, its floor, and the name of the room there."""
    package, _, rest = module.partition('.')
    room = rest.partition('.')[0]
    floors = [row.split() for row in _FLOORS.get(package, [])]
    floor = next((number for number, row in enumerate(floors) if room in row), len(floors))
    return package, floor, room


def wrong_imports(imports):
    """The pairs that do not go one way."""
    for module, imported in imports:
        (package, floor, room), (other, lower, other_room) = _room(module), _room(imported)
        if other not in _PACKAGES:
            continue
        if other != package:
            if other not in _PACKAGES[package].split():
                yield module, imported
        elif room != other_room and lower >= floor and floor < len(_FLOORS.get(package, [])):
            yield module, imported


def test_imports_go_one_way():
    assert list(wrong_imports(_imports())) == []
    assert sum(1 for _, imported in _imports() if imported in _modules()) > 300


def test_every_module_that_is_imported_exists():
    """mypy takes a module that is missing for one without types."""
    ours = _PACKAGES.keys() - {'kubeflow'}  # PyPI has a package of that name, too
    trees = [ast.parse(file.read_text()) for file in (ROOT / 'tests').rglob('*.py')]
    for node in (node for tree in (*_modules().values(), *trees) for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split('.')[0] in ours]
            assert set(names) <= _modules().keys()
        elif isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in ours:
            for alias in node.names:
                found = f'{node.module}.{alias.name}' in _modules() or (
                    node.module.endswith('_pb2') or alias.name in _names(node.module)
                )
                assert found, ast.unparse(node)


def _names(module):
    """What a module binds at its top."""
    for node in ast.walk(_modules()[module]):
        if isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize(
    ('module', 'imported'),
    [
        ('capsmodel.networks.layers', 'capsmodel.training.loop'),
        ('capsmodel.data.images', 'capsmodel.networks.routing'),
        ('capsmodel.summaries.figures', 'capsmodel.training.errors'),
        ('capsmodel.training.loop', 'capsmodel.trainer'),
        ('capsmodel.trainer', 'pipeline.configs'),
        ('components.pusher', 'capsmodel.data.images'),
        ('components.datasets.prepare', 'components.pusher'),
        ('serving.models.model', 'serving.web.rest'),
        ('serving.client', 'capsmodel.data.images'),
        ('pipeline.pipeline', 'serving.server'),
        ('pipeline.configs', 'pipeline.pipeline'),
        ('pipeline.console', 'kubeflow.submit'),
        ('pipeline.configs', 'study.results'),
        ('study.results', 'serving.server'),
    ],
)
def test_an_import_the_other_way_is_found(module, imported):
    assert list(wrong_imports([(module, imported)])) == [(module, imported)]


def _lines(node):
    return node.end_lineno - node.lineno + 1


def test_every_file_and_function_can_be_read():
    for module, tree in _modules().items():
        if module.endswith('_pb2'):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert _lines(node) <= _MOST_LINES['function'], f'{module}.{node.name}'
        assert not tree.body or tree.body[-1].end_lineno <= _MOST_LINES['file'], module
