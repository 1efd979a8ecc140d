import json

from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from serving.models.descriptions import VersionStatus, metadata_json, status_json


def test_status():
    answer = status_json(
        [VersionStatus(124, 'END', 'NOT_FOUND', 'no "é"'), VersionStatus(123, 'AVAILABLE')]
    )
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
