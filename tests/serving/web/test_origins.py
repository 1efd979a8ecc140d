"""Which requests the server takes from a browser, by the headers that tell where they come from."""

import asyncio
import socket

import pytest
from aiohttp import web

from serving.errors import ServingError
from serving.web.connections import Connections
from serving.web.origins import Origins, host_names, is_loopback

_LOCAL = Origins(is_local=True, host='my-machine')
_NAMED = Origins(is_local=True, allowed_hosts=host_names('models.example.com, [2001:DB8::1]'))
_PUBLIC = Origins(is_local=False, host='0.0.0.0')
_CORS = Origins(is_local=True, any_page=True)


def _refusal(origins, text):
    """What is said of a request, which ends without its last empty line; empty if it is taken."""

    async def handle(request):
        try:
            origins.check(request)
        except ServingError as error:
            return web.Response(status=error.http_status, body=error.message.encode())
        return web.Response()

    async def run():
        connections = Connections(handle, 9, 60.0, 60.0)
        with socket.socket() as listener:
            listener.bind(('127.0.0.1', 0))
            async with connections.listening(listener, 0.1):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                lines = [*text.split('\n'), 'Connection: close', '', '']
                writer.write('\r\n'.join(lines).encode())
                head, body = (await reader.read()).split(b'\r\n\r\n', 1)
                writer.close()
                assert head.split()[1] == (b'403' if body else b'200')
                return body.decode()

    return asyncio.run(run())


def _get(host, target='/'):
    return f'GET {target} HTTP/1.1\nHost: {host}'


@pytest.mark.parametrize(
    'host',
    [
        *('localhost', 'LOCALHOST:8501', 'localhost.', 'capsnet.localhost:1', 'localhost:'),
        *('127.0.0.1', '127.0.0.1:8501', '127.8.9.1', '[::1]', '[::1]:8501'),
        *('[0:0::1]:80', '[::ffff:127.0.0.1]', 'my-machine', 'My-Machine:8501'),
    ],
)
def test_names_of_this_machine_are_answered(host):
    assert _refusal(_LOCAL, _get(host)) == ''


@pytest.mark.parametrize(
    'host',
    [
        *('evil.example', 'evil.example:8501', 'localhost.evil.example', '127.0.0.1.evil.example'),
        *('192.168.1.5', '[2001:db8::1]', '10.0.0.1:8501', '0.0.0.0', '[::]', 'notlocalhost'),
        *('', 'localhost:x', '[::1', '::1', 'evil.example@localhost', 'localhost,evil.example'),
        *(
            'localhost/',
            'localhost#',
            '127.1',
            '2130706433',
            'localhost evil.example',
        ),
        'xn--localhost',
    ],
)
def test_other_names_are_refused(host):
    assert _refusal(_LOCAL, _get(host)) == (
        f"This server does not answer to the name '{host}' (--allowed_hosts)"
    )
    assert _refusal(_PUBLIC, _get(host)) == ''


def test_a_whole_url_is_a_name_as_well():
    assert _refusal(_LOCAL, _get('localhost', 'http://localhost:8501/v1/models')) == ''
    for target, host in (
        ('http://evil.example/', 'localhost'),
        ('http://localhost/', 'evil.example'),
        ('http://localhost@evil.example/', 'localhost'),
    ):
        assert 'evil.example' in _refusal(_LOCAL, _get(host, target))


def test_programs_may_leave_out_the_name():
    assert _refusal(_LOCAL, 'GET / HTTP/1.0') == ''
    assert _refusal(_LOCAL, 'POST / HTTP/1.0\nContent-Length: 0') == ''


def test_further_names_are_allowed():
    for host in ('models.example.com', 'Models.Example.com:443', '[2001:db8:0::1]:80', 'localhost'):
        assert _refusal(_NAMED, _get(host)) == ''
    assert _refusal(_NAMED, _get('other.example.com'))
    # Who names some while the server listens for everyone wants only these.
    public = Origins(is_local=False, allowed_hosts=host_names('models.example.com'))
    assert _refusal(public, _get('models.example.com')) == ''
    assert _refusal(public, _get('evil.example'))


def _post(*headers, host='localhost:8501', verb='POST'):
    return '\n'.join([f'{verb} / HTTP/1.1', f'Host: {host}', 'Content-Length: 0', *headers])


_OWN = [
    _post(),
    _post('Origin: http://localhost:8501', 'Sec-Fetch-Site: same-origin'),
    _post('Origin: http://LOCALHOST:8501'),
    _post('Origin: http://127.0.0.1', host='127.0.0.1'),
    _post('Origin: http://127.0.0.1:80', host='127.0.0.1'),
    _post('Origin: http://[::1]:8501', host='[::1]:8501'),
    _post('Origin: https://localhost', host='localhost'),  # a proxy has taken TLS off
    _post('Sec-Fetch-Site: none'),
    _post('Origin: https://evil.example', verb='GET'),
]
_FOREIGN = [
    _post('Origin: https://evil.example'),
    _post('Origin: http://localhost:3000'),
    _post('Origin: http://localhost'),
    _post('Origin: http://127.0.0.1:8501'),
    _post('Origin: http://localhost:8501.evil.example'),
    _post('Origin: http://localhost:8501@evil.example'),
    _post('Origin: http://evil.example/http://localhost:8501'),
    _post('Origin: null'),
    _post('Origin: '),
    _post('Origin: file://localhost:8501'),
    _post('Origin: http://localhost:8501', 'Origin: https://evil.example'),
    _post('Sec-Fetch-Site: cross-site'),
    _post('Sec-Fetch-Site: same-site'),
    _post('Origin: https://evil.example', verb='PUT'),
]


@pytest.mark.parametrize('text', _OWN)
@pytest.mark.parametrize('origins', [_LOCAL, _PUBLIC])
def test_own_pages_and_programs_may_post(origins, text):
    assert _refusal(origins, text) == ''


@pytest.mark.parametrize('text', _FOREIGN)
@pytest.mark.parametrize('origins', [_LOCAL, _PUBLIC])
def test_foreign_pages_may_not_post(origins, text):
    assert _refusal(origins, text).endswith(
        'may not use this server (--allowed_hosts, --rest_api_enable_cors_support)'
    )


@pytest.mark.parametrize('text', _FOREIGN)
def test_all_pages_may_post_with_cors(text):
    assert _refusal(_CORS, text) == ''
    # By a name of this machine only.
    assert _refusal(_CORS, text.replace('Host: localhost:8501', 'Host: evil.example'))


def test_pages_of_further_names_may_post():
    page = _post('Origin: https://models.example.com', 'Sec-Fetch-Site: cross-site')
    assert _refusal(_NAMED, page) == ''
    assert _refusal(_NAMED, page.replace('models', 'evil'))


def test_what_only_this_machine_reaches():
    assert all(map(is_loopback, ('127.0.0.1', '127.1.2.3', '::1')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '192.168.1.5', 'fe80::1', '2001:db8::1')))
