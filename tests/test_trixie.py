"""The script that runs commands in a Debian 13, here with a system of a few files in its place."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from project_paths import ROOT

_COMMANDS = ('cat', 'env', 'ls', 'sh', 'sleep')


def _may_mount():
    if os.getuid() or not shutil.which('unshare'):
        return False
    tried = subprocess.run(['unshare', '--mount', 'true'], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not _may_mount(), reason='nothing may be mounted here')

# Instead of the real one, which takes a minute and the network: a system of a few files.
_DEBOOTSTRAP = """#!/bin/sh -e
case $* in
    *--force-check-gpg*) ;;
    *) echo 'E: a real one would download what nobody has signed' >&2; exit 1 ;;
esac
for argument; do before=$last last=$argument; done
root=$before
mkdir -p "$root/proc" "$root/sys" "$root/dev/shm" "$root/etc/ssl/certs" "$root/usr/bin" "$root/tmp"
ln -s usr/bin "$root/bin"
for command in COMMANDS; do
    path=$(command -v $command)
    cp -L "$path" "$root/usr/bin/"
    ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done
done
for command in true apt-get; do
    printf '#!/bin/sh\\n' >"$root/usr/bin/$command"
    chmod +x "$root/usr/bin/$command"
done
echo installed >>"$root/../count"
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / 'project'
    for name in ('.venv/old', 'tools/trixie.sh', '.gitignore', 'pipeline/x.py', 'var/data'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in ('tools/trixie.sh', '.gitignore'):
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / 'bin').mkdir()
    stand_in = tmp_path / 'bin' / 'debootstrap'
    stand_in.write_text(_DEBOOTSTRAP.replace('COMMANDS', ' '.join(_COMMANDS)))
    stand_in.chmod(0o755)
    return folder


def _start(project, *command, **environment):
    return subprocess.Popen(
        ['tools/trixie.sh', *command],
        cwd=project,
        env={'PATH': f'{project.parent}/bin:{os.environ["PATH"]}', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _run(project, *command, **environment):
    process = _start(project, *command, **environment)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def _mounts():
    return pathlib.Path('/proc/self/mounts').read_text()


def _processes(marker):
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            found += [path] if marker in path.read_text() else []
        except OSError:
            continue
    return found


def test_a_command_runs_on_a_copy_and_the_system_is_used_again(project):
    before = _mounts()
    status, output, errors = _run(project, 'sh', '-c', 'ls; cat /proc/1/cmdline; exit 7')
    assert (status, errors) == (7, '')
    assert output.startswith('Installing Debian 13 in ')
    assert 'pipeline\ntools\n' in output
    assert '--inside' in output  # the first process is the script
    # What is ignored is not copied, and stays in the copy.
    assert 'var' not in output
    (project / 'pipeline' / 'x.py').unlink()
    _, output, _ = _run(project, 'sh', '-c', 'ls -A . pipeline; echo kept >.venv')
    assert 'x.py' not in output
    assert 'Installing' not in output
    _, output, _ = _run(project, 'cat', '.venv')
    assert output == 'kept\n'
    assert (project / '.trixie' / 'count').read_text() == 'installed\n'
    assert (project / '.venv' / 'old').exists()
    assert _mounts() == before


@pytest.mark.parametrize('blow', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_nothing_is_left(project, blow):
    before = _mounts()
    _run(project, 'true')
    marker = f'86{os.getpid()}'
    process = _start(project, 'sh', '-c', f'echo up; sleep {marker} & sleep {marker}')
    assert process.stdout.readline() == 'up\n'
    assert _mounts() == before
    assert 'in use by another call' in _run(project, 'true')[2]
    os.killpg(process.pid, blow)
    process.communicate(timeout=20)
    assert process.returncode
    until = time.monotonic() + 10
    while _processes(marker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _processes(marker)
    assert _mounts() == before
    assert _run(project, 'true')[0] == 0


def test_both_sides_see_one_folder(project):
    _run(project, 'sh', '-c', 'echo inside >.trixie/shared/said')
    assert (project / '.trixie' / 'shared' / 'said').read_text() == 'inside\n'


def test_what_goes_wrong_is_a_sentence(project):
    assert _run(project) == (1, '', 'Debian 13 failed: name a command, such as `make test`.\n')
    (project.parent / 'bin' / 'debootstrap').write_text('#!/bin/sh\necho "E: no mirror"; exit 1\n')
    status, _, errors = _run(project, 'true')
    log = project / '.trixie' / 'debootstrap.log'
    assert (status, errors) == (1, f'Debian 13 failed: E: no mirror All output is in {log}.\n')
    assert _run(project, 'true')[0] == 1
    assert _run(project, '--check') == (0, '', '')
    (project.parent / 'bin' / 'debootstrap').unlink()
    tool = shutil.which('id')
    assert tool
    without = f'{project.parent}/bin:{os.path.dirname(tool)}'
    if not shutil.which('debootstrap', path=without):
        for command in ('--check', 'true'):
            errors = _run(project, command, PATH=without)[2]
            assert errors.startswith('Debian 13 failed: there is no debootstrap ')
