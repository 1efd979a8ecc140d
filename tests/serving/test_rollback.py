import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import saved_models
from project_paths import ROOT
from rest_server import request, rest_server

from serving import rollback
from serving.config_files import read_model_config
from serving.errors import ServingError

VERSIONS = (3, 5, 8)
HEAD = '# Which version of m is served.\n\n# Second paragraph.\n'
CONFIG = """model_config_list {
  # This comment is not at the top.
  config { name: "other" base_path: "/other" model_platform: "tensorflow" }
  config { name: "m" base_path: "%s" model_platform: "tensorflow" %s }
}
"""


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    return saved_models.half_plus_two(str(tmp_path_factory.mktemp('export')), 1)


@pytest.fixture
def base_path(tmp_path, export):
    for version in VERSIONS:
        saved_models.copy(export, str(tmp_path / 'm'), version)
    return str(tmp_path / 'm')


@pytest.fixture
def file(tmp_path, base_path):
    """Writes models.config; returns its path."""

    def write(fields=''):
        path = tmp_path / 'models.config'
        path.write_text(HEAD + CONFIG % (base_path, fields))
        return path

    return write


@pytest.fixture
def nobody():
    """A server that is not there."""
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        yield rollback.Server(f'http://127.0.0.1:{taken.getsockname()[1]}', 'm', 1)


def pin(*versions, **labels):
    lines = [f'versions: {version}' for version in versions]
    fields = [f'model_version_policy {{ specific {{ {" ".join(lines)} }} }}'] if lines else []
    fields += [f'version_labels {{ key: "{k}" value: {v} }}' for k, v in labels.items()]
    return '\n'.join(fields)


def served(path, model='m'):
    """Policy, pinned versions and labels in models.config."""
    models = {m.name: m for m in read_model_config(str(path)).model_config_list.config}
    policy = models[model].model_version_policy
    kind = policy.WhichOneof('policy_choice')
    return kind, list(policy.specific.versions), dict(models[model].version_labels)


@pytest.mark.parametrize(
    ('before', 'flags', 'after'),
    [
        ('', {}, ('specific', [5], {'stable': 5})),
        (pin(5, stable=5), {}, ('specific', [3], {'stable': 3})),
        (pin(5, stable=5), {'version': 8}, ('specific', [8], {'stable': 8})),
        (pin(5, stable=5), {'latest': True}, (None, [], {})),
        ('model_version_policy { all { } }', {}, ('specific', [5], {'stable': 5})),
        # Other labels keep their versions, unless these would answer instead of the pinned one.
        (pin(3, 8, old=3, canary=8), {}, ('specific', [3, 5], {'old': 3, 'stable': 5})),
        (pin(8, new=8, stable=8, gone=4), {'latest': True}, (None, [], {'new': 8})),
        # 4 is no longer there, and a server refuses a file that names it.
        (pin(4, 8, gone=4), {}, ('specific', [5], {'stable': 5})),
        # It goes back to what is called stable, and the canary is no more.
        (pin(3, 8, stable=3, canary=8), {}, ('specific', [3], {'stable': 3})),
        (pin(3, 8, stable=3, canary=8), {'latest': True}, (None, [], {})),
        (pin(3, prod=3), {'version': 3}, ('specific', [3], {'prod': 3, 'stable': 3})),
        ('', {'promote': 3}, ('specific', [3, 8], {'stable': 3, 'canary': 8})),
        (pin(3, stable=3), {'promote': 5}, ('specific', [5, 8], {'stable': 5, 'canary': 8})),
        (pin(5, 8, stable=5, canary=8), {'promote': 8}, ('specific', [8], {'stable': 8})),
        (
            pin(3, 5, old=3, stable=5, new=8),
            {'promote': 5},
            ('specific', [3, 5, 8], {'old': 3, 'stable': 5, 'canary': 8, 'new': 8}),
        ),
    ],
)
def test_what_is_written(file, nobody, before, flags, after):
    path = file(before)
    rollback.roll_back(str(path), 'm', nobody, **flags)
    assert served(path) == after
    assert path.read_text().startswith(HEAD + 'model_config_list {\n')
    assert served(path, 'other') == (None, [], {})
    assert not list(path.parent.glob('*.unfinished'))


