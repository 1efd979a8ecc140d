"""The image: its Dockerfile is linted, and its steps that install are run outside a container."""

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys

import kubeflow_lint
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project_paths import PROGRAMS, ROOT
from rest_server import rest_server
from saved_models import half_plus_two

_DOCKERFILE = ROOT / 'kubeflow' / 'Dockerfile'
_UNCHECKED_HASH = 1


def _instructions():
    """The Dockerfile's instructions, each as (name, rest of the line)."""
    text = re.sub(r'^#.*\n', '', _DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = text.replace('\\\n', ' ').splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def _locked(name):
    """Names and versions in a lock."""
    text = (ROOT / 'requirements' / name).read_text()
    pinned = re.findall(r'^([\w.-]+)(?:\[.*\])?==(\S+) \\$', text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pinned}


_of_the_image = pytest.mark.skipif(
    importlib.metadata.version('tfx') != _locked('tfx116.txt')['tfx'],
    reason='the image has the other line of TFX',
)


@_of_the_image
def test_the_locked_libraries_are_those_that_the_locked_tensorflow_asks_for():
    asked = {
        requirement.name: str(requirement.specifier).removeprefix('==')
        for requirement in map(Requirement, importlib.metadata.requires('tensorflow'))
        if requirement.marker and requirement.marker.evaluate({'extra': 'and-cuda'})
        if not requirement.marker.evaluate({'extra': ''})
    }
    assert len(asked) > 10
    assert _locked('cuda.txt') == asked


def test_the_base_is_pinned_and_nothing_is_run_by_root():
    instructions = _instructions()
    base = dict(instructions[:1])['ARG'].split('=', 1)[1]
    assert re.search(r'/python:3\.10\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$', base)
    stages = [rest.split() for name, rest in instructions if name == 'FROM']
    assert {image for image, *_ in stages} <= {'${PYTHON_IMAGE}', *(stage[-1] for stage in stages)}
    users = {}
    for name, rest in instructions:
        if name == 'FROM':
            stage = rest.split()[-1]
        elif name == 'USER':
            users[stage] = rest
    assert users == {'cpu': '1000:1000', 'gpu': '1000:1000'}


@pytest.mark.slow
def test_the_linter_has_nothing_to_say():
    def lint(text):
        return subprocess.run(
            [kubeflow_lint.command('hadolint'), '-'],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    done = lint(_DOCKERFILE.read_text())
    assert (done.returncode, done.stdout) == (0, '')
    assert 'DL3008' in lint(_DOCKERFILE.read_text().replace('g++=4:12.2.0-3', 'g++')).stdout


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    """The folder / of the image for GPUs, as the steps of install.sh and the last stage leave it.

    They are run with the files that docker would get, and no others, which are gone afterwards.
    """
    context, image = tmp_path_factory.mktemp('context'), tmp_path_factory.mktemp('image')
    everything, *sent, rest = [
        line
        for line in (ROOT / '.dockerignore').read_text().splitlines()
        if not line.startswith('#')
    ]
    assert (everything, rest) == ('*', '**/__pycache__')
    for name in sent:
        assert name.startswith('!')
        source, target = ROOT / name[1:], context / name[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, target)
    copies = [rest.split() for name, rest in _instructions() if name == 'COPY']
    for *sources, _ in copies:
        assert sources[0].startswith('--from=') or all(
            (context / each).exists() for each in sources
        )
    steps = [
        rest.split('kubeflow/install.sh ')[1].split()
        for name, rest in _instructions()
        if name == 'RUN' and 'kubeflow/install.sh' in rest
    ]
    assert [step for step, _ in steps] == ['uv', 'packages', 'cuda', 'project']
    for step, folder in steps:
        done = subprocess.run(
            ['kubeflow/install.sh', step, f'{image}{folder}'],
            cwd=context,
            env={
                **os.environ,
                'PATH': f'{image}/opt/uv/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin',
                'UV_PYTHON': os.path.realpath(sys.executable),
                'VENV': f'{image}/opt/venv',
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f'{step}: {done.stderr}'
    moved = [copy for copy in copies if copy[0] in ('--from=cuda', '--from=project')]
    assert moved[0][0] == '--from=cuda'
    for _, source, target in moved[:2]:
        shutil.copytree(
            f'{image}{source}', f'{image}{target}', copy_function=os.link, dirs_exist_ok=True
        )
    shutil.rmtree(context)
    yield image
    subprocess.run(['rm', '-rf', image], check=True)


@pytest.fixture
def python(image, tmp_path):
    """Runs the image's Python in an empty folder; gives its output."""

    def run(*arguments, **environment):
        return subprocess.check_output(
            [image / 'opt/venv/bin/python', '-W', 'ignore', *arguments],
            cwd=tmp_path,
            env={'PATH': '/bin', 'TF_CPP_MIN_LOG_LEVEL': '3', **environment},
            text=True,
        )

    return run


@_of_the_image
@pytest.mark.slow
def test_the_image_holds_what_is_locked_and_the_project(image, python):
    lines = python('-m', 'pip', 'list', '--format', 'freeze').splitlines()
    versions = dict(line.split('==') for line in lines)
    installed = {canonicalize_name(name): version for name, version in versions.items()}
    assert installed.pop(canonicalize_name('capsnet-tfx')) == '0.1.0'
    assert installed == _locked('tfx116.txt')
    # Two builds give the same bytecode: it depends on the sources alone.
    packages = image / 'opt/venv/lib/python3.10/site-packages'
    for package in ('capsmodel', 'tfx'):
        (compiled,) = (packages / package / '__pycache__').glob('__init__.*.pyc')
        assert compiled.read_bytes()[4] == _UNCHECKED_HASH


@_of_the_image
@pytest.mark.slow
def test_what_containers_start_runs_away_from_the_project(image, python, tmp_path):
    assert python('-m', 'pipeline.configs', 'dataset') == 'mnist\n'
    # From the schema that is packed with the package to the nodes of the whole pipeline.
    nodes = python(PROGRAMS / 'names_of_nodes.py', VAR=str(tmp_path / 'var')).split()
    assert {'TfdsExampleGen', 'Trainer', 'Pusher'} < set(nodes)
    half_plus_two(str(tmp_path / 'model'), 1)
    own = str(image / 'opt/venv/bin/python')
    with rest_server(f'--model_base_path={tmp_path}/model', python=own, cwd=tmp_path):
        pass


@_of_the_image
@pytest.mark.slow
def test_cuda_is_the_one_of_tensorflow_and_its_libraries_are_found(image, python):
    folders = [
        dict(part.split('=', 1) for part in rest.split())
        for name, rest in _instructions()
        if name in ('ARG', 'ENV') and re.match('CUDA=|LD_LIBRARY_PATH=', rest)
    ]
    cuda, path = folders[0]['CUDA'], folders[1]['LD_LIBRARY_PATH']
    path = path.replace('${CUDA}', f'{image}{cuda}')
    libraries = pathlib.Path(f'{image}{cuda}').glob('*/lib/*.so.*')
    there = {str(library.parent) for library in libraries}
    assert there
    assert there <= set(path.split(':'))
    said = python(PROGRAMS / 'load_cuda.py', LD_LIBRARY_PATH=path, PATH='/bin').split()
    assert said == ['12.3', '8', 'loaded']
