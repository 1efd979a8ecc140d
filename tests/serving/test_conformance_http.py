"""The cases of TensorFlow Serving's own tests, asked of the running server.

All of them but two, which HTTP cannot put: an answer with a tensor that has no shape, and one to no
examples.
"""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from rest_cases import SPECIFICATION, body, cases, example, read, tensor
from rest_server import request, rest_server
from saved_models import CLASSIFY, REGRESS, export, half_plus_two, set_methods
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2

MODEL, LABEL = 'half_plus_two', 'stable'
EXAMPLES = tf.TensorSpec([None], tf.string, 'inputs')
WITH_A_MODEL = ('predict_request', 'predict_response', 'regress_response')
UNASKABLE = ('FromJsonSingleTensorErrors.40', 'regression_result_empty')


def _echo(signature_inputs):
    """A function that answers with what it is asked."""
    specs = [
        tf.TensorSpec(None, tf.as_dtype(types_pb2.DataType.Value(dtype)), name)
        for name, dtype in signature_inputs.items()
    ]

    @tf.function(input_signature=specs)
    def echo(*values):
        return {spec.name: tf.identity(value) for spec, value in zip(specs, values, strict=True)}

    return echo.get_concrete_function()


def _always(outputs, spec):
    """A function that gives one answer to all."""

    @tf.function(input_signature=[spec])
    def answer(_):
        return {name: tf.constant(value) for name, value in outputs.items()}

    return answer.get_concrete_function()


@tf.function(input_signature=[EXAMPLES])
def _spell(inputs):
    """Answers with the serialized examples themselves, as labels."""
    return {'classes': tf.io.encode_base64(inputs)[:, tf.newaxis]}


def _export(case, base_path):
    """Writes the model that a case is about, with the case's id as its name."""
    function = {
        'predict_request': lambda: _echo(case['signature_inputs']),
        'predict_response': lambda: _always(
            {name: tensor(described) for name, described in case['tensors'].items()},
            tf.TensorSpec([None], tf.float32, 'x'),
        ),
        'regress_response': lambda: _always(
            {'outputs': np.array([float(value) for value in case['values']], np.float32)}, EXAMPLES
        ),
    }[case['kind']]()
    path = export(base_path, 1, {'serving_default': function})
    if case['kind'] == 'regress_response':
        set_methods(path, serving_default=REGRESS)


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """Serves half plus two, version 123, and the models of the cases; gives their URLs' start."""
    folder = tmp_path_factory.mktemp('models')
    half_plus_two(str(folder / MODEL), 123)
    speller = export(
        str(folder / 'speller'), 1, {'serving_default': _spell.get_concrete_function()}
    )
    set_methods(speller, serving_default=CLASSIFY)
    names = [MODEL, 'speller']
    for case in SPECIFICATION['cases']:
        if case['kind'] in WITH_A_MODEL and case['id'] not in UNASKABLE:
            _export(case, str(folder / case['id']))
            names.append(case['id'])
    labels = {MODEL: f'version_labels {{ key: "{LABEL}" value: 123 }}'}
    config = '\n'.join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" '
        f'{labels.get(name, "")} }}'
        for name in names
    )
    config_file = folder / 'models.config'
    config_file.write_text(f'model_config_list {{ {config} }}')
    with rest_server(
        f'--model_config_file={config_file}', '--allow_version_labels_for_unavailable_models'
    ) as url:
        yield url.removesuffix(MODEL)


def _check(case, answer):
    """Whether the error is there that a case expects."""
    status, headers, text = answer
    assert headers['Content-Type'] == 'application/json'
    expected = case['expect'].get('error')
    if expected:
        assert status == SPECIFICATION['http_codes'][expected['code']]
        assert expected['contains'] in json.loads(text)['error']
    else:
        assert status == 200, text
    return bool(expected)


@cases('predict_request')
def test_predict_request(case, served):
    answer = request('POST', f'{served}{case["id"]}:predict', body(case))
    if _check(case, answer):
        return
    ((_, described),) = case['expect']['tensors'].items()
    key = {'row': 'predictions', 'columnar': 'outputs'}[case['expect']['format']]
    expected = tensor(described)
    found = np.array(json.loads(answer[2])[key])
    if expected.dtype == object:
        found = np.vectorize(str.encode, otypes=[object])(found)
    found = found.astype(expected.dtype)
    np.testing.assert_array_equal(found, expected, strict=True)
    if expected.dtype.kind == 'f':
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@cases('predict_response', UNASKABLE)
def test_predict_response(case, served):
    asked = {'row': b'{"instances": [0]}', 'columnar': b'{"inputs": [0]}'}[case['format']]
    answer = request('POST', f'{served}{case["id"]}:predict', asked)
    if not _check(case, answer):
        assert read(answer[2], case) == read(case['expect']['json'], case)


@cases('regress_response', UNASKABLE)
def test_regress_response(case, served):
    asked = json.dumps({'examples': [{}] * len(case['values'])}).encode()
    answer = request('POST', f'{served}{case["id"]}:regress', asked)
    if not _check(case, answer):
        assert read(answer[2], case) == read(case['expect']['json'], case)


@cases('classify_or_regress_request')
def test_examples_request(case, served):
    answer = request('POST', f'{served}speller:classify', body(case))
    if _check(case, answer):
        return
    results = json.loads(answer[2])['results']
    spelled = [base64.urlsafe_b64decode(f'{label}==') for ((label, _),) in results]
    examples = [example_pb2.Example.FromString(serialized) for serialized in spelled]
    assert examples == [example(features) for features in case['expect']['examples']]


@cases('path_parse')
def test_path(case, served):
    status, _, text = request(
        case['method'], served.removesuffix('/v1/models/') + case['path'], b'{"instances": [1]}'
    )
    message = json.loads(text)['error']
    expected = case['expect']
    if not expected['matched']:
        assert (status, message[:17]) == (400, 'Malformed request')
    elif 'error' in expected:
        assert status == SPECIFICATION['http_codes'][expected['error']['code']]
        assert expected['error']['contains'] in message
    else:
        # There is no such model, which is said with the name that was read.
        assert not message.startswith('Malformed')
        assert (expected.get('label') or expected['model']) in message


@cases('http')
def test_http(case, served):
    path, asked = (
        case[key].replace('{MODEL}', MODEL).replace('{LABEL}', LABEL) for key in ('path', 'body')
    )
    status, headers, text = request(
        case['method'], served.removesuffix('/v1/models/') + path, asked.encode()
    )
    expected = case['expect']
    assert status == expected['status']
    assert expected.get('error_contains', '') in json.loads(text).get('error', '')
    if 'json' in expected:
        assert json.loads(text) == expected['json']
    for name, value in expected.get('headers', {}).items():
        assert headers[name] == value
