"""JSON as TensorFlow Serving reads it from requests and writes it into answers.

The real server uses RapidJSON 1.1. This module accepts the same extensions of RFC 8259: `NaN` and
`Infinity`, a byte order mark, any text behind the document, and nesting to any depth. Two
differences are on purpose: text that is not Unicode is refused, and if members have the same name,
the last one counts, not the first.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from serving.errors import ServingError, invalid

_DEFAULT_SIGNATURE = 'serving_default'
_EXCERPT = 256  # characters of a wrong value in an error message

# No tensor has this many dimensions, so deeper values are ignored.
_MAX_DEPTH = 300
# A longer document is refused if Python cannot recurse as deep: skipping depths is slow.
_MAX_DEEP_CHARACTERS = 2 << 20

# A run of brackets or a string. It also matches unterminated strings, which keeps the time linear.
_STRUCTURE = re.compile(r'[\[{]+|[\]}]+|"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_SURROGATE = re.compile(r'\\u[dD][89a-fA-F]')
_ENCODER = json.JSONEncoder(ensure_ascii=False)
# For each dtype: the format that always has enough digits, and a function to compare values.
_FLOATS: dict[str, tuple[str, Callable[[float], bytes]]] = {
    'f': ('%.9g', struct.Struct('f').pack),
    'd': ('%.17g', struct.Struct('d').pack),
}
# Above this many values, NumPy is faster. A NumPy call costs as much as formatting tens of values
# when the model that has just run has emptied the processor's caches.
_FEW = 64
_BASE64 = re.compile(rb'[A-Za-z0-9+/]*={0,2}')
_WHITE_SPACE = b' \t\n\v\f\r'

# RapidJSON's messages by those of Python's json module.
_PARSE_ERRORS = {
    'Expecting property name enclosed in double quotes': 'Missing a name for object member.',
    'Illegal trailing comma before end of object': 'Missing a name for object member.',
    "Expecting ':' delimiter": 'Missing a colon after a name of object member.',
    "Expecting ',' delimiter": 'Missing a comma or } or ] after a value.',
    'Unterminated string starting at': 'Missing a closing quotation mark in string.',
    'Invalid control character at': 'Invalid escape character in string.',
    'Invalid \\escape': 'Invalid escape character in string.',
    'Invalid \\uXXXX escape': 'Incorrect hex digit after \\u escape in string.',
}


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """Reads a request's body.

    Numbers without fraction and exponent that 64 bits can hold are ints, all others floats.

    Raises:
        ServingError: It is not a JSON object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if type(document) is not dict:
        raise invalid(f'JSON Value: {excerpt(document)} Is not object')
    return document


def _parse_leniently(body: bytes | bytearray) -> Any:
    """Reads JSON that only the real server accepts, or raises ServingError with its words."""
    try:
        text = body.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        in_string = b'"' in body[: error.start]
        reason = 'Invalid encoding in string.' if in_string else 'Invalid value.'
        raise _parse_error(reason, error.start) from None
    start = len(text) - len(text.lstrip(' \t\n\r'))
    if start == len(text):
        raise _parse_error('The document is empty.', start)
    try:
        return _decode(text, start)
    except RecursionError:
        if len(text) > _MAX_DEEP_CHARACTERS:
            raise _parse_error('Nested too deeply.', start) from None
        return _decode(_without_depths(text), start)


def _decode(text: str, start: int) -> Any:
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        reason = _PARSE_ERRORS.get(error.msg.removesuffix(': '), 'Invalid value.')
        raise _parse_error(reason, len(text[: error.pos].encode())) from None
    if _SURROGATE.search(text):
        try:
            _ENCODER.encode(document).encode()
        except UnicodeEncodeError:
            raise _parse_error('The surrogate pair in string is invalid.', start) from None
    return document


def _without_depths(text: str) -> str:
    """Replaces every list and object that is nested deeper than `_MAX_DEPTH` by null."""
    kept = []
    depth = copied = 0
    for token in _STRUCTURE.finditer(text):
        kind, size = text[token.start()], token.end() - token.start()
        if kind in '[{':
            if depth <= _MAX_DEPTH < depth + size:
                kept.append(text[copied : token.start() + _MAX_DEPTH - depth] + 'null')
            depth += size
        elif kind in ']}':
            if depth - size <= _MAX_DEPTH < depth:
                copied = token.start() + depth - _MAX_DEPTH
            depth -= size
    if depth <= _MAX_DEPTH:
        kept.append(text[copied:])
    return ''.join(kept)


def _integer(text: str) -> int | float:
    """Reads an integer; as in RapidJSON, one that does not fit into 64 bits is a float."""
    if len(text) <= 20 and -(2**63) <= (value := int(text)) < 2**64:
        return value
    return _float(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise invalid(f'JSON Parse error: Number too big to be stored in double. It is {text[:20]}')
    return value


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float)


def _parse_error(reason: str, offset: int) -> ServingError:
    return invalid(f'JSON Parse error: {reason} at offset: {offset}')


