"""How many values JSON has, counted before it is parsed."""

import json

import pytest
from hypothesis import given, strategies
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError
from serving.requests import json_size

_DOCUMENTS = strategies.recursive(
    strategies.none() | strategies.integers() | strategies.text('a\\"[{,', max_size=8),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(strategies.text('a\\"[{,', max_size=8), inner, max_size=4)
    ),
)


def _count(document):
    """Commas, lists, and objects four times."""
    if not isinstance(document, list | dict):
        return 0
    inner = document.values() if isinstance(document, dict) else document
    own = 4 if isinstance(document, dict) else 1
    return own + max(0, len(document) - 1) + sum(map(_count, inner))


@given(_DOCUMENTS, strategies.integers(1, 9), strategies.sampled_from([bytes, bytearray]))
def test_values_outside_of_strings_are_counted(document, piece, kind):
    body = kind(json.dumps(document).encode())
    count = _count(document)
    assert not json_size.is_larger(body, count, piece)
    assert json_size.is_larger(body, count - 1, piece)


def _signatures(*shapes, dtype='DT_FLOAT'):
    signature = meta_graph_pb2.SignatureDef()
    for index, shape in enumerate(shapes):
        info = signature.inputs[f'x{index}']
        info.dtype = types_pb2.DataType.Value(dtype)
        if shape is None:
            info.tensor_shape.unknown_rank = True
        else:
            for size in shape:
                info.tensor_shape.dim.add(size=size)
    return {'serving_default': signature}


@pytest.mark.parametrize(
    ('shape', 'value'),
    [
        ((-1,), 1),
        ((-1, 28, 28), [[1] * 28] * 28),
        ((-1, 3, 1, 1, 1), [[[[1]]]] * 3),
        ((-1, 1, 1, 1, 200), [[[[1] * 200]]]),
    ],
)
def test_a_request_that_the_model_takes_is_never_too_large(shape, value):
    """With two inputs, and with names around each value of each row."""
    row = {'x0': value, 'x1': value}
    body = json.dumps({'instances': [row] * 100}, separators=(',', ':')).encode()
    definitions = _signatures(shape, shape)
    assert not json_size.is_larger(body, json_size.most_values('predict', definitions, 100))
    strings = json.dumps({'instances': [{'x0': {'b64': ''}}] * 100}).encode()
    definitions = _signatures((-1,), dtype='DT_STRING')
    assert not json_size.is_larger(strings, json_size.most_values('predict', definitions, 100))


def test_shapes_bound_the_values():
    small = json_size.most_values('predict', _signatures((-1, 28, 28)), 10)
    assert small < 40_000
    assert json_size.most_values('predict', _signatures((-1, 28, 28)), 20) < 2 * small
    # Nothing is known of these, so that only the bound for all requests is left.
    for shape in (None, (-1, -1), (-1, 28, -1)):
        assert json_size.most_values('predict', _signatures(shape), 10) == 1 << 22
    assert json_size.most_values('classify', _signatures((-1,)), 10) == 1 << 20


def test_what_is_too_large_is_refused_and_what_is_small_is_not_counted():
    definitions = _signatures((-1,))
    body = b'[' + b'0,' * 100_000 + b'0]'
    with pytest.raises(ServingError, match='more values than one may have') as caught:
        json_size.check_size(body, 'predict', definitions, 1000)
    assert caught.value.code == 'INVALID_ARGUMENT'
    json_size.check_size(body, 'predict', definitions, 10_000)
    json_size.check_size(body, 'classify', definitions, 1000)
    json_size.check_size(b'"' + b',' * 200_000 + b'"', 'predict', definitions, 1000)
    json_size.check_size(b'[' * 10_000, 'predict', definitions, 10)