def test_sentences_without_a_server(file, nobody):
    path = file(pin(8, canary=8))
    says = f'The next server that reads {path} serves %s of m; '
    assert rollback.roll_back(str(path), 'm', nobody) == (
        says % 'version 5' + '--latest goes back to the newest one. Its label canary is removed.'
    )
    assert rollback.roll_back(str(path), 'm', nobody, version=5) == (
        f'{path} already says to serve version 5 of m.'
    )
    assert rollback.roll_back(str(path), 'm', nobody, latest=True) == (
        says % 'the newest version' + '--version pins another one. Its label stable is removed.'
    )
    text = path.read_text()
    assert rollback.roll_back(str(path), 'm', nobody, latest=True) == ''
    assert path.read_text() == text


def test_file_that_is_not_there_is_made(tmp_path, base_path, nobody):
    path = tmp_path / 'new' / 'folder' / 'models.config'
    with pytest.raises(
        rollback.Refused, match=r'There is no .*models\.config: say by --model_base'
    ):
        rollback.roll_back(str(path), 'm', nobody)
    rollback.roll_back(str(path), 'm', nobody, base_path=base_path)
    assert served(path) == ('specific', [5], {'stable': 5})
    path.unlink()
    assert rollback.roll_back(str(path), 'm', nobody, base_path=base_path, latest=True) == ''
    assert served(path) == (None, [], {})
    # Before anything was pushed.
    path.unlink()
    nowhere = str(tmp_path / 'nowhere')
    assert rollback.roll_back(str(path), 'm', nobody, base_path=nowhere, latest=True) == ''
    assert read_model_config(str(path)).model_config_list.config[0].base_path == nowhere


@pytest.mark.parametrize(
    ('flags', 'after'),
    [
        ({'keep': True}, ('specific', [5], {'stable': 5})),
        ({'version': 5}, ('specific', [5], {'stable': 5})),
        ({}, ('specific', [3], {'stable': 3})),
        ({'latest': True}, (None, [], {})),
    ],
)
def test_file_that_was_moved_gets_the_folder_where_the_versions_are_now(
    file, tmp_path, base_path, nobody, flags, after
):
    path = file(pin(5, stable=5))
    text = path.read_text()
    moved = tmp_path / 'moved'
    os.rename(base_path, moved)
    rollback.roll_back(str(path), 'm', nobody, base_path=str(moved), **flags)
    assert served(path) == after
    other, model = read_model_config(str(path)).model_config_list.config
    assert (other.base_path, model.base_path) == ('/other', str(moved))
    # What is right already is not written once more, with its comments gone.
    path.write_text(text)
    os.rename(moved, base_path)
    rollback.roll_back(str(path), 'm', nobody, base_path=base_path, keep=True)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ('model', 'flags', 'said'),
    [
        ('m', {'version': 4}, 'There is no version 4 of m at {base_path}, only 3, 5, 8.'),
        ('n', {}, '{path} has no model n, only other, m.'),
        ('other', {}, 'Cannot read /other: No such file or directory.'),
    ],
)
def test_refusals_leave_the_file_as_it_was(file, base_path, nobody, model, flags, said):
    path = file()
    text = path.read_text()
    with pytest.raises(rollback.Refused) as caught:
        rollback.roll_back(str(path), model, nobody, **flags)
    assert str(caught.value) == said.format(path=path, base_path=base_path)
    assert path.read_text() == text


def _cut(base_path, version, name='saved_model.pb'):
    """Leaves of a version what a copy leaves that was broken off."""
    os.truncate(os.path.join(base_path, str(version), name), 5)


