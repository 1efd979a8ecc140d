"""The set-up script, the Makefile, the lock and the package."""

import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement
from project_paths import ROOT
from troubles import assert_printed

# What is no package.
_MODULE = 'start_tensorflow.py'
_PACKAGES = ('capsmodel', 'components', 'pipeline', 'serving')
_INTERPRETER = os.path.realpath(sys.executable)
_COMMANDS = (
    'awk', 'bash', 'cat', 'cksum', 'cut', 'df', 'dirname', 'env', 'flock', 'grep', 'make', 'mkdir',
    'id', 'rm', 'sed', 'tail', 'tee', 'uname',
)  # fmt: skip
_VERSION = f'{sys.version_info.major}.{sys.version_info.minor}'
# The line whose Python this one is, and a glibc of a machine that gets it.
_LINE, _GLIBC = ('1.16', '2.36') if _VERSION == '3.10' else ('1.21', '2.39')
_WANTED = '3.10' if _LINE == '1.16' else '3.13 or 3.12 or 3.11'
_LOCK = f'tfx{_LINE.replace(".", "")}'
_SOME_PACKAGE = f'six==1.16.0 --hash=sha256:{"0" * 64}\n'


class _Project:
    """A copy of the set-up with an empty lock, which finds only what a test puts there."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder / 'project'
        self.bin = folder / 'bin'
        self.lock = self.folder / 'requirements' / f'{_LOCK}.txt'
        self.stamp = self.folder / '.venv' / 'ready'
        self.environment = {
            'PATH': str(self.bin),
            'HOME': str(folder / 'home'),
            'UV_CACHE_DIR': str(folder / 'cache'),
            'UV_HTTP_RETRIES': '0',
        }
        self.lock.parent.mkdir(parents=True)
        (self.folder / 'tools').mkdir()
        for name in ('tools/setup.sh', 'tools/bytecode.py', 'requirements/uv.txt', 'Makefile'):
            shutil.copy(ROOT / name, self.folder / name)
        self.lock.write_text('# nothing\n')
        self.bin.mkdir()
        for command in _COMMANDS:
            found = shutil.which(command)
            if found:
                (self.bin / command).symlink_to(found)
        self.command('getconf', f'echo glibc {_GLIBC}')

    def command(self, name: str, script: str) -> pathlib.Path:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        return path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ['tools/setup.sh', *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def set_up(self, *arguments: str, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert not errors
        return output

    def refusal(self, **environment: str) -> str:
        """The one line on stderr of a set-up that fails, and leaves nothing that looks finished."""
        process = self.start(**environment)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1, errors
        assert not self.stamp.exists()
        assert errors.count('\n') == 1
        return errors

    def home_of_venv(self) -> str:
        configuration = (self.folder / '.venv' / 'pyvenv.cfg').read_text()
        return re.search('^home = (.*)$', configuration, re.MULTILINE)[1]


@pytest.fixture
def bare(tmp_path):
    return _Project(tmp_path)


@pytest.fixture
def project(bare):
    own = ROOT / '.tools' / 'uv' / 'bin' / 'uv'
    uv = own if own.exists() else shutil.which('uv')
    if uv is None:
        pytest.skip('uv is there after `make setup`')
    (bare.bin / 'uv').symlink_to(uv)
    return bare


def _use(project: _Project) -> None:
    (project.bin / f'python{_VERSION}').symlink_to(_INTERPRETER)


def test_a_second_call_does_nothing_and_a_changed_lock_sets_up_anew(project):
    _use(project)
    assert f'Setting up Python {_VERSION}' in project.set_up()
    first = project.stamp.stat()
    assert project.set_up() == ''
    assert project.stamp.stat().st_mtime_ns == first.st_mtime_ns
    (project.folder / '.venv' / 'stray').touch()
    project.lock.write_text('# nothing, in other words\n')
    assert 'Setting up' in project.set_up()
    assert not (project.folder / '.venv' / 'stray').exists()


def test_bytecode_is_made_of_what_may_be_imported(tmp_path):
    for name, text in (('a.py', ''), ('b/c.py', ''), ('b/tests/d.py', ''), ('other.py', 'print 1')):
        path = tmp_path / 'package' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    printed = subprocess.check_output(
        [sys.executable, ROOT / 'tools' / 'bytecode.py', tmp_path], text=True
    )
    made = {path.name.partition('.')[0] for path in tmp_path.rglob('*.pyc')}
    assert made == {'a', 'c'}
    assert printed.startswith(f'{tmp_path / "package" / "other.py"}: ')


@pytest.mark.parametrize('name', ['bench', 'torch', 'kubeflow-lint', 'docs'])
def test_other_environments_stand_beside_the_projects(project, name):
    _use(project)
    (project.folder / 'requirements' / f'{name}.txt').write_text('# nothing\n')
    assert f'packages in .venv-{name} ' in project.set_up(name)
    assert (project.folder / f'.venv-{name}' / 'bin' / 'python').exists()
    assert project.set_up(name) == ''
    assert not project.stamp.exists()
    assert 'packages in .venv ' in project.set_up()
    assert project.set_up(name) == ''


def test_a_moved_project_sets_up_anew(project):
    _use(project)
    project.set_up()
    project.folder = project.folder.rename(project.folder.with_name('a new place'))
    assert 'Setting up' in project.set_up()
    assert project.set_up() == ''


def test_without_a_compiler_one_line_says_so_once(project):
    _use(project)
    networks = project.folder / 'capsmodel' / 'networks'
    networks.mkdir(parents=True)
    for package in (networks, networks.parent):
        (package / '__init__.py').write_text('')
    program = networks / 'native_build.py'
    program.write_text('import sys\nsys.exit("there is no C++ compiler")\n')
    said = project.set_up()
    line = (
        'Routing is not compiled for this machine, and training takes longer: there is no C++ comp'
    )
    assert said.count(line) == 1
    assert_printed('no compiler', said)
    assert project.set_up() == ''
    project.command('c++', 'exit 1')  # a compiler is there now: it is tried again
    assert project.set_up().count(line) == 1
    program.write_text('print("compiled")\n')
    assert project.set_up() == ''
    assert (project.folder / '.venv' / 'native').exists()


def test_the_packages_are_importable_from_anywhere_and_hide_nothing(project, tmp_path):
    _use(project)
    project.set_up()
    (project.folder / 'pipeline').mkdir()
    (project.folder / 'pipeline' / '__init__.py').write_text('')
    for name in ('kubeflow', 'serving'):
        (project.folder / name).mkdir()
        installed = project.folder / '.venv' / 'lib' / f'python{_VERSION}' / 'site-packages' / name
        installed.mkdir()
        (installed / '__init__.py').write_text('')
    files = subprocess.check_output(
        [
            project.folder / '.venv' / 'bin' / 'python',
            '-c',
            'import pipeline, kubeflow as k, serving as s; '
            'print(*(module.__file__ for module in (pipeline, k, s)), sep="\\n")',
        ],
        cwd=tmp_path,
        text=True,
    ).splitlines()
    assert files[0] == str(project.folder / 'pipeline' / '__init__.py')
    assert all('site-packages' in file for file in files[1:])


def test_an_interpreter_that_does_not_start_is_passed_over_for_one_of_pyenv(project, tmp_path):
    project.command(f'python{_VERSION}', 'echo "pyenv: command not found" >&2; exit 127')
    versions = tmp_path / 'pyenv' / 'versions' / f'{_VERSION}.99' / 'bin'
    versions.mkdir(parents=True)
    (versions / f'python{_VERSION}').symlink_to(_INTERPRETER)
    project.set_up(PYENV_ROOT=str(tmp_path / 'pyenv'))
    assert project.home_of_venv() == os.path.dirname(_INTERPRETER)


def test_python_names_the_interpreter(project):
    project.command(f'python{_VERSION}', 'exit 1')
    project.set_up(PYTHON=sys.executable)
    assert project.home_of_venv() == os.path.dirname(_INTERPRETER)


@pytest.mark.parametrize(
    ('script', 'reason'),
    [
        ('exit 1', 'does not start.'),
        ('exit 0', 'is not a Python interpreter.'),
        ('echo 3.9 /usr/bin/python3.9', f'is Python 3.9, but Python {_WANTED} is needed.'),
    ],
)
def test_an_unusable_python_is_refused(bare, script, reason):
    _use(bare)
    path = bare.command('chosen', script)
    errors = bare.refusal(PYTHON=str(path))
    assert errors == f'Set-up failed: PYTHON={path} {reason}\n'
    if 'is needed' in reason:
        assert_printed('wrong python', errors)


def test_without_an_interpreter_it_says_what_to_install(project):
    errors = project.refusal(UV_OFFLINE='1')
    newest = _WANTED.split()[0]
    assert_printed('no python', errors)
    assert f'there is no Python {_WANTED} that starts' in errors
    assert f'apt-get install python{newest}-dev' in errors
    assert f'PYTHON=/path/to/python{newest}' in errors


@pytest.mark.parametrize(
    ('uname', 'glibc', 'asked', 'line', 'why'),
    [
        ('Linux x86_64', 'glibc 2.36', '', '1.16', 'TFX 1.21 needs glibc 2.39, found 2.36'),
        ('Linux x86_64', 'glibc 2.39', '', '1.21', 'glibc 2.39 is here, 2.39 or newer is needed'),
        ('Linux x86_64', 'glibc 2.100', '', '1.21', 'glibc 2.100 is here, 2.39 or newer is needed'),
        ('Linux x86_64', 'glibc 3.0', '', '1.21', 'glibc 3.0 is here, 2.39 or newer is needed'),
        ('Linux x86_64', '', '', '1.16', 'TFX 1.21 needs glibc 2.39, found no glibc'),
        ('Darwin x86_64', '', '', '1.16', 'TFX 1.21 needs glibc 2.39, found no glibc'),
        ('Darwin arm64', '', '', '1.21', 'this is macOS on Apple silicon'),
        ('Linux x86_64', 'glibc 2.41', '1.16', '1.16', 'TFX_LINE asks for it'),
        ('Linux x86_64', 'glibc 2.41', '1.21', '1.21', 'glibc 2.41 is here, 2.39 or newer is'),
    ],
)
def test_the_line_is_that_of_the_platform_or_the_one_asked_for(
    project, uname, glibc, asked, line, why
):
    _check_line(project, uname, glibc, asked, line, why)


def test_a_line_that_cannot_be_installed_is_refused_at_once(bare):
    bare.command('uname', 'echo Linux x86_64')
    bare.command('getconf', 'echo glibc 2.38')
    errors = bare.refusal(TFX_LINE='1.21')
    assert_printed('wrong line', errors)
    assert 'TFX 1.21 needs glibc 2.39, found 2.38' in errors
    assert '`make test-trixie`' in errors
    assert 'it has 1.16 and 1.21' in bare.refusal(TFX_LINE='1.22')


@pytest.mark.parametrize(
    ('kept', 'glibc', 'asked', 'line', 'why'),
    [
        ('1.16', '2.41', '', '1.16', '.venv had it before (TFX_LINE=1.21 changes it)'),
        ('1.16', '2.41', '1.21', '1.21', 'glibc 2.41 is here'),
        ('1.21', '2.41', '1.16', '1.16', 'TFX_LINE asks for it'),
        ('1.21', '2.36', '', '1.16', 'TFX 1.21 needs glibc 2.39'),
        ('1.17', '2.41', '', '1.21', 'glibc 2.41 is here'),
    ],
)
def test_the_environment_keeps_its_line_until_another_is_asked_for(
    project, kept, glibc, asked, line, why
):
    (project.folder / '.venv').mkdir()
    (project.folder / '.venv' / 'line').write_text(f'{kept}\n')
    _check_line(project, 'Linux x86_64', f'glibc {glibc}', asked, line, why)


def _check_line(project, uname, glibc, asked, line, why):
    """Checks which line of TFX a set-up chooses, and the reason that it gives."""
    project.command('uname', f'echo {uname}')
    project.command('getconf', f'[ "$1" = GNU_LIBC_VERSION ] && echo {glibc}')
    version = '3.10' if line == '1.16' else '3.12'
    project.command(f'python{version}', f'echo {version} {project.bin}/python{version}')
    (project.folder / 'requirements' / f'tfx{line.replace(".", "")}.txt').write_text('# nothing\n')
    # That Python can make no environment; it is not needed to see which was chosen.
    output, _ = project.start(TFX_LINE=asked).communicate(timeout=60)
    assert output.startswith(f'TFX {line}, since {why}')
    assert f'Setting up Python {version} and 0 packages' in output


def test_the_line_that_was_asked_for_needs_to_be_named_once(project):
    """A machine that would get TFX 1.21 keeps what TFX_LINE=1.16 has set up."""
    _use(project)
    project.command('uname', 'echo Linux x86_64')
    project.command('getconf', 'echo glibc 2.41')
    assert 'Setting up' in project.set_up(TFX_LINE=_LINE)
    assert (project.folder / '.venv' / 'line').read_text() == f'{_LINE}\n'
    assert project.set_up() == ''
    project.lock.write_text('# nothing, in other words\n')
    assert f'TFX {_LINE}, since ' in project.set_up()
    assert project.set_up(TFX_LINE=_LINE) == ''


def test_a_folder_that_path_cannot_hold_is_refused_at_once(bare):
    bare.folder = bare.folder.rename(bare.folder.with_name('12:30'))
    errors = bare.refusal()
    assert errors.startswith(f'Set-up failed: the path of this folder, {bare.folder}, has a colon')
    assert not (bare.folder / '.tools').exists()


@pytest.mark.parametrize('file', ['lock', 'setup.log'])
def test_what_another_user_has_made_is_named(bare, file):
    # A folder in its place can be written as a file by nobody, not even by root.
    (bare.folder / '.tools' / file).mkdir(parents=True)
    process = bare.start()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, '')
    assert errors.startswith(f'Set-up failed: {bare.folder}/.tools cannot be written by ')
    assert errors.count('\n') == 1


def _write_wheel_of_uv(folder: pathlib.Path, version: str, uv: pathlib.Path) -> str:
    """Writes a package that calls another uv; returns its line for a lock."""
    program = zipfile.ZipInfo(f'uv-{version}.data/scripts/uv')
    program.external_attr = 0o100755 << 16
    facts = {
        'METADATA': f'Metadata-Version: 2.1\nName: uv\nVersion: {version}',
        'WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any',
        'RECORD': '',
    }
    wheel = folder / f'uv-{version}-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr(program, f'#!/bin/sh\nexec {uv} "$@"\n')
        for name, text in facts.items():
            archive.writestr(f'uv-{version}.dist-info/{name}', text)
    return f'uv=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n'


@pytest.mark.parametrize('is_file', [False, True], ids=['variables', 'pip.conf'])
def test_where_a_person_lets_pip_install_makes_no_difference(project, tmp_path, is_file):
    _use(project)
    uv = (project.bin / 'uv').resolve()
    (project.bin / 'uv').unlink()
    lock = project.folder / 'requirements' / 'uv.txt'
    version = re.search(r'^uv==(\S+)', lock.read_text(), re.MULTILINE)[1]
    lock.write_text(_write_wheel_of_uv(tmp_path, version, uv))
    options = {'user': 'true', 'require-virtualenv': 'true'}
    options |= {name: str(tmp_path / name) for name in ('prefix', 'target', 'root')}
    if is_file:
        lines = [f'{name} = {text}' for name, text in options.items()]
        (tmp_path / 'pip.conf').write_text('\n'.join(['[global]', *lines]))
        variables = {'PIP_CONFIG_FILE': str(tmp_path / 'pip.conf')}
    else:
        options['python'] = str(tmp_path / 'python')
        variables = {f'PIP_{n.upper().replace("-", "_")}': text for n, text in options.items()}
    said = project.set_up(PIP_NO_INDEX='1', PIP_FIND_LINKS=str(tmp_path), **variables)
    assert 'Setting up' in said
    assert (project.folder / '.tools' / 'uv' / 'bin' / 'uv').exists()


def test_without_pip_and_venv_it_says_what_to_install(bare):
    bare.command('python3', 'echo "No module named pip" >&2; exit 1')
    assert_printed('no venv', bare.refusal())


def test_an_unreachable_index_is_named_with_the_log(project):
    _use(project)
    project.lock.write_text(_SOME_PACKAGE)
    errors = project.refusal(UV_DEFAULT_INDEX='http://127.0.0.1:9/simple')
    assert_printed('no index', errors)
    log = project.folder / re.search(r'All output is in (.*)\.$', errors)[1]
    assert '127.0.0.1:9' in log.read_text()


def test_too_little_space_is_named_in_numbers(project):
    _use(project)
    project.command('df', 'echo head; echo "disk 9000000 7427136 1572864 83% /"')
    errors = project.refusal()
    assert_printed('no space', errors)
    assert '5 GB of free disk space are needed' in errors
    assert 'only 1.5 GB are there' in errors


@pytest.mark.parametrize('blow', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_setup_is_begun_again(project, blow):
    _use(project)
    project.set_up()
    project.lock.write_text(_SOME_PACKAGE)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        silent.settimeout(30)
        process = project.start(UV_DEFAULT_INDEX=f'http://127.0.0.1:{silent.getsockname()[1]}/')
        connection, _ = silent.accept()
        os.killpg(process.pid, blow)
        process.communicate(timeout=30)
        connection.close()
    assert process.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    assert not project.stamp.exists()
    project.lock.write_text('# nothing\n')
    assert 'Setting up' in project.set_up()


@pytest.mark.skipif(shutil.which('flock') is None, reason='no flock here')
def test_it_waits_for_another_setup(project):
    _use(project)
    (project.folder / '.tools').mkdir()
    with open(project.folder / '.tools' / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = project.start()
        assert process.stdout.readline().startswith('Waiting for another set-up')
        assert not (project.folder / '.venv').exists()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert project.stamp.exists()


def _make(project: _Project, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['make', '--no-print-directory', *arguments],
        cwd=project.folder,
        env={**project.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_is_the_default_and_lists_every_target(bare):
    lines = _make(bare).stdout.splitlines()
    makefile = (ROOT / 'Makefile').read_text().replace('\\\n', '')
    phony = re.search(r'^\.PHONY: (.*)$', makefile, re.MULTILINE)[1]
    assert {line.split()[1] for line in lines} == set(phony.split())
    starts = {re.match(r'make \S+ +', line).end() for line in lines}
    assert len(starts) == 1


def test_another_projects_python_variables_break_nothing(project, tmp_path):
    _use(project)
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'os.py').write_text('raise SystemExit("foreign")')
    (foreign / 'target.mk').write_text('package: ; @.venv/bin/python -c "import os; print(os.sep)"')
    variables = {'PYTHONPATH': str(foreign), 'PYTHONHOME': str(foreign), 'CDPATH': str(tmp_path)}
    assert 'Setting up' in project.set_up(**variables)
    done = _make(project, '-fMakefile', f'-f{foreign}/target.mk', 'package', **variables)
    assert done.stdout == '/\n', done.stderr


def test_clean_removes_the_folder_of_runs_only(bare, tmp_path):
    for folder in (bare.folder / 'var' / 'data', bare.folder / 'else', tmp_path / 'mine'):
        folder.mkdir(parents=True)
    assert _make(bare, 'clean').returncode == 0
    assert not (bare.folder / 'var').exists()
    assert (bare.folder / 'else').exists()
    assert _make(bare, 'clean').returncode == 0
    for unsafe in (tmp_path / 'mine', '.', '..', '/'):
        refused = _make(bare, 'clean', f'VAR={unsafe}')
        assert refused.returncode != 0
        assert 'inside the project only' in refused.stderr
    assert (tmp_path / 'mine').exists()
    assert bare.lock.exists()


def test_distclean_removes_the_tools_and_says_what_stays(bare, tmp_path):
    folders = [bare.folder / name for name in ('.venv', '.tools', 'var')]
    for folder in (*folders, tmp_path / 'mine'):
        folder.mkdir()
    done = _make(bare, 'distclean', VAR=str(tmp_path / 'mine'))
    assert done.returncode == 0
    assert f'the project only: {tmp_path}/mine is yours to remove' in done.stderr
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert (tmp_path / 'mine').exists()
    assert _make(bare, 'distclean').stderr == ''
    assert not (bare.folder / 'var').exists()


def _pinned(lock: str) -> dict[str, str]:
    lines = (ROOT / 'requirements' / f'{lock}.txt').read_text()
    return dict(re.findall(r'^([a-z0-9._-]+)(?:\[.*\])?==(\S+)', lines, re.MULTILINE))


@pytest.fixture(scope='module')
def locked() -> dict[str, str]:
    return _pinned(_LOCK)


@pytest.mark.parametrize('lock', ['tfx116', 'tfx121'])
def test_the_lock_holds_what_is_asked_for_and_a_hash_of_everything(lock):
    locked = _pinned(lock)
    text = (ROOT / 'requirements' / f'{lock}.txt').read_text()
    asked_for = [(ROOT / 'requirements' / f'{name}.in').read_text() for name in (lock, 'common')]
    for line in '\n'.join(asked_for).splitlines():
        asked = line.partition('#')[0].strip()
        if asked and asked != '-r common.in':
            requirement = Requirement(asked)
            assert locked[requirement.name] in requirement.specifier
    for pinned in re.split(r'\n(?=\S)', text):
        assert pinned.startswith('#') or '--hash=sha256:' in pinned
    assert '://' not in text
    assert ' /' not in text


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """What packages are built from, copied: a build leaves files beside its sources."""
    tree = tmp_path_factory.mktemp('tree')
    for name in ('LICENSE', 'setup.py', 'MANIFEST.in', 'pyproject.toml', _MODULE):
        shutil.copy(ROOT / name, tree)
    for name in (*_PACKAGES, 'tests'):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns('__pycache__'))
    return tree


@pytest.fixture(scope='module')
def sdist(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sdist')
    build = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'
    subprocess.run([sys.executable, '-c', build, folder], cwd=tree, check=True, capture_output=True)
    return next(folder.iterdir())


def test_the_sdist_has_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        folders = {name.split('/')[1] for name in archive.getnames() if name.count('/') > 1}
    assert folders == {*_PACKAGES, 'capsnet_tfx.egg-info'}


@pytest.mark.parametrize('source', ['tree', 'sdist'])
def test_pip_installs_the_package_with_its_data(source, request, tmp_path, locked):
    venv = tmp_path / 'venv'
    subprocess.run([_INTERPRETER, '-m', 'venv', '--without-pip', venv], check=True)
    installed = venv / 'lib' / f'python{_VERSION}' / 'site-packages'
    (installed / 'locked.pth').write_text(sysconfig.get_path('purelib'))
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', '--python', venv / 'bin' / 'python', 'install'),
            *('--quiet', '--no-deps', '--no-build-isolation', '--no-index'),
            request.getfixturevalue(source),
        ],
        check=True,
        capture_output=True,
    )

    def files(root: pathlib.Path) -> set[str]:
        return {
            str(path.relative_to(root))
            for path in (root / _MODULE, *(f for p in _PACKAGES for f in (root / p).rglob('*')))
            if path.is_file() and '__pycache__' not in path.parts
        }

    assert files(installed) == files(ROOT)
    metadata = installed / 'capsnet_tfx-0.1.0.dist-info'
    found = {path.name for path in installed.iterdir()} - {'__pycache__'}
    assert found == {*_PACKAGES, _MODULE, metadata.name, 'locked.pth'}
    for text in importlib.metadata.Distribution.at(metadata).requires:
        requirement = Requirement(text)
        assert locked[requirement.name] in requirement.specifier
    settings = subprocess.check_output(
        [venv / 'bin' / 'python', '-m', 'pipeline.configs', 'dataset'], cwd=tmp_path, text=True
    )
    assert settings == 'mnist\n'
