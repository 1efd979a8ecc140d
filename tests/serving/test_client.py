"""The command that asks a server what a picture shows."""

import http.server
import json
import operator
import os
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import person_png
import pytest
from PIL import Image
from project_paths import ROOT
from troubles import assert_printed

from serving import client

NONE_OF_THEM = 'It shows none of the classes that the network knows. '


def _run(*arguments, picture=None, cwd=None, encoding='utf-8'):
    """Runs the command with nothing to import but Python's own modules and the client."""
    command = [sys.executable, '-S', '-m', 'serving.client', *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONIOENCODING': encoding}
    done = subprocess.run(
        command, cwd=cwd, env=environment, input=picture, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.fixture
def seven(tmp_path, mnist_test):
    """A file with a digit of MNIST that is a seven."""
    image = mnist_test.images[mnist_test.labels == 7][0]
    Image.fromarray(image).save(tmp_path / 'seven.png')
    return tmp_path / 'seven.png'


def test_it_prints_the_digit_and_its_scores(seven, digits_url):
    code, output, errors = _run(seven, '--url', digits_url)
    assert (code, errors) == (0, '')
    first, empty, *rows = output.splitlines()
    scores = {int(row.split()[0]): float(row.split()[1]) for row in rows}
    assert (first, empty, len(rows)) == (f'7, score {scores[7]:.3f}', '', 10)
    assert max(scores, key=scores.get) == 7
    assert rows[7].split()[2] == '█' * round(40 * scores[7])
    versioned = f'{digits_url}/versions/3'
    assert _run('-', '--url', versioned, '--signature', 'explain', picture=seven.read_bytes()) == (
        (0, output, '')
    )


class _Numbered(http.server.BaseHTTPRequestHandler):
    """A server of four classes with numbers for names, the second of which is called 1."""

    def do_POST(self):
        signature = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        answer = {'label': 1, 'class_name': '1', 'scores': [0.1, 0.7, 0.1, 0.1], 'known': True}
        if signature.get('signature_name') == 'explain':
            answer['class_names'] = ['0', '1', '7', '9']
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({'predictions': [answer]}).encode())

    def log_message(self, *_):
        pass


def test_names_that_are_numbers_need_not_be_the_labels(seven):
    with http.server.HTTPServer(('127.0.0.1', 0), _Numbered) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/v1/models/m'
        _, output, _ = _run(seven, '--url', url)
        server.shutdown()
    assert [row.split()[0] for row in output.splitlines()[2:]] == ['0', '1', '7', '9']


@pytest.mark.parametrize('encoding', ['latin-1', 'ascii'])
def test_bars_are_of_what_the_terminal_has(seven, digits_url, encoding):
    _, output, _ = _run(seven, '--url', digits_url)
    assert _run(seven, '--url', digits_url, encoding=encoding) == (0, output.replace('█', '#'), '')


def test_names_of_files_may_begin_with_a_dash(seven, digits_url):
    os.rename(seven, seven.with_name('-7.png'))
    for arguments in (['-7.png', '--url', digits_url], ['--url', digits_url, '--', '-7.png']):
        code, output, errors = _run(*arguments, cwd=seven.parent)
        assert (code, output[0], errors) == (0, '7', '')
    # Through make as well; this one is not there.
    done = subprocess.run(
        ['make', 'predict', 'IMAGE=-no.png'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith('-no.png cannot be read: No such file or directory.\n')


def test_it_writes_what_the_network_was_given(seven, digits_url):
    shown = seven.with_name('-shown.png')
    shown.write_bytes(b'an earlier picture')
    plain = _run(seven, '--url', digits_url)
    found = _run(seven, '--url', digits_url, '--show=-shown.png', cwd=seven.parent)
    assert found == plain
    wrong = _run(seven, '--url', digits_url, '--signature', 'serving_default', '--show', 'x.png')
    assert wrong == (
        1,
        '',
        'The model does not show what the network was given, but class_name, known, label, '
        'scores. '
        'Ask a newer model, or without --show.\n',
    )
    picture = Image.open(shown)
    assert picture.mode == 'L'
    np.testing.assert_array_equal(picture, Image.open(seven))
    assert sorted(os.listdir(seven.parent)) == ['-shown.png', 'seven.png']


def test_a_picture_of_no_digit_is_said_to_be_none(tmp_path, digits_url):
    Image.new('L', (40, 30), 200).save(tmp_path / 'blank.png')
    code, output, errors = _run(tmp_path / 'blank.png', '--url', digits_url)
    assert (code, errors) == (0, '')
    assert re.match(
        re.escape(NONE_OF_THEM) + r'The closest is \d, score 0\.\d{3}\.\n\n0  0', output
    )


def test_urls_are_taken_as_people_write_them(seven, digits_url):
    for url in (f'{digits_url}/', f' {digits_url}', f'{digits_url}:predict'):
        assert _run(seven, '--url', url)[0] == 0
    answer = client.predict(seven.read_bytes(), digits_url.replace('digits', '%64igits'))
    assert answer['label'] == 7


def test_pictures_of_people_are_read(mnist_test, digits_url):
    pictures = map(person_png.as_person_png, mnist_test.images[:20])
    found = [client.predict(picture, digits_url)['label'] for picture in pictures]
    assert sum(map(operator.eq, found, mnist_test.labels[:20])) >= 16


@pytest.mark.parametrize(
    ('picture', 'options', 'exit_code', 'said'),
    [
        (b'text', [], 1, 'The server refuses: the picture is neither a PNG nor a JPEG. Use .*'),
        (
            b'',
            ['--signature', 'look'],
            1,
            'The server refuses: .*"look" not found in signature def.',
        ),
        (b'', ['--url', '{url}x'], 2, r'The server refuses: .*Latest\(digitsx\).'),
        (
            b'',
            ['--url', 'localhost'],
            1,
            "The URL 'localhost' does not begin with http:// or https://.",
        ),
        (b'', ['--url', '{url} two'], 2, r'The server refuses: .*Latest\(digits two\).'),
        (b'', ['--url', '{url}é'], 2, r'The server refuses: .*Latest\(digitsé\).'),
        *(
            (
                b'',
                ['--url', url],
                1,
                f"The URL '{re.escape(url)}' names no {what}: it must look like .*",
            )
            for url, what in (
                ('http://127.0.0.1:8501', 'model'),
                ('http://127.0.0.1:8501/', 'model'),
                ('http://', 'server'),
                ('http:///v1/models/m', 'server'),
            )
        ),
        *(
            (b'', ['--url', url], 1, f"'{re.escape(url)}' is no URL: .*")
            for url in (
                'http://[::1/v1/models/m',
                'http://a:b/v1/models/m',
                'http://a..b/v1/models/m',
            )
        ),
        (
            b'',
            ['--url', 'http://127.0.0.1:1/v1/models/m'],
            2,
            'No server answers at http://127.0.0.1:1/.*: Connection refused. Start one, '
            'or give the URL of another one.',
        ),
    ],
)
def test_what_goes_wrong_is_said_in_a_sentence(
    tmp_path, digits_url, picture, options, exit_code, said
):
    (tmp_path / 'picture').write_bytes(picture)
    options = [option.format(url=digits_url) for option in options]
    code, output, errors = _run(tmp_path / 'picture', '--url', digits_url, *options)
    assert (code, output) == (exit_code, '')
    (line,) = errors.splitlines()
    assert re.fullmatch(said, line), line
    if exit_code == 2 and 'refused' in said:
        assert_printed('no server', line)
    if picture == b'text':
        assert_printed('other format', line)


def test_a_server_that_hangs_up_is_not_taken_for_none(seven):
    with socket.create_server(('127.0.0.1', 0)) as server:

        def hang_up():
            client, _ = server.accept()
            # What it has not read makes a reset of the end.
            client.recv(1)
            client.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f'http://127.0.0.1:{server.getsockname()[1]}/v1/models/m'
        code, output, errors = _run(seven, '--url', url)
        thread.join()
    assert (code, output) == (1, '')
    assert errors.startswith(f'The server at {url}:predict closed the connection before it answe')
    assert 'The request has 0.0 MB' in errors


def test_a_file_at_home_is_found(seven, digits_url, monkeypatch):
    monkeypatch.setenv('HOME', str(seven.parent))
    code, output, _ = _run('~/seven.png', '--url', digits_url, '--show', '~/frame.png')
    assert (code, output[:1]) == (0, '7')
    assert (seven.parent / 'frame.png').exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    code, _, errors = _run(tmp_path / 'no.png')
    assert (code, errors) == (1, f'{tmp_path}/no.png cannot be read: No such file or directory.\n')


def test_a_file_that_cannot_be_written_is_named(seven, digits_url):
    for name, why in (('no/frame.png', 'No such file or directory'), ('.', 'Is a directory')):
        path = seven.parent / name
        code, output, errors = _run(seven, '--url', digits_url, '--show', path)
        assert (code, output, errors) == (1, '', f'{path} cannot be written: {why}.\n')
    assert os.listdir(seven.parent) == ['seven.png']


@pytest.mark.parametrize(
    ('prediction', 'said'),
    [
        ({'x': 1, 'y': 2}, 'no label and scores, but x, y'),
        ({'label': 2, 'scores': [0.5, 0.5]}, 'no label and scores, but label, scores'),
    ],
)
def test_other_answers_are_no_digits(prediction, said):
    with pytest.raises(client.ClientError, match=said):
        client.report(prediction)


@pytest.mark.parametrize(
    ('prediction', 'said'),
    [
        ({'label': 1, 'scores': [0.25, 0.9]}, 'does not show .* but label, scores. Ask a newer'),
        *(
            ({'image': image}, 'image does not have rows of pixels')
            for image in (
                *(7, [], [[0.5]], [[256]], [[1, 2], [3]]),
                *([[[1, 2, 256]]], [[[1, 2]]], [[[1, 2, 3], 4]], [[1, [2, 3, 4]]]),
            )
        ),
    ],
)
def test_an_answer_without_an_image_is_refused(tmp_path, prediction, said):
    with pytest.raises(client.ClientError, match=said):
        client.write_image(prediction, str(tmp_path / 'frame.png'))
    assert not os.listdir(tmp_path)


def test_a_coloured_image_is_written_in_its_colours(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    client.write_image({'image': image.tolist()}, str(tmp_path / 'frame.png'))
    np.testing.assert_array_equal(Image.open(tmp_path / 'frame.png'), image)


def test_report_has_a_line_for_each_class():
    rows = f'0  0.250  {"█" * 10}\n1  0.900  {"█" * 36}'
    prediction = {'label': 1, 'scores': [0.25, 0.9]}
    # Older models do not answer `known`.
    for known in ({}, {'known': True}):
        assert client.report({**prediction, **known}) == f'1, score 0.900\n\n{rows}'
    assert client.report({**prediction, 'known': False}) == (
        f'{NONE_OF_THEM}The closest is 1, score 0.900.\n\n{rows}'
    )


def test_report_names_the_classes():
    prediction = {'label': 1, 'scores': [0.25, 0.9], 'class_names': ['T-shirt', 'dög']}
    assert client.report(prediction, '#') == (
        f'dög, score 0.900\n\nT-shirt  0.250  {"#" * 10}\ndög      0.900  {"#" * 36}'
    )


def test_it_asks_for_the_names_of_the_classes(seven, digits_url):
    url = digits_url.replace('digits', 'photographs')
    code, output, errors = _run(seven, '--url', url)
    assert (code, errors) == (0, '')
    first, _, *rows = output.splitlines()
    assert [row[:10].strip() for row in rows] == ['red', 'dark green', 'dög']
    assert re.search(r'\b(red|dark green|dög), score \d', first)
    # A signature that is asked for by its name has but the number and the name.
    _, output, _ = _run(seven, '--url', url, '--signature', 'serving_default')
    assert [row.split()[0] for row in output.splitlines()[2:]] == ['0', '1', '2']
    _, output, _ = _run(seven, '--url', url, encoding='ascii')
    assert output.splitlines()[-1].startswith('d?g')