def test_versions_that_do_not_load_are_left_out(file, base_path, nobody):
    path = file()
    _cut(base_path, 5)
    said = rollback.roll_back(str(path), 'm', nobody)
    assert served(path) == ('specific', [3], {'stable': 3})
    assert ' Version 5 is left out, since it does not load: The SavedModel cannot be ' in said
    assert ' Version 3' not in said
    text = path.read_text()
    with pytest.raises(
        rollback.Refused, match=r'There is no version 5 of m at .* that loads, only 3, 5, 8\. Ver'
    ):
        rollback.roll_back(str(path), 'm', nobody, version=5)
    # The newest one is cut off, as a killed push leaves it.
    _cut(base_path, 8, 'variables/variables.data-00000-of-00001')
    assert path.read_text() == text
    said = rollback.roll_back(str(path), 'm', nobody, latest=True)
    assert served(path) == (None, [], {})
    left_out = [version for version in VERSIONS if f' Version {version} is left out' in said]
    assert left_out == [5, 8]
    rollback.roll_back(str(path), 'm', nobody)
    assert served(path) == ('specific', [3], {'stable': 3})
    # The one that was pinned is gone: it goes back from there all the same.
    path = file(pin(7, stable=7))
    _cut(base_path, 3)
    with pytest.raises(
        rollback.Refused,
        match=r'no version before 7 of m at .* that loads, only 3, 5, 8\. Version 5 .* Version 3 ',
    ):
        rollback.roll_back(str(path), 'm', nobody)


def test_nothing_to_go_back_to(file, base_path, nobody):
    path = file(pin(3))
    with pytest.raises(rollback.Refused, match=r'There is no version before 3 of m at .*, only 3,'):
        rollback.roll_back(str(path), 'm', nobody)
    shutil.rmtree(base_path)
    os.mkdir(base_path)
    with pytest.raises(rollback.Refused, match=r'There is no version .* of m at .*, only none\.'):
        rollback.roll_back(str(path), 'm', nobody)


def test_link_and_mode_of_the_file_stay(file, tmp_path, nobody):
    path = file()
    path.chmod(0o640)
    link = tmp_path / 'link.config'
    link.symlink_to(path)
    rollback.roll_back(str(link), 'm', nobody)
    assert link.is_symlink()
    assert served(path) == ('specific', [5], {'stable': 5})
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_canary_that_does_not_load_is_left_out(file, base_path, nobody):
    path = file()
    _cut(base_path, 8)
    said = rollback.roll_back(str(path), 'm', nobody, promote=3)
    assert served(path) == ('specific', [3, 5], {'stable': 3, 'canary': 5})
    assert said.startswith(
        f'The next server that reads {path} serves version 3 of m as stable, and version 5 as '
        'canary and to requests without a label; --latest goes back to the newest one. Version 8 '
        'is left out, since it does not load: '
    )
    said = rollback.roll_back(str(path), 'm', nobody, promote=5)
    assert served(path) == ('specific', [5], {'stable': 5})
    assert 'serves version 5 of m as stable; ' in said
    assert ' Its label canary is removed. Version 8 is left out' in said
    text = path.read_text()
    with pytest.raises(rollback.Refused, match=r'^There is no version 8 of m at .* that loads, '):
        rollback.roll_back(str(path), 'm', nobody, promote=8)
    assert path.read_text() == text


class Requests:
    """Asks a model all the time; `failed` has the answers that are errors."""

    def __init__(self, url, label=''):
        self._url = f'{url}{label}:predict'
        self.failed = []
        self.count = 0

    def __enter__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()

    def _ask(self):
        while not self._stop.is_set():
            try:
                status, _, text = request('POST', self._url, b'{"instances": [2.0]}')
            except OSError as error:
                status, text = 0, str(error)
            self.count += 1
            if status != 200:
                self.failed.append(text)


@contextlib.contextmanager
def running(tmp_path, export, fields='', versions=(1, 2, 3)):
    """A server with versions, and models.config as it reads it again and again."""
    for version in versions:
        saved_models.copy(export, str(tmp_path / 'm'), version)
    path = tmp_path / 'models.config'
    path.write_text(
        f'{HEAD}model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/m" '
        f'model_platform: "tensorflow" {fields} }} }}'
    )
    with rest_server(
        f'--model_config_file={path}',
        '--model_config_file_poll_wait_seconds=0.1',
        '--file_system_poll_wait_seconds=0.1',
        '--allow_version_labels_for_unavailable_models=true',
    ) as url:
        yield path, url


