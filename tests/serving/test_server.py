"""The server as its users meet it: a process that is started, asked, changed and stopped."""

import contextlib
import gzip
import http.client
import json
import os
import pathlib
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from importlib import metadata

import pytest
import rest_server
from busy_model import busy_model
from saved_models import broken, half_plus_two
from troubles import assert_printed

from serving import server as serving_server

_READY = re.compile(r'Serving (\S+), versions? (.+), at (http://\S+)')
_LABEL = 'stable'
_CARD = '<!doctype html><p>Capsules: ü</p><script>alert(1)</script>'.encode()
_PATIENCE = 30  # seconds


def request(method, url, body=None):
    """Status, headers and JSON of an answer."""
    status, headers, text = rest_server.request(method, url, body and body.encode())
    return status, headers, json.loads(text)


class _Server:
    """A process, the lines that it writes, and the URL of its models."""

    def __init__(self, root, *flags, listen=True):
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'serving.server', '--rest_api_port=0', *flags],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = self._lines(self.process.stdout) if listen else None
        self.complained = self._lines(self.process.stderr)

    def _lines(self, stream):
        lines: queue.Queue = queue.Queue()

        def read():
            for line in stream:
                lines.put(line.rstrip('\n'))

        threading.Thread(target=read, daemon=True).start()
        return lines

    def wait_until_ready(self, models=1):
        for _ in range(models):
            if self.said:
                line = self.said.get(timeout=60)
            else:
                line = self.process.stdout.readline().rstrip('\n')
            ready = _READY.fullmatch(line)
            self.models_url = ready[3].removesuffix(f'/{ready[1]}')
        self.address = urllib.parse.urlsplit(self.models_url).netloc

    def predict(self, model, **body):
        return request('POST', f'{self.models_url}/{model}:predict', json.dumps(body))

    def answers(self, model, value):
        """Waits until the model answers 0 with `value`."""
        deadline = time.monotonic() + _PATIENCE
        while self.predict(model, instances=[0.0])[2] != {'predictions': [value]}:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=_PATIENCE)

    def is_running(self):
        exit_code = self.process.poll()
        return exit_code is None

    def listens(self):
        with contextlib.suppress(ConnectionRefusedError):
            self.connect().connect()
            return True
        return False


@contextlib.contextmanager
def _started(root, *flags, listen=True):
    server = _Server(root, *flags, listen=listen)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where the server's files are."""
    return tmp_path_factory.mktemp('server')


def _write_config(folder, changing='', later=False):
    model = "config {{ name: '{0}' base_path: '{1}/{0}' model_platform: 'tensorflow' {2} }}"
    label = f"version_labels {{ key: '{_LABEL}' value: 123 }}"
    models = model.format('half', folder, label) + model.format('changing', folder, changing)
    models += model.format('later', folder, '') if later else ''
    (folder / 'new').write_text(f'model_config_list {{ {models} }}')
    os.replace(folder / 'new', folder / 'models.config')


@pytest.fixture(scope='module')
def server(root, folder):
    """Two models, half plus two and one that will change; metrics, the page, a small bound."""
    extra = pathlib.Path(half_plus_two(str(folder / 'half'), 123), 'assets.extra')
    extra.mkdir(exist_ok=True)
    (extra / 'model_card.html').write_bytes(_CARD)
    half_plus_two(str(folder / 'changing'), 1, plus=1.0)
    _write_config(folder)
    (folder / 'monitoring.config').write_text('prometheus_config { enable: true }')
    with _started(
        root,
        f'--model_config_file={folder}/models.config',
        '--model_config_file_poll_wait_seconds=0.1',
        '--file_system_poll_wait_seconds=0.1',
        '--allow_version_labels_for_unavailable_models',
        f'--monitoring_config_file={folder}/monitoring.config',
        '--max_body_mb=1',
        '--demo=true',
    ) as server:
        server.wait_until_ready(models=2)
        yield server


