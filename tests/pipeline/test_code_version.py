"""The version of the code in cache keys: it has all that a node runs, and no more."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from project_paths import PROGRAMS

from pipeline import code_version

_PACKAGES = ('capsmodel', 'components', 'pipeline', 'serving')
_TRAINS = {'Tuner', 'Trainer'}
_READS = {'ImageFolderExampleGen', 'TfdsExampleGen'}
_DECODES = {*_READS, 'Transform', 'PictureKinds', *_TRAINS}

# Which nodes run a file.
_RUN_BY = {
    'components/output_metrics.py': {'Evaluator'},
    'components/picture_kinds/kinds.py': {'PictureKinds', 'EvaluationGate', 'ModelCard'},
    'components/gate.py': {'AnomalyGate', 'EvaluationGate', 'InfraCheck', 'ModelCard'},
    'components/local_copy.py': {'InfraCheck', 'ModelCard'},
    'components/model_card/page.py': {'ModelCard'},
    'components/infra_check/probe.py': {'InfraCheck'},
    'components/checked_images.py': _READS,
    'components/datasets/slice_rules.py': {'TfdsExampleGen'},
    'components/datasets/folder_listing.py': {'ImageFolderExampleGen'},
    'serving/requests/batching.py': {'InfraCheck'},
    'serving/client.py': set(),
    'capsmodel/calibration.py': {'Evaluator', 'ModelCard', *_TRAINS},
    'capsmodel/data/png_chunks.py': _DECODES,
    'capsmodel/data/image_facts.py': _READS,
    'capsmodel/data/__init__.py': _DECODES,
    'capsmodel/data/preprocessing.py': {'Transform', *_TRAINS},
    'capsmodel/networks/phases.py': _TRAINS,
    'capsmodel/networks/winograd.py': _TRAINS,
    'capsmodel/networks/mlp.py': _TRAINS,
    'capsmodel/networks/native.h': _TRAINS,
    'capsmodel/networks/native_routing.cc': _TRAINS,
    'capsmodel/networks/native_winograd.cc': _TRAINS,
    'capsmodel/training/strategies.py': _TRAINS,
    'capsmodel/training/worker.py': _TRAINS,
    'capsmodel/signatures.py': {'Trainer'},
    'capsmodel/tuner.py': {'Tuner'},
    'capsmodel/summaries/figures.py': set(),
    'capsmodel/summaries/console.py': set(),
    'pipeline/console.py': set(),
    'start_tensorflow.py': set(),
}


def _run(program, folder, *arguments):
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, *arguments],
        env={**os.environ, 'PYTHONPATH': str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope='module')
def copy(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('copy')
    for name in (*_PACKAGES, 'study'):
        shutil.copytree(pathlib.Path(root, name), folder / name)
    shutil.copy(pathlib.Path(root, 'start_tensorflow.py'), folder)
    return folder


def _versions_of_nodes(copy, *edited):
    """The versions by node, before and after each edit, of one process."""
    lines = _run('versions_of_nodes.py', copy, *(copy / file for file in edited))
    return [dict(pair.split('=') for pair in line) for line in lines]


def test_an_edit_changes_the_keys_of_the_nodes_that_run_it(copy):
    (first,) = _versions_of_nodes(copy)
    before, *versions = _versions_of_nodes(copy, *_RUN_BY)
    assert before == first
    for (edited, nodes), after in zip(_RUN_BY.items(), versions, strict=True):
        assert {node for node in before if after[node] != before[node]} == nodes, edited
        before = after
    # What a process has read before makes no difference.
    assert _versions_of_nodes(copy) == [before]


def test_the_version_of_modules_is_that_of_all_that_they_run(copy):
    modules = 'components.derived_examples.component,study.sets.affine'
    is_run = {
        'study/sets/draws.py': True,
        'components/derived_examples/derive.py': True,
        'study/sets/shifted.py': False,
    }
    lines = _run('version_of_modules.py', copy, modules, *(copy / file for file in is_run))
    before, of_first = lines[0]
    assert before != of_first
    for (edited, changes), (after, _) in zip(is_run.items(), lines[1:], strict=True):
        assert (after != before) == changes, edited
        before = after
    assert _run('version_of_modules.py', copy, modules) == lines[-1:]


@pytest.mark.slow
def test_all_that_a_node_imports_is_in_its_key(root):
    lines = {node: set(imported) for node, *imported in _run('imports_of_nodes.py', root)}
    # What a training shows may import anything: no result depends on it.
    shown = {*lines.pop('shown'), *code_version.WITHOUT_RESULTS}
    assert lines.keys() == code_version.STARTS_WITH.keys()
    for node, imported in lines.items():
        assert imported.issuperset(code_version.STARTS_WITH[node])
        own = imported - shown
        assert own <= code_version.modules_of(node).keys(), node


def test_functions_that_tfx_is_told_of_are_in_the_keys(root):
    """TFX gets them as strings in the modules that declare the nodes."""
    started = {module for modules in code_version.STARTS_WITH.values() for module in modules}
    told = set()
    for name in ('pipeline', 'data_nodes', 'evaluation'):
        source = pathlib.Path(root, 'pipeline', f'{name}.py').read_text()
        told |= set(re.findall(r"'((?:capsmodel|components)\.[\w.]+)'", source))
    assert len(told) == 7
    assert {module for module in told if not module.startswith(tuple(started))} == set()


def test_what_is_imported_can_be_read_in_the_sources(root):
    """No module is found by a name that is put together when the code runs."""
    by_name = set()
    for file in (each for name in _PACKAGES for each in pathlib.Path(root, name).rglob('*.py')):
        for line in file.read_text().splitlines():
            assert not line.strip().startswith(('from .', 'import .')), file
            if '__import__' in line or 'import_module' in line:
                by_name.add(file.name)
    # The strings of ROUTINGS, in a module that this one imports, and those of NETWORKS.
    assert by_name == {'layers.py', 'table.py'}
