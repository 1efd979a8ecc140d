"""TensorFlow Serving's own cases, as data; tests/data/README.md names their source."""

import json

import numpy as np
import pytest
from project_paths import DATA
from tensorflow.core.example import example_pb2

SPECIFICATION = json.loads((DATA / 'tf_serving_rest_cases.json').read_text('utf-8'))
DTYPES = {
    'DT_INT32': np.int32,
    'DT_FLOAT': np.float32,
    'DT_DOUBLE': np.float64,
    'DT_STRING': np.object_,
}


def cases(kind, leave_out=()):
    found = [
        case
        for case in SPECIFICATION['cases']
        if case['kind'] == kind and case['id'] not in leave_out
    ]
    assert found
    return pytest.mark.parametrize('case', found, ids=[case['id'] for case in found])


def body(case):
    if 'request_generator' not in case:
        return case['request'].encode()
    parts = case['request_generator']
    text = ''.join(
        [
            parts['prefix'],
            parts['repeat_open'][0] * parts['repeat_open'][1],
            parts['repeat_close'][0] * parts['repeat_close'][1],
            parts['suffix'],
        ]
    )
    return text.encode()


def tensor(described):
    values = described['values']
    if described['dtype'] == 'DT_STRING':
        values = [value.encode() for value in values]
    else:
        values = [float(value) if isinstance(value, str) else value for value in values]
    # A message without shape is a scalar to TensorFlow.
    return np.array(values, DTYPES[described['dtype']]).reshape(described['shape'] or [])


def example(features):
    message = example_pb2.Example()
    for name, content in features.items():
        ((kind, values),) = content.items()
        feature = message.features.feature[name]
        if kind == 'bytes':
            feature.bytes_list.value.extend(value.encode() for value in values)
        else:
            getattr(feature, f'{kind}_list').value.extend(values)
    return message


def read(text, case):
    if case['expect']['compare'] == 'json_equal':
        return json.loads(text)
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