def command(path, url):
    start = [sys.executable, '-m', 'serving.rollback', '--model_name=m']
    return [*start, f'--model_config_file={path}', f'--url={url}']


def roll_back(path, url, *flags, timeout=60):
    """Runs the command; returns exit code, standard output and standard error."""
    asked = [*command(path, url), *flags, f'--timeout={timeout}']
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def available(url):
    statuses = json.loads(request('GET', url)[2])['model_version_status']
    return [int(status['version']) for status in statuses if status['state'] == 'AVAILABLE']


def test_under_a_running_server_no_request_fails(tmp_path, export):
    with running(tmp_path, export, pin(3, stable=3)) as (path, model_url):
        url = model_url.removesuffix('/v1/models/m')
        with Requests(model_url) as unlabelled, Requests(model_url, '/labels/stable') as labelled:
            assert roll_back(path, url) == (
                0,
                f'{url} serves version 2 of m now; --latest goes back to the newest one.\n',
                '',
            )
            assert 2 in available(model_url)
            assert max(available(model_url)) == 2
            assert roll_back(path, url)[1].startswith(f'{url} serves version 1 of m now')
            assert roll_back(path, url, '--version=3')[1].startswith(f'{url} serves version 3')
            counts = unlabelled.count, labelled.count
        assert min(counts) > 20
        assert (unlabelled.failed, labelled.failed) == ([], [])
        assert served(path) == ('specific', [3], {'stable': 3})
        with Requests(model_url) as unlabelled:
            assert roll_back(path, url, '--version=1')[0] == 0
            assert roll_back(path, url, '--latest') == (
                0,
                f'{url} serves the newest version of m now; --version pins another one. '
                'Its label stable is removed.\n',
                '',
            )
            assert roll_back(path, url, '--latest') == (0, '', '')
        assert unlabelled.failed == []
        assert max(available(model_url)) == 3
        assert path.read_text().startswith(HEAD)


def _version_of(url, label):
    answer = json.loads(request('GET', f'{url}/labels/{label}/metadata')[2])
    return int(answer['model_spec']['version'])


def test_a_canary_is_promoted_under_a_running_server(tmp_path, export):
    with running(tmp_path, export, pin(1, stable=1)) as (path, model_url):
        url = model_url.removesuffix('/v1/models/m')
        with Requests(model_url) as unlabelled, Requests(model_url, '/labels/stable') as labelled:
            assert roll_back(path, url, '--promote=2') == (
                0,
                f'{url} serves version 2 of m as stable, and version 3 as canary and to requests '
                'without a label now; --latest goes back to the newest one.\n',
                '',
            )
            assert sorted(available(model_url))[-2:] == [2, 3]
            assert [_version_of(model_url, label) for label in ('stable', 'canary')] == [2, 3]
            # A version that is pushed waits until one asks for it.
            saved_models.copy(export, str(tmp_path / 'm'), 4)
            server = rollback.Server(url, 'm', 60)
            rollback.roll_back(str(path), 'm', server, promote=2)
            assert max(available(model_url)) == 4
            rollback.roll_back(str(path), 'm', server, promote=4)
            assert _version_of(model_url, 'stable') == 4
            counts = unlabelled.count, labelled.count
        assert min(counts) > 20
        assert (unlabelled.failed, labelled.failed) == ([], [])
        assert served(path) == ('specific', [4], {'stable': 4})