def test_all_questions_are_answered(server):
    url = f'{server.models_url}/half'
    assert server.predict('half', instances=[1.0, 2.0])[::2] == (200, {'predictions': [2.5, 3.0]})
    assert server.predict('half', inputs=[1.0])[::2] == (200, {'outputs': [2.5]})
    examples = {'examples': [{'x': 80.0}], 'signature_name': 'regress_x_to_y'}
    assert request('POST', f'{url}/versions/123:regress', json.dumps(examples))[2] == {
        'results': [42.0]
    }
    examples['signature_name'] = 'classify_x_to_y'
    assert request('POST', f'{url}/labels/{_LABEL}:classify', json.dumps(examples))[2] == {
        'results': [[['', 42.0]]]
    }
    (status,) = request('GET', url)[2]['model_version_status']
    assert (status['version'], status['state']) == ('123', 'AVAILABLE')
    metadata = request('GET', f'{url}/metadata')[2]
    assert metadata['model_spec'] == {'name': 'half', 'signature_name': '', 'version': '123'}


def test_answers_are_json_and_so_are_errors(server):
    status, headers, _ = server.predict('half', instances=[1.0])
    assert (status, headers['Content-Type']) == (200, 'application/json')
    status, headers, answer = server.predict('half', instances=['x'])
    assert (status, headers['Content-Type']) == (400, 'application/json')
    assert 'not of expected type: float' in answer['error']


@pytest.mark.parametrize('method', ['PUT', 'DELETE', 'PATCH'])
def test_other_verbs_are_malformed_requests(server, method):
    status, _, answer = request(method, f'{server.models_url}/half')
    assert status == 400
    assert answer['error'] == f'Malformed request: {method} /v1/models/half'


def test_head_has_no_body(server):
    connection = server.connect()
    connection.request('HEAD', '/v1/models/half')
    response = connection.getresponse()
    assert (response.status, response.read()) == (400, b'')
    connection.request('GET', '/v1/models/half')
    assert connection.getresponse().status == 200


def test_paths_outside_of_the_interface_are_not_found(server):
    status, _, answer = request('GET', f'http://{server.address}/favicon.ico')
    assert status == 404
    assert answer['error'] == 'Malformed request: GET /favicon.ico'


def test_a_body_may_be_compressed(server):
    connection = server.connect()
    body = gzip.compress(b'{"instances": [4.0]}')
    connection.request('POST', '/v1/models/half:predict', body, {'Content-Encoding': 'gzip'})
    assert json.load(connection.getresponse()) == {'predictions': [4.0]}


def test_a_body_that_cannot_be_decompressed_is_refused(server):
    connection = server.connect()
    connection.request('POST', '/v1/models/half:predict', b'xyz', {'Content-Encoding': 'gzip'})
    assert connection.getresponse().status == 400


def _chunks(count):
    # One that has a length is refused by it alone.
    return (b' ' * (1 << 16) for _ in range(count))


@pytest.mark.parametrize(
    ('body', 'headers'),
    [
        (b' ' * ((1 << 20) + 1), {}),
        # Neither the client's system nor the server's has room for so much.
        (b' ' * (40 << 20), {}),
        (None, {'Content-Length': str(1 << 40)}),
        (_chunks(700), {}),
        (gzip.compress(b' ' * (100 << 20)), {'Content-Encoding': 'gzip'}),
    ],
    ids=['length', 'large', 'announced', 'chunked', 'compressed'],
)
def test_a_body_that_is_too_large_is_refused(server, body, headers):
    connection = server.connect()
    connection.request('POST', '/v1/models/half:predict', body, headers)
    response = connection.getresponse()
    assert response.status == 413
    assert json.load(response)['error'] == (
        'The body is larger than the 1 MB that are allowed (--max_body_mb)'
    )
    assert server.predict('half', instances=[1.0])[0] == 200


def test_a_client_that_asks_whether_to_continue_is_told_so(server):
    head = b'POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n'
    with socket.create_connection(server.address.split(':'), 20) as client:
        client.sendall(head + b'Expect: 100-continue\r\n\r\n')
        assert client.recv(1000) == b'HTTP/1.1 100 Continue\r\n\r\n'
        client.sendall(b'{"instances": [4.0]}')
        assert client.recv(1000).startswith(b'HTTP/1.1 200 OK\r\n')


