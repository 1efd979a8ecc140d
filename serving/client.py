"""Asks a running server what a picture shows: `python -m serving.client seven.png`.

It sends the file unchanged over TensorFlow Serving's REST interface; the model converts the picture
to its own size and colours. `--show` writes the picture that the network was given. It needs only
Python.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import itertools
import json
import os
import re
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from typing import Any

_URL = 'http://127.0.0.1:8501/v1/models/capsnet'
_BAR_WIDTH = 40  # characters
_NUMBER = re.compile(r'Image 0 of the batch \(counted from 0\)')
# The client asks the server directly, even if a proxy is set for everything else.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ClientError(Exception):
    """There is no answer; the message says why, and what to do about it."""


class NotServed(ClientError):
    """No server answers, or it does not have the model."""


def predict(
    image: bytes, url: str, signature: str = 'serving_default', timeout: float = 30
) -> dict[str, Any]:
    """Asks a model about one picture.

    Args:
        image: The content of a PNG or JPEG file.
        url: The model's URL, such as `http://127.0.0.1:8501/v1/models/capsnet`; a version or a
            label may follow: `.../versions/3`, `.../labels/stable`.
        signature: A signature that takes encoded pictures.
        timeout: Seconds to wait for the server.

    Returns:
        The signature's outputs for this picture, by name.

    Raises:
        NotServed: The server cannot be reached, or does not have the model.
        ClientError: The server refuses, or answers with something else.
    """
    body = json.dumps(
        {
            'signature_name': signature,
            'instances': [{'b64': base64.b64encode(image).decode('ascii')}],
        }
    )
    answer = _post(f'{_model_url(url)}:predict', body.encode('ascii'), timeout)
    try:
        (prediction,) = answer['predictions']
    except (KeyError, TypeError, ValueError):
        raise ClientError(f'{url} does not answer as TensorFlow Serving does') from None
    if not isinstance(prediction, dict):
        raise ClientError(f"The signature '{signature}' has one output, and not label and scores")
    return prediction


def _model_url(url: str) -> str:
    """The URL with those characters encoded that a URL may not have, such as spaces."""
    url = url.strip()
    if not url.startswith(('http://', 'https://')):
        raise ClientError(f"The URL '{url}' does not begin with http:// or https://")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        name = (host or '').encode('idna').decode()
    except ValueError as error:  # from IDNA as well
        raise ClientError(f"'{url}' is no URL: {error}") from None
    path = parts.path.rstrip('/').removesuffix(':predict')
    if not name or not path:
        what = 'model' if name else 'server'
        raise ClientError(f"The URL '{url}' names no {what}: it must look like {_URL}")
    if ':' in name:
        name = f'[{name}]'
    if port is not None:
        name = f'{name}:{port}'
    return f'{parts.scheme}://{name}{urllib.parse.quote(path, safe="/:@%~+,;=!$&()*")}'


def _post(url: str, body: bytes, timeout: float) -> Any:
    try:
        with _opener.open(url, body, timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            kind = NotServed if error.code == http.HTTPStatus.NOT_FOUND else ClientError
            raise kind(f'The server refuses: {_reason(error)}') from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', error)
        text = getattr(reason, 'strerror', None) or reason
        if isinstance(reason, ConnectionResetError | BrokenPipeError):
            raise ClientError(
                f'The server at {url} closed the connection before it answered ({text}). '
                f'The request has {len(body) / 1e6:.1f} MB: ask for a smaller picture'
            ) from None
        raise NotServed(
            f'No server answers at {url}: {text}. Start one, or give the URL of another one'
        ) from None
    except ValueError as error:
        # urllib raises it for an invalid URL, json for invalid JSON.
        raise ClientError(f'{url} does not answer as TensorFlow Serving does: {error}') from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = json.load(error)['error']
        # TensorFlow's words around what a model says, and the only picture's number.
        said = re.search(r'assertion failed: \[(.*)\]', text, re.DOTALL)
        return _NUMBER.sub('the picture', said[1] if said else text)
    except (ValueError, KeyError, TypeError, OSError):
        return f'{error.code} {error.reason}'


def report(prediction: dict[str, Any], bar: str = '█') -> str:
    """Formats the class and the scores for people.

    Args:
        prediction: Has `label`, and `scores` with a number for each class. If `known` is false, the
            model says that the picture shows none of its classes. Without `class_names`, the
            numbers of the classes are shown. Older models have neither.
        bar: The character that bars are made of.

    Raises:
        ClientError: The label or the scores are missing.
    """
    try:
        label, scores = int(prediction['label']), [float(score) for score in prediction['scores']]
        names = [str(name) for name in prediction.get('class_names', range(len(scores)))]
        answer = f'{prediction.get("class_name", names[label])}, score {scores[label]:.3f}'
    except (KeyError, IndexError, TypeError, ValueError):
        raise ClientError(
            f'The answer has no label and scores, but {", ".join(prediction)}'
        ) from None
    if prediction.get('known') is False:
        answer = f'It shows none of the classes that the network knows. The closest is {answer}.'
    lines = [answer, '']
    longest = max(map(len, names))
    for name, score in zip(names, scores, strict=False):
        row = f'{name:{longest}}  {score:.3f}  {bar * round(_BAR_WIDTH * score)}'
        lines.append(row.rstrip())
    return '\n'.join(lines)


def write_image(prediction: dict[str, Any], path: str) -> None:
    """Writes the picture that the network was given, as a PNG.

    Args:
        prediction: Has `image`, rows of pixels. A pixel is a number from 0 to 255 or, in colour,
            three of them: red, green and blue.
        path: Where to write. The file appears complete or not at all.

    Raises:
        ClientError: There is no such image, or the file cannot be written.
    """
    if 'image' not in prediction:
        raise ClientError(
            'The model does not show what the network was given, but '
            f'{", ".join(sorted(prediction))}. '
            'Ask a newer model, or without --show'
        )
    try:
        png = _png(prediction['image'])
    except (IndexError, TypeError, ValueError):
        raise ClientError("The model's image does not have rows of pixels") from None
    unfinished = f'{path}.unfinished'
    try:
        with open(unfinished, 'wb') as file:
            file.write(png)
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        raise ClientError(f'{path} cannot be written: {error.strerror}') from None


def _png(rows: Sequence[Sequence[Any]]) -> bytes:
    """A PNG with 8 bits for each pixel, or for each of its colours.

    See the PNG specification, section 5.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)

    colour = isinstance(rows[0][0], list)
    lines = [bytes(itertools.chain(*row) if colour else row) for row in rows]
    if {len(line) for line in lines} != {len(rows[0]) * (3 if colour else 1)}:
        raise ValueError('the rows differ in length')
    header = struct.pack('>IIBBBBB', len(rows[0]), len(rows), 8, 2 if colour else 0, 0, 0, 0)
    # The zero before each row says that the row is not filtered.
    pixels = zlib.compress(b''.join(b'\0' + line for line in lines))
    chunks = (chunk(b'IHDR', header), chunk(b'IDAT', pixels), chunk(b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def main() -> None:
    """Prints the class of a picture, and its scores.

    The exit code is 2 if there is no server or no such model, and 1 for every other error.
    """
    parser = argparse.ArgumentParser(
        prog='python -m serving.client', description='Asks a server what a picture shows.'
    )
    parser.add_argument('image', metavar='IMAGE', help='a PNG or JPEG file; - for standard input')
    parser.add_argument('--url', default=_URL, help='URL of the model (%(default)s)')
    parser.add_argument(
        '--signature',
        help='a signature that takes pictures (serving_default; with --show, explain)',
    )
    parser.add_argument(
        '--show', metavar='PNG', help='a file for the picture that the network was given'
    )
    # A terminal may lack letters of the classes' names.
    sys.stdout.reconfigure(errors='replace')  # type: ignore[union-attr]
    arguments = parser.parse_args([_as_file(argument) for argument in sys.argv[1:]])
    # A shell leaves `~` in IMAGE=~/seven.png to the command.
    arguments.image = os.path.expanduser(arguments.image)
    arguments.show = arguments.show and os.path.expanduser(arguments.show)
    try:
        image = _read(arguments.image)
        signature = arguments.signature or ('explain' if arguments.show else 'serving_default')
        prediction = predict(image, arguments.url, signature)
        if _is_named(prediction) and not arguments.signature:
            prediction = predict(image, arguments.url, 'explain')
        text = report(prediction, _bar())
        if arguments.show:
            write_image(prediction, arguments.show)
        print(text)
    except ClientError as error:
        print(f'{str(error).rstrip(".")}.', file=sys.stderr)
        sys.exit(2 if isinstance(error, NotServed) else 1)
    except OSError as error:
        sys.exit(f'{arguments.image} cannot be read: {error.strerror}.')


def _is_named(prediction: dict[str, Any]) -> bool:
    """Whether the class has a name, and `explain` can tell those of the others."""
    return 'class_name' in prediction and 'class_names' not in prediction


def _as_file(argument: str) -> str:
    """Tells a file whose name begins with a dash from an option."""
    is_file = argument.startswith('-') and argument != '-' and os.path.isfile(argument)
    return f'./{argument}' if is_file else argument


def _bar() -> str:
    """The character for bars: a block, or # if the output's encoding lacks it."""
    try:
        '█'.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return '#'
    return '█'


def _read(path: str) -> bytes:
    if path == '-':
        return sys.stdin.buffer.read()
    with open(path, 'rb') as file:
        return file.read()


if __name__ == '__main__':
    main()
