"""The cases of TensorFlow Serving's own tests that need no HTTP; see tests/data/README.md."""

import numpy as np
import pytest
from rest_cases import SPECIFICATION, body, cases, example, read, tensor
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import HTTP_STATUS, ServingError, error_json
from serving.requests.classify_regress import format_regress_response, parse_examples_request
from serving.requests.predict import format_predict_response, parse_predict_request
from serving.web.routes import parse_path


def check(case, ask):
    """Returns the answer, or None where the case expects an error and got it."""
    expected = case['expect'].get('error')
    if not expected:
        return ask()
    with pytest.raises(ServingError) as error:
        ask()
    assert error.value.code == expected['code']
    assert expected['contains'] in error.value.message
    return None


def check_body(case, ask):
    answer = check(case, ask)
    if answer is not None:
        assert read(answer, case) == read(case['expect']['json'], case)


@cases('predict_request')
def test_predict_request(case):
    signature = meta_graph_pb2.SignatureDef()
    for name, dtype in case['signature_inputs'].items():
        signature.inputs[name].dtype = types_pb2.DataType.Value(dtype)
    request = check(case, lambda: parse_predict_request(body(case), {'serving_default': signature}))
    if request is None:
        return
    assert ('row' if request.row_format else 'columnar') == case['expect']['format']
    assert request.inputs.keys() == case['expect']['tensors'].keys()
    for name, described in case['expect']['tensors'].items():
        found, expected = request.inputs[name], tensor(described)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)
        if expected.dtype.kind == 'f':
            np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@cases('predict_response')
def test_predict_response(case):
    outputs = {name: tensor(described) for name, described in case['tensors'].items()}
    check_body(case, lambda: format_predict_response(outputs, case['format'] == 'row'))


@pytest.mark.parametrize('method', ['classify', 'regress'])
@cases('classify_or_regress_request')
def test_examples_request(case, method):
    signature = meta_graph_pb2.SignatureDef()
    signature.inputs['inputs'].dtype = types_pb2.DT_STRING
    signature.outputs[
        {'classify': 'scores', 'regress': 'outputs'}[method]
    ].dtype = types_pb2.DT_FLOAT
    request = check(
        case, lambda: parse_examples_request(body(case), method, {'serving_default': signature})
    )
    if request is None:
        return
    expected = [example(features) for features in case['expect']['examples']]
    assert [example_pb2.Example.FromString(found) for found in request.examples] == expected


@cases('regress_response')
def test_regress_response(case):
    values = np.array([float(value) for value in case['values']], np.float32)
    check_body(case, lambda: format_regress_response({'outputs': values}, len(values)))


@cases('status_body')
def test_error_body(case):
    check_body(case, lambda: error_json(case['message']))


@cases('path_parse')
def test_path(case):
    expected = case['expect']
    if not expected['matched']:
        with pytest.raises(ServingError, match='Malformed request') as error:
            parse_path(case['method'], case['path'])
        assert error.value.code == 'INVALID_ARGUMENT'
        return
    route = check(case, lambda: parse_path(case['method'], case['path']))
    if route is not None:
        kind = expected.get('verb') or expected.get('subresource') or 'status'
        assert (route.kind, route.model) == (kind, expected['model'])
        assert (route.version, route.label) == (expected.get('version'), expected.get('label'))


def test_http_codes():
    assert SPECIFICATION['http_codes'] == HTTP_STATUS
    for code, status in SPECIFICATION['http_codes'].items():
        assert ServingError(code, '').http_status == status