@pytest.mark.parametrize(
    ('headers', 'status', 'said'),
    [
        ({'Host': 'evil.example'}, 403, 'does not answer to the name'),
        ({'Origin': 'https://evil.example'}, 403, 'may not use this server'),
        ({'Content-Encoding': 'br'}, 415, 'gzip'),
        ({'Content-Encoding': 'zstd'}, 415, 'gzip'),
    ],
)
def test_what_is_not_for_it_is_refused(server, headers, status, said):
    connection = server.connect()
    connection.request('POST', '/v1/models/half:predict', '{"instances": [1]}', headers)
    response = connection.getresponse()
    assert response.status == status
    assert said in json.load(response)['error']


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('GET /v1/models/käse HTTP/1.1\r\nHost: x\r\n\r\n', 'Invalid char in url path'),
        ('GET /v1/models/half HTTP/1.1\r\n\r\n', "Missing 'Host' header in request"),
        ('GET /v1/models/half HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', ''),
        ('nonsense\r\n\r\n', ''),
    ],
)
def test_what_is_no_http_is_refused_in_json(server, text, said):
    with socket.create_connection(server.address.split(':'), 20) as client:
        client.sendall(text.encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 400
        assert response.headers['Content-Type'].startswith('application/json')
        error = json.load(response)['error']
    assert error.startswith(f'The request is no valid HTTP: {said}')
    assert '\n' not in error


def test_a_long_header_is_read(server):
    connection = server.connect()
    connection.request(
        'GET', '/v1/models/half', headers={'Authorization': f'Negotiate {"a" * 12000}'}
    )
    assert connection.getresponse().status == 200


@pytest.mark.parametrize('encoding', ['gzip', 'x-gzip', 'X-GZIP'])
def test_gzip_has_to_be_whole(server, encoding):
    # The JSON is whole before the end of its gzip.
    body = gzip.compress(b'{"instances": [1.0]}' + b' ' * 100)
    for cut, expected in ((None, 200), (-1, 400), (-8, 400), (5, 400)):
        connection = server.connect()
        connection.request(
            'POST', '/v1/models/half:predict', body[:cut], {'Content-Encoding': encoding}
        )
        response = connection.getresponse()
        assert response.status == expected
        assert list(json.load(response)) == ['predictions' if expected == 200 else 'error']


def test_metrics_have_the_names_of_the_real_server(server):
    def count(status, model='half'):
        page = _metrics(server)
        name = ':tensorflow:serving:request_count'
        found = re.search(rf'^{name}{{model_name="{model}",status="{status}"}} (\d+)', page, re.M)
        return int(found[1]) if found else 0

    ok, invalid, unknown = count('OK'), count('INVALID_ARGUMENT'), count('NOT_FOUND', '')
    server.predict('half', instances=[1.0])
    server.predict('half', instances='x')
    request('POST', f'http://{server.address}/v1/models/nobody:predict', '{"instances": [1]}')
    assert (count('OK'), count('INVALID_ARGUMENT')) == (ok + 1, invalid + 1)
    # Names that clients make up are not kept.
    assert count('NOT_FOUND', '') == unknown + 1
    page = _metrics(server)
    assert 'nobody' not in page
    assert '# TYPE :tensorflow:serving:request_count counter\n' in page
    assert '# TYPE :tensorflow:serving:request_latency histogram\n' in page
    assert re.search(
        r'^:tensorflow:serving:request_latency_bucket'
        r'{API="predict",entrypoint="REST",le="10",model_name="half"} \d',
        page,
        re.M,
    )
    assert re.search(
        r'^:tensorflow:serving:runtime_latency_count'
        r'{API="Predict",model_name="half",runtime="TF1"} [1-9]',
        page,
        re.M,
    )


def _metrics(server):
    connection = server.connect()
    connection.request('GET', '/monitoring/prometheus/metrics')
    response = connection.getresponse()
    assert response.headers['Content-Type'].startswith('text/plain')
    return response.read().decode()


@pytest.mark.parametrize('path', ['/demo', '/demo/'])
def test_the_page_is_opened_with_the_model(server, path):
    connection = server.connect()
    connection.request('GET', path)
    response = connection.getresponse()
    assert response.status == 302
    assert response.headers['Location'] == '/demo/?model=half'


def test_the_page_is_served_with_its_types(server):
    connection = server.connect()
    types = {}
    for name in ('?model=half', 'demo.js', 'demo.css', '../models.config', '%2e%2e/server.py', 'x'):
        connection.request('GET', f'/demo/{name}')
        response = connection.getresponse()
        response.read()
        types[name] = (response.status, response.headers['Content-Type'])
        if response.status == 200:
            assert response.headers['Cache-Control'] == 'no-cache'
            assert response.headers['X-Content-Type-Options'] == 'nosniff'
            assert "frame-ancestors 'none'" in response.headers['Content-Security-Policy']
    assert types == {
        '?model=half': (200, 'text/html; charset=utf-8'),
        'demo.js': (200, 'text/javascript; charset=utf-8'),
        'demo.css': (200, 'text/css; charset=utf-8'),
        '../models.config': (404, 'application/json'),
        '%2e%2e/server.py': (404, 'application/json'),
        'x': (404, 'application/json'),
    }


def test_a_card_is_served_with_the_version_that_has_one(server):
    connection = server.connect()

    def asked(path, method='GET'):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(), response.headers

    for path in ('/demo/card?model=half', '/demo/card'):  # by default, of the first model
        status, page, headers = asked(path)
        assert (status, page) == (200, _CARD)
        assert headers['Content-Type'] == 'text/html; charset=utf-8'
    # Whatever stands in a card, it runs no script and loads nothing.
    assert "default-src 'none'" in headers['Content-Security-Policy']
    assert 'script-src' not in headers['Content-Security-Policy']
    status, page, headers = asked('/demo/card?model=half', 'HEAD')
    assert (status, page, headers['Content-Length']) == (200, b'', str(len(_CARD)))
    assert asked('/demo/card?model=changing')[:2] == (204, b'')  # it has none
    for name in ('nobody', '..%2Fhalf', 'half%2F123', '/etc/passwd'):
        assert asked(f'/demo/card?model={name}')[0] == 404


def test_versions_come_and_go_and_each_is_said(server, folder):
    base_path = str(folder / 'changing')
    server.answers('changing', 1.0)
    half_plus_two(base_path, 2, plus=2.0)
    assert server.said.get(timeout=_PATIENCE) == 'Loaded changing, version 2.'
    assert server.said.get(timeout=_PATIENCE) == 'Unloaded changing, version 1.'
    server.answers('changing', 2.0)
    broken(base_path, 3)
    complaint = server.complained.get(timeout=_PATIENCE)
    assert complaint.startswith('changing, version 3, cannot be served: ')
    server.answers('changing', 2.0)
    status = request('GET', f'{server.models_url}/changing')[2]['model_version_status']
    states = {each['version']: each['state'] for each in status}
    assert states == {'3': 'END', '2': 'AVAILABLE', '1': 'END'}

    _write_config(folder, 'model_version_policy { specific { versions: 1 } }')
    assert server.said.get(timeout=_PATIENCE) == 'Loaded changing, version 1.'
    assert server.said.get(timeout=_PATIENCE) == 'Unloaded changing, version 2.'
    server.answers('changing', 1.0)
    _write_config(folder, 'model_version_policy { specifik { versions: 1 } }')
    assert 'specifik' in server.complained.get(timeout=_PATIENCE)
    time.sleep(0.5)
    server.answers('changing', 1.0)
    _write_config(folder, 'model_version_policy { specific { versions: 1 versions: 2 } }')
    assert server.said.get(timeout=_PATIENCE) == 'Loaded changing, version 2.'
    # The file was wrong for many readings, which is said once, and again when it was right between.
    assert server.complained.empty()
    _write_config(folder, 'model_version_policy { specifik { versions: 1 } }')
    assert 'specifik' in server.complained.get(timeout=_PATIENCE)


def test_a_model_that_comes_later_is_served_and_counted_by_its_name(server, folder):
    half_plus_two(str(folder / 'later'), 1, plus=7.0)
    versions = 'model_version_policy { specific { versions: 1 versions: 2 } }'
    _write_config(folder, versions, later=True)
    deadline = time.monotonic() + _PATIENCE
    while 'request_count{model_name="later",status="OK"}' not in _metrics(server):
        assert time.monotonic() < deadline
        server.answers('later', 7.0)
    assert server.said.get(timeout=_PATIENCE) == 'Loaded later, version 1.'


def test_a_label_waits_for_its_version(server, folder):
    """A label that moves is refused until its version is there, and then moves."""
    base_path = str(folder / 'changing')
    half_plus_two(base_path, 8, plus=8.0)
    _write_config(
        folder,
        "model_version_policy { specific { versions: 8 } } version_labels { key: 'new' value: 8 }",
    )
    deadline = time.monotonic() + _PATIENCE
    url = f'{server.models_url}/changing/labels/new:predict'
    while request('POST', url, '{"instances": [0]}')[2] != {'predictions': [8.0]}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    half_plus_two(base_path, 9, plus=9.0)
    _write_config(
        folder,
        'model_version_policy { specific { versions: 8 versions: 9 } } '
        "version_labels { key: 'new' value: 9 }",
    )
    assert 'version 9 of model changing' in server.complained.get(timeout=_PATIENCE)


def test_a_stopped_server_finishes_what_runs_though_nobody_listens_to_it(root, tmp_path):
    base_path = str(tmp_path / 'half')
    half_plus_two(base_path, 1)
    busy_model(str(tmp_path / 'busy'))
    (tmp_path / 'models.config').write_text(
        f"""model_config_list {{
          config {{ name: 'half' base_path: '{base_path}' model_platform: 'tensorflow' }}
          config {{ name: 'busy' base_path: '{tmp_path}/busy' model_platform: 'tensorflow' }}
        }}"""
    )
    config = f'--model_config_file={tmp_path}/models.config'
    with _started(root, config, '--file_system_poll_wait_seconds=0.1', listen=False) as server:
        server.wait_until_ready(models=2)
        # Nothing more fits into a pipe that nobody empties.
        with open(f'/proc/{server.process.pid}/fd/1', 'wb', buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while pipe.write(b'x' * 100):
                    pass
        half_plus_two(base_path, 2, plus=3.0)
        server.answers('half', 3.0)
        server.process.stdout.close()
        half_plus_two(base_path, 3, plus=4.0)
        server.answers('half', 4.0)

        idle = server.connect()
        idle.connect()
        running = server.connect()
        running.request('POST', '/v1/models/busy:predict', '{"instances": [1.5]}')
        unfinished = socket.create_connection(server.address.split(':'), _PATIENCE)
        unfinished.sendall(
            b'POST /v1/models/busy:predict HTTP/1.1\r\nHost: localhost\r\n'
            b'Content-Length: 9\r\n\r\n{'
        )
        server.answers('half', 4.0)  # it has come to both by then
        server.process.terminate()
        while server.listens():
            time.sleep(0.01)
        # It does so while it works.
        assert select.select([running.sock], [], [], 0)[0] == []
        answer = running.getresponse()
        assert (answer.status, json.load(answer)) == (200, {'predictions': [1.5]})
        assert server.process.wait(10) == 0
        assert server.complained.empty()
        unfinished.close()
        idle.close()


@pytest.mark.slow
def test_a_stopped_server_does_not_wait_for_ever(root, tmp_path):
    busy_model(str(tmp_path), 1)
    with _started(
        root,
        f'--model_base_path=file://{tmp_path}',
        '--shutdown_seconds=1',
        '--rest_api_timeout_in_ms=0',
    ) as server:
        server.wait_until_ready()
        with socket.create_connection(server.address.split(':'), _PATIENCE) as client:
            client.sendall(
                b'POST /v1/models/default:predict HTTP/1.1\r\nHost: localhost\r\n'
                b'Content-Length: 20\r\n\r\n{"instances": [1e6]}'
            )
            request('GET', f'{server.models_url}/default')  # it has come to the other by then
            server.process.terminate()
            assert server.process.wait(5) == 1
        assert server.complained.get(timeout=_PATIENCE).startswith(
            'The server still works 1 seconds'
        )


def _blocks(process, number):
    """Whether the main thread of a process lets a signal wait."""
    status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
    return int(re.search(r'^SigBlk:\s+(\w+)$', status, re.MULTILINE)[1], 16) >> (number - 1) & 1


def test_a_signal_ends_a_server_that_is_still_loading(root, tmp_path):
    busy_model(str(tmp_path))
    with _started(root, f'--model_base_path={tmp_path}') as server:
        # Before it begins to load it leaves signals to a thread.
        while not _blocks(server.process, signal.SIGINT):
            assert server.is_running()
            time.sleep(0.01)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        assert server.said.empty()
        assert server.complained.empty()


def test_it_tells_its_versions(capfd):
    with pytest.raises(SystemExit) as stopped:
        serving_server.main(['--version'])
    own, library = capfd.readouterr().out.splitlines()
    assert stopped.value.code == 0
    assert own.startswith('TensorFlow ModelServer: ')
    assert library == f'TensorFlow Library: {metadata.version("tensorflow")}'


def _complaint(capfd, *flags):
    """The one line that a server says which does not start."""
    with pytest.raises(SystemExit) as stopped:
        serving_server.main(flags)
    said, complained = capfd.readouterr()
    assert (stopped.value.code, said) == (1, '')
    assert complained.endswith('\n')
    assert complained.count('\n') == 1
    return complained.rstrip('\n')


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        ('', r'Say what to serve: give --model_base_path or --model_config_file\.'),
        (
            '--model_base_path=x --batching_parameters_file=y',
            r'--batching_parameters_file needs --enable_batching beside it\.',
        ),
        (
            '--model_base_path=gs://b/m',
            r"--model_base_path names 'gs://b/m', but this server reads .*",
        ),
        ('--model_base_path=file://{}/none', r'default: /.*/none is not there\.'),
        ('--model_base_path={}/none', r'default: .*/none is not there\.'),
        ('--model_base_path={}', r'default: .* holds no version: .*'),
        ('--model_base_path={}/broken', r'Version 7 of default cannot be served: .*'),
        ('--model_config_file={}/none.config', r'.*/none\.config.*'),
        ('--model_config_file={}/wrong.config', r'.*/wrong\.config.*confg.*'),
        ('--model_base_path=x --enable_batching --batching_parameters_file={}/none', r'.*/none.*'),
        ('--model_base_path=x --monitoring_config_file={}/none', r'.*/none.*'),
        ('--model_base_path=x --host=nowhere.invalid', r'Port 0 of nowhere\.invalid cannot be .*'),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(capfd, tmp_path, flags, said):
    (tmp_path / 'wrong.config').write_text('model_config_list { confg { } }')
    broken(str(tmp_path / 'broken'), 7)
    flags = ['--rest_api_port=0', *flags.format(tmp_path).split()]
    assert re.fullmatch(said, _complaint(capfd, *flags))


def test_a_port_that_is_taken_is_named(capfd):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        said = _complaint(capfd, f'--rest_api_port={port}', '--model_base_path=x')
    assert_printed('port taken', said)
    assert said == (
        f'Port {port} of 127.0.0.1 cannot be listened at: Address already in use. Choose another '
        'one with --rest_api_port, or an address of this machine with --host.'
    )


@pytest.mark.parametrize('flag', ['--rest_api_port=70000', '--demo=maybe', '--max_body_mb=0'])
def test_a_wrong_flag_is_explained(capfd, flag):
    with pytest.raises(SystemExit) as stopped:
        serving_server.main([flag])
    assert stopped.value.code == 2
    name = flag.partition('=')[0]
    assert (
        capfd.readouterr()
        .err.splitlines()[-1]
        .startswith(f'python -m serving.server: error: argument {name}: must be ')
    )
