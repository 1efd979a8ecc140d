import json

import numpy as np
import pytest
import saved_models
import tensorflow as tf

from serving.errors import ServingError, error_json
from serving.models.model import LoadedModel


@pytest.mark.parametrize('export', [saved_models.half_plus_two, saved_models.half_plus_two_tf1])
def test_an_error_of_a_model_is_what_its_operation_said(export, tmp_path):
    model = LoadedModel(export(str(tmp_path)))
    empty_example = np.array([b''], np.object_)
    with pytest.raises(ServingError) as raised:
        model.run('regress_x_to_y', {'inputs': empty_example})
    model.close()
    said = 'Name: <unknown>, Feature: x (data type: float) is required but could not be found.'
    assert str(raised.value) == said
    assert raised.value.code == 'INVALID_ARGUMENT'


def test_long_messages_are_cut():
    assert ServingError('INVALID_ARGUMENT', 'ab' * 2_000_000).message == 'ab' * 2000


def test_what_functions_an_operation_is_in_is_left_out():
    message = (
        '{{function_node __inference_pruned_9048}} {{function_node __inference_decode_7}} '
        'assertion failed: [Image 0 of {{n}} is empty]\n'
        '\t [[{{function_node __inference_decode_7}}{{node Assert/Assert}}]]\n'
        '\t [[StatefulPartitionedCall]]'
    )
    error = ServingError.of_tensorflow(tf.errors.InvalidArgumentError(None, None, message))
    assert error.message == 'assertion failed: [Image 0 of {{n}} is empty]'


@pytest.mark.parametrize(
    ('kind', 'code', 'status'),
    [
        (tf.errors.NotFoundError, 'NOT_FOUND', 404),
        (tf.errors.DeadlineExceededError, 'DEADLINE_EXCEEDED', 504),
        (tf.errors.ResourceExhaustedError, 'RESOURCE_EXHAUSTED', 429),
        (tf.errors.UnavailableError, 'UNAVAILABLE', 503),
        (tf.errors.UnauthenticatedError, 'UNAUTHENTICATED', 401),
        (tf.errors.CancelledError, 'CANCELLED', 499),
    ],
)
def test_codes_are_tensorflows(kind, code, status):
    error = ServingError.of_tensorflow(kind(None, None, 'said this'))
    assert (error.code, error.message, error.http_status) == (code, 'said this', status)


def test_any_message_is_json():
    for message in ('x', 'é "\n', '\ud800'):
        assert json.loads(error_json(message)) == {'error': message}