def test_server_with_versions_that_do_not_load(tmp_path, export):
    base_path = str(tmp_path / 'm')
    for version in (1, 2):
        saved_models.copy(export, base_path, version)
    saved_models.broken(base_path, 4)
    _cut(base_path, 2, 'variables/variables.index')
    with running(tmp_path, export, versions=(3,)) as (path, model_url):
        url = model_url.removesuffix('/v1/models/m')
        # It has started with the newest version that loads, and says what is wrong with the other.
        statuses = json.loads(request('GET', model_url)[2])['model_version_status']
        assert [(each['version'], each['state']) for each in statuses] == [
            ('4', 'END'),
            ('3', 'AVAILABLE'),
        ]
        assert statuses[0]['status']['error_code'] == 'INVALID_ARGUMENT'
        assert 'cannot be loaded' in statuses[0]['status']['error_message']
        code, said, error = roll_back(path, url)
        assert (code, error) == (0, '')
        assert said.startswith(f'{url} serves version 1 of m now; --latest goes back to the newest')
        assert ' Version 2 is left out, since it does not load: ' in said
        assert max(available(model_url)) == 1
        # Without a process of its own it is done sooner.
        said = rollback.roll_back(str(path), 'm', rollback.Server(url, 'm', 60), latest=True)
        assert ' Version 4 is left out, since it does not load: ' in said
        assert max(available(model_url)) == 3

        unread = tmp_path / 'unread.config'
        shutil.copy(path, unread)
        text = unread.read_text()
        with pytest.raises(ServingError) as caught:
            rollback.roll_back(str(unread), 'm', rollback.Server(url, 'm', 1))
        assert str(caught.value) == (
            f'The server at {url} did not come to serve version 1 within 1 seconds. Was it '
            'started with this --model_config_file, and with --model_config_file_poll_wait_seconds?'
        )
        assert path.read_text() == unread.read_text() == text
        for ending in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(ending) == signal.SIG_IGN:
                continue  # as under nohup
            with subprocess.Popen(
                [*command(unread, url), '--timeout=60'], cwd=ROOT, stderr=subprocess.PIPE, text=True
            ) as waiting:
                while unread.read_text() == text:
                    assert waiting.poll() is None, 'the command ended before the signal'
                    time.sleep(0.05)
                waiting.send_signal(ending)
                assert waiting.communicate()[1] == 'error: interrupted; nothing has changed\n'
            assert (waiting.returncode, unread.read_text()) == (130, text)
        assert available(model_url) == [3]


class _OtherServer(http.server.BaseHTTPRequestHandler):
    """Serves version 8, and once version 5 is asked for has no memory for it."""

    config = None

    def do_GET(self):
        states = {8: ('AVAILABLE', '')}
        if 5 in served(self.config)[1]:
            states[5] = ('END', 'no memory')
        statuses = [
            {'version': str(version), 'state': state, 'status': {'error_message': error}}
            for version, (state, error) in states.items()
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({'model_version_status': statuses}).encode())

    def log_message(self, *_):
        pass


def test_server_that_does_not_follow_leaves_all_as_it_was(file, base_path):
    path = file()
    text = path.read_text()
    handler = type('Handler', (_OtherServer,), {'config': path})
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        with pytest.raises(rollback.Refused) as caught:
            rollback.roll_back(str(path), 'm', rollback.Server(url, 'm', 60), version=5)
        server.shutdown()
    assert str(caught.value) == (
        f'There is no version 5 of m at {base_path} that loads, only 3, 5, 8. Version 5 is left '
        'out, since it does not load: no memory.'
    )
    assert path.read_text() == text


def test_bad_flags_and_files_are_told_in_a_sentence(tmp_path, file):
    path = file()
    path.write_text('model_config_list { config { nam: "m" } }')
    code, _, error = roll_back(path, 'http://127.0.0.1:1')
    assert code == 1
    assert error.startswith(f'error: {path}, line 1: ')
    assert error.count('\n') == 1
    code, _, error = roll_back(path, '127.0.0.1:8501')
    assert code == 2
    assert "--url must begin with http:// or https://, not '127.0.0.1:8501'" in error
    assert roll_back(tmp_path / 'none' / 'x', 'http://127.0.0.1:1')[0] == 1


def test_it_has_no_need_of_tensorflow(tmp_path):
    python, *rest = command(tmp_path / 'none' / 'x', 'http://127.0.0.1:1')
    done = subprocess.run(
        [python, '-X', 'importtime', *rest], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    imported = {line.rpartition(' ')[2] for line in done.stderr.splitlines()}
    assert 'serving.trials' in imported
    assert 'tensorflow' not in imported
