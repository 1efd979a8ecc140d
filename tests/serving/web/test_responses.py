import dataclasses
import json

import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError
from serving.web.responses import Route, error_json, metadata_json, parse_path, status_json


@pytest.mark.parametrize(
    ('method', 'path', 'route'),
    [
        ('POST', '/v1/models/m:predict', Route('predict', 'm')),
        ('POST', '/v1/models/m:classify', Route('classify', 'm')),
        ('POST', '/v1/models/m/versions/007:regress', Route('regress', 'm', version=7)),
        ('POST', '/V1/Models/M/Labels/Stable:predict', Route('predict', 'M', label='Stable')),
        ('POST', '/v1/models/m?x=1:predict', Route('predict', 'm?x=1')),
        ('GET', '/v1/models/m', Route('status', 'm')),
        ('GET', f'/v1/models/m/versions/{2**63 - 1}', Route('status', 'm', version=2**63 - 1)),
        ('GET', f'/v1/models/m/versions/{"0" * 5000}1', Route('status', 'm', version=1)),
        ('GET', '/v1/models/m/labels/a%2Fb%3a', Route('status', 'm', label='a/b:')),
        ('GET', '/v1/models/m/metadata', Route('metadata', 'm')),
        ('GET', '/v1/models/m/versions/3/metadata', Route('metadata', 'm', version=3)),
        ('GET', '/v1/models/m/METADATA', Route('status', 'm')),
        ('GET', '/v1/models/metadata', Route('status', 'metadata')),
        ('GET', '/v1/models/%C3%A9%zz+', Route('status', 'é%zz+')),
    ],
)  # fmt: skip
def test_paths(method, path, route):
    assert parse_path(method, path) == route


@pytest.mark.parametrize(
    ('method', 'path'),
    [
        ('GET', '/v1/foo'),
        ('GET', '/v1/models/'),
        ('GET', '/v1/models/a/b'),
        ('GET', '/v1/models/m:predict'),
        ('GET', '/v1/models/m/version/5'),
        ('GET', '/v1/models/m/versions/-1'),
        ('GET', '/v1/models/m/versions/5/labels/a'),
        ('GET', '/v1/models/m/metadata/'),
        ('GET', '/prefix/v1/models/m'),
        ('GET', '/v1/models/m\n/metadata2'),
        ('POST', '/v1/models/m'),
        ('POST', '/v1/models/m/metadata'),
        ('POST', '/v1/models/m:explain'),
        ('POST', '/v1/models/m:PREDICT'),
        ('POST', '/v1/models/m:predict/'),
        ('POST', '/v1/models/m/versions/५:predict'),
        ('POST', '/v1/model\u017f/m:predict'),
        ('HEAD', '/v1/models/m'),
        ('PUT', '/v1/models/m:predict'),
    ],
)
def test_malformed_requests(method, path):
    with pytest.raises(ServingError) as error:
        parse_path(method, path)
    assert error.value.code == 'INVALID_ARGUMENT'
    assert error.value.message == f'Malformed request: {method} {path}'


@pytest.mark.parametrize('path', ['', '/versions/1', '/labels/a/metadata'])
def test_a_model_is_needed(path):
    with pytest.raises(ServingError, match='Missing model name in request') as error:
        parse_path('GET', f'/v1/models{path}')
    assert error.value.code == 'INVALID_ARGUMENT'


@pytest.mark.parametrize('version', [str(2**63), '9' * 10_000])
def test_versions_that_64_bits_cannot_hold(version):
    said = f'Failed to convert version: {version[:99]}'
    for method, path in (
        ('GET', f'/v1/models/m/versions/{version}'),
        ('POST', f'/v1/models/m/versions/{version}:predict'),
    ):
        with pytest.raises(ServingError, match=said) as error:
            parse_path(method, path)
        assert error.value.code == 'INVALID_ARGUMENT'


def test_errors():
    for message in ('x', 'é "\n', '\ud800'):
        assert json.loads(error_json(message)) == {'error': message}


@dataclasses.dataclass
class Status:
    version: int
    state: str
    error_code: str = 'OK'
    error_message: str = ''


def test_status():
    answer = status_json([Status(124, 'END', 'NOT_FOUND', 'no "é"'), Status(123, 'AVAILABLE')])
    assert json.loads(answer) == {
        'model_version_status': [
            {
                'version': '124',
                'state': 'END',
                'status': {'error_code': 'NOT_FOUND', 'error_message': 'no "é"'},
            },
            {
                'version': '123',
                'state': 'AVAILABLE',
                'status': {'error_code': 'OK', 'error_message': ''},
            },
        ]
    }


def test_metadata():
    signature = text_format.Parse(
        """
        inputs {
          key: "x"
          value {
            name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: 2 name: "n" } }
          }
        }
        outputs {
          key: "y"
          value { name: "y:0" dtype: DT_STRING tensor_shape { unknown_rank: true } }
        }
        outputs { key: "z" value { name: "z:0" dtype: DT_INT64 } }
        method_name: "tensorflow/serving/predict"
        """,
        meta_graph_pb2.SignatureDef(),
    )
    answer = json.loads(metadata_json('m', 123, {'serving_default': signature}))
    assert answer['model_spec'] == {'name': 'm', 'signature_name': '', 'version': '123'}
    assert answer.keys() == {'model_spec', 'metadata'}
    found = answer['metadata']['signature_def']['signature_def']['serving_default']
    # Younger messages have one member more, "defaults".
    assert found.pop('defaults', {}) == {}
    assert found == {
        'inputs': {
            'x': {
                'name': 'x:0',
                'dtype': 'DT_FLOAT',
                'tensor_shape': {
                    'dim': [{'size': '-1', 'name': ''}, {'size': '2', 'name': 'n'}],
                    'unknown_rank': False,
                },
            }
        },
        'outputs': {
            'y': {
                'name': 'y:0',
                'dtype': 'DT_STRING',
                'tensor_shape': {'dim': [], 'unknown_rank': True},
            },
            'z': {'name': 'z:0', 'dtype': 'DT_INT64'},
        },
        'method_name': 'tensorflow/serving/predict',
    }