def signature_name(document: dict[str, Any]) -> str:
    """The name of the signature that a request asks for.

    Raises:
        ServingError: The name is not a string.
    """
    name = document.get('signature_name', '')
    if type(name) is not str:
        raise invalid(
            f'JSON Value: {excerpt(document)} not formatted correctly. '
            "'signature_name' key must be a string value."
        )
    return name or _DEFAULT_SIGNATURE


def excerpt(value: Any) -> str:
    """The beginning of a value's JSON, for an error message."""
    pieces = []
    size = 0
    for piece in _ENCODER.iterencode(value):  # encodes no more than is read
        pieces.append(piece)
        size += len(piece)
        if size > _EXCERPT:
            break
    return ''.join(pieces)[:_EXCERPT]


def type_name(value: Any) -> str:
    """RapidJSON's name for the type of a value."""
    if isinstance(value, bool):
        return str(value)
    names = {dict: 'Object', list: 'Array', str: 'String', int: 'Number', float: 'Number'}
    return names.get(type(value), 'Null')


def is_base64(value: Any) -> bool:
    """Whether a value is `{"b64": "..."}`."""
    return type(value) is dict and len(value) == 1 and type(value.get('b64')) is str


def decode_base64(value: dict[str, str]) -> bytes:
    """The bytes of `{"b64": "..."}`, which may have white space and lack padding.

    Raises:
        ServingError: The text is not base64.
    """
    # Characters that are not ASCII become '?', which is not base64.
    text = value['b64'].encode('ascii', 'replace').translate(None, _WHITE_SPACE)
    if b'=' not in text:
        text += b'=' * (-len(text) % 4)
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise invalid('Unable to base64 decode')
    return binascii.a2b_base64(text)


def string(text: str) -> str:
    """A JSON string."""
    return _ENCODER.encode(text)


def strings(values: Sequence[bytes], as_base64: bool = False) -> list[str]:
    """JSON strings.

    Args:
        values: Bytes. Bytes that are not UTF-8 stay unchanged if the result is encoded with
            'surrogateescape'; the real server does not check them either.
        as_base64: Whether to write `{"b64": "..."}`.
    """
    if as_base64:
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in values]
    return [string(value.decode('utf-8', 'surrogateescape')) for value in values]


def decimals(values: np.ndarray) -> list[str]:
    """JSON numbers with enough digits to read the same values back.

    A number has six significant digits if they suffice, and else as many as always suffice: 9 for
    float32, 17 for float64. The format is printf's %g, with ".0" added if it has neither "." nor an
    exponent.

    Args:
        values: float32 or float64, any shape.
    """
    if values.size > _FEW:
        return _decimals_of_many(values.ravel())
    all_digits, pack = _FLOATS[values.dtype.char]
    texts = []
    for value in values.ravel().tolist():
        if not math.isfinite(value):
            texts.append(_not_finite(value))
            continue
        text = '%g' % value  # noqa: UP031
        if pack(float(text)) != pack(value):
            text = all_digits % value
        texts.append(text if '.' in text or 'e' in text else f'{text}.0')
    return texts


def _not_finite(value: float) -> str:
    return 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'


@np.errstate(all='ignore')
def _decimals_of_many(values: np.ndarray) -> list[str]:
    """`decimals` for values [n], with NumPy."""
    wide = values.astype(np.float64)
    size = np.abs(wide)
    limits = np.finfo(values.dtype)
    all_digits, _ = _FLOATS[values.dtype.char]
    # Printing six digits and reading them back is slow. The next lines, exact to 8 units of
    # float64, find most values that need more digits: rounding to six digits changes them by more
    # than half a unit in the last place.
    scale = 10.0 ** (5 - np.floor(np.log10(size)))
    away = np.abs(np.rint(wide * scale) / scale - wide)
    unit = limits.eps + 8 * np.finfo(np.float64).eps
    is_long = away > size * unit + limits.smallest_subnormal
    is_whole = wide == np.rint(wide)
    is_plain = is_whole & (size < 1e6)
    forms = np.where(is_plain, '%.1f', np.where(is_long, all_digits, '%g')).tolist()
    texts = [form % value for form, value in zip(forms, wide.tolist(), strict=True)]
    # Few values are left for the slow way.
    short = np.flatnonzero(~(is_plain | is_long))
    back = np.array([float(texts[i]) for i in short]).astype(values.dtype)
    for i in short[back != values[short]].tolist():
        texts[i] = all_digits % wide[i]
    for i in np.flatnonzero(is_whole & ~is_plain).tolist():
        if 'e' not in texts[i]:
            texts[i] += '.0'
    for i in np.flatnonzero(~np.isfinite(wide)).tolist():
        texts[i] = _not_finite(wide[i])
    return texts


def nested(texts: list[str], shape: Sequence[int]) -> list[str]:
    """Nests the texts of a tensor's values in lists.

    Returns:
        One text for each entry of the first axis, or one for a scalar.
    """
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        texts = [
            f'[{", ".join(texts[i * size : (i + 1) * size])}]'
            for i in range(math.prod(shape[:axis]))
        ]
    return texts
