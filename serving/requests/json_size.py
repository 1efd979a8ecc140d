"""Limits the number of values in a request, and counts them before its JSON is parsed.

As Python objects, values take up to a hundred times their bytes in JSON, and no other thread of
Python runs while they are made. So a request that no model could answer is refused before that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import invalid
from serving.models.shapes import ANY, declared_shape

MAX_INSTANCES = 1000  # of a request, unless --max_instances says otherwise
# The most values of any request; the only limit if the shapes leave sizes open. As Python objects,
# they are made in less than 0.2 s and take less than 300 MB.
_MAX_VALUES = 1 << 22
# The most values of a classify or regress request, whose values are converted one by one.
_MAX_FEATURE_VALUES = 1 << 20
# The values of smaller documents are not counted: any of them is parsed in a few milliseconds.
_UNCOUNTED_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
# An object takes as much memory as this many numbers.
_OBJECT_WEIGHT = 4
# Values around a string, such as {"b64": ...}; around a row; and around all rows.
_PER_STRING, _PER_ROW, _PER_DOCUMENT = 6, 16, 1000

_QUOTE, _COMMA, _LIST, _OBJECT = b'",[{'


def check_instances(count: int, most: int) -> None:
    """Raises ServingError if a request has more than `most` instances."""
    if count > most:
        raise invalid(
            f'The request has {count:,} instances; at most {most:,} are allowed (--max_instances)',
        )


def check_size(
    body: bytes | bytearray,
    kind: str,
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef],
    max_instances: int,
) -> None:
    """Raises ServingError if a document has more values than a request to a model may have.

    Args:
        body: JSON. Each value and each list counts once, each object several times.
        kind: 'predict', 'classify' or 'regress'.
        signature_defs: The model's signatures.
        max_instances: The most instances of a request.
    """
    if len(body) <= _UNCOUNTED_BYTES:
        return
    most = most_values(kind, signature_defs, max_instances)
    if len(body) > most and is_larger(body, most):
        raise invalid(
            'The request has more values than one may have: more than this model takes for as '
            f'many instances as are allowed (--max_instances), or than {_MAX_VALUES:,}',
        )


def most_values(
    kind: str, signature_defs: Mapping[str, meta_graph_pb2.SignatureDef], max_instances: int
) -> int:
    """The most values of a request to a model, counted as in `check_size`.

    Args:
        kind: 'predict', 'classify' or 'regress'.
        signature_defs: The model's signatures. The largest counts, because the name of the one that
            is asked may be at the end of the document.
        max_instances: The most instances of a request.
    """
    if kind != 'predict':
        return _MAX_FEATURE_VALUES
    values = (_signature_values(each, max_instances) for each in signature_defs.values())
    return min(_MAX_VALUES, max(values, default=0) + _PER_DOCUMENT)


def _signature_values(signature: meta_graph_pb2.SignatureDef, max_instances: int) -> int:
    count = 0
    for info in signature.inputs.values():
        shape = declared_shape(info)
        if shape is None or ANY in shape[1:]:
            return _MAX_VALUES
        rows, *sizes = shape or [1]
        # A comma, and at most one list for each dimension.
        per_value = 1 + len(sizes)
        if info.dtype == types_pb2.DT_STRING:
            per_value += _PER_STRING
        count += max(rows, max_instances) * (per_value * math.prod(sizes) + _PER_ROW)
    return count


def is_larger(body: bytes | bytearray, most: int, piece_bytes: int = _PIECE_BYTES) -> bool:
    """Whether a document has more than `most` values; it is looked at piece by piece."""
    total = 0
    in_string = 0  # 1 where a piece begins inside a string
    carried = b''  # a backslash at the end of a piece
    for start in range(0, len(body), piece_bytes):
        piece = carried + body[start : start + piece_bytes]
        carried = b''
        if b'\\' in piece:
            # Replace escaped quotes, which do not end a string, by as many other characters.
            piece = piece.replace(b'\\\\', b'..')
            if piece.endswith(b'\\'):
                piece, carried = piece[:-1], b'\\'
            piece = piece.replace(b'\\"', b'..')
        letters = np.frombuffer(piece, np.uint8)
        # An overflow of uint8 does not matter: odd numbers stay odd.
        quotes = np.cumsum(letters == _QUOTE, dtype=np.uint8)
        outside = (quotes + in_string) % 2 == 0
        total += np.count_nonzero(outside & ((letters == _COMMA) | (letters == _LIST)))
        total += _OBJECT_WEIGHT * np.count_nonzero(outside & (letters == _OBJECT))
        if total > most:
            return True
        in_string = (in_string + int(quotes[-1])) % 2 if len(quotes) else in_string
    return False
