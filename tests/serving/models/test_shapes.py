"""What a signature declares against what comes, and a server that keeps clients' answers apart."""

import base64
import concurrent.futures
import json
import random

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from rest_server import request
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError
from serving.models.shapes import check_inputs, check_outputs, has_fixed_size


def _signature(inputs, outputs=()):
    """A signature that declares these shapes; None is one of any rank, 'unsaid' none at all."""
    signature = meta_graph_pb2.SignatureDef()
    for infos, shapes in ((signature.inputs, inputs), (signature.outputs, dict(outputs))):
        for key, shape in shapes.items():
            infos[key].dtype = tf.float32.as_datatype_enum
            if shape != 'unsaid':
                infos[key].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return signature


_SIZES = st.lists(st.integers(0, 3), max_size=4)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(_SIZES, st.none() | st.lists(st.none() | st.integers(0, 3), max_size=4))
def test_inputs_are_taken_where_tensorflow_calls_the_shapes_compatible(shape, declared):
    inputs = {'x': np.zeros(shape)}
    if tf.TensorShape(declared).is_compatible_with(shape):
        check_inputs('s', _signature({'x': declared}), inputs)
    else:
        with pytest.raises(ServingError) as caught:
            check_inputs('s', _signature({'x': declared}), inputs)
        assert caught.value.code == 'INVALID_ARGUMENT'


def test_what_was_declared_and_what_came_is_said():
    signature = _signature({'label': [None], 'pixels': [None, 28, 28], 'free': 'unsaid'})
    inputs = {'label': np.zeros(1), 'pixels': np.zeros([2, 14, 28]), 'free': np.zeros([7, 7])}
    with pytest.raises(ServingError) as caught:
        check_inputs('explain', signature, inputs)
    assert caught.value.message == (
        'The input pixels of the signature explain must have the shape [?, 28, 28], '
        'not [2, 14, 28]; ? stands for any size.'
    )


_ROWS = {'x': [None, 2]}


@pytest.mark.parametrize(
    ('inputs', 'outputs', 'asked', 'answered'),
    [
        (_ROWS, {'y': [None]}, {'x': [3, 2]}, {'y': [2]}),
        (_ROWS, {'y': [None]}, {'x': [3, 2]}, {'y': [6]}),
        (_ROWS, {'y': [None], 'z': [None, 4]}, {'x': [3, 2]}, {'y': [3], 'z': [1, 4]}),
        (_ROWS, {'y': None}, {'x': [3, 2]}, {'y': []}),
        ({'x': None}, {'y': 'unsaid'}, {'x': [3]}, {'y': [1]}),
        ({'x': [None], 'z': [None]}, {'y': [None]}, {'x': [1], 'z': [1]}, {'y': [2]}),
    ],
)
def test_outputs_that_are_not_one_for_each_row_are_refused(inputs, outputs, asked, answered):
    arrays = [{key: np.zeros(shape) for key, shape in of.items()} for of in (asked, answered)]
    with pytest.raises(ServingError, match='does not have one answer for each row') as caught:
        check_outputs('s', _signature(inputs, outputs), *arrays)
    assert caught.value.code == 'FAILED_PRECONDITION'


@pytest.mark.parametrize(
    ('inputs', 'outputs', 'asked', 'answered'),
    [
        (_ROWS, {'y': [None]}, {'x': [3, 2]}, {'y': [3]}),
        (_ROWS, {'y': [None]}, {'x': [0, 2]}, {'y': [0]}),
        # What the signature itself says to be the same for all.
        (_ROWS, {'y': [5], 'z': []}, {'x': [3, 2]}, {'y': [5], 'z': []}),
        # Inputs that are no rows.
        ({'x': []}, {'y': [None]}, {'x': []}, {'y': [3]}),
        ({'x': [2]}, {'y': [None]}, {'x': [2]}, {'y': [3]}),
        ({'x': None}, {'y': None}, {'x': []}, {'y': [3]}),
        ({'x': [None], 'z': [None]}, {'y': [None]}, {'x': [1], 'z': [2]}, {'y': [3]}),
        ({}, {'y': [None]}, {}, {'y': [3]}),
    ],
)
def test_outputs_that_may_have_their_own_size_are_taken(inputs, outputs, asked, answered):
    arrays = [{key: np.zeros(shape) for key, shape in of.items()} for of in (asked, answered)]
    check_outputs('s', _signature(inputs, outputs), *arrays)


@pytest.mark.parametrize(
    ('inputs', 'fixed'),
    [({'x': [None, 2]}, False), ({'x': None}, False), ({'x': []}, False), ({'x': 'unsaid'}, False),
     ({'x': [2]}, True), ({'x': [None], 'z': [0, 3]}, True)],
)  # fmt: skip
def test_what_has_a_fixed_size(inputs, fixed):
    assert has_fixed_size(_signature(inputs)) == fixed


def _others(value):
    """Other shapes of nested lists or, where it is bytes, of one, as JSON has them."""
    if isinstance(value, dict):
        return [[value], [value, value], [[value]]]
    array = np.array(value)
    found = [array[..., np.newaxis], array[np.newaxis]]
    found += [array[0]] if array.ndim else [np.stack([array] * 2)]
    for axis, size in enumerate(array.shape):
        for other in (size - 1, size + 1, size // 2, 2 * size):
            found.append(np.take(array, range(other), axis, mode='wrap'))
    return [other.tolist() for other in found]


def _questions(images):
    """Model, signature and instances of each right question, and of each wrong one."""
    right, wrong = [], []
    for number, image in enumerate(images):
        png = tf.io.encode_png(image[..., np.newaxis]).numpy()
        example = tf.train.Example()
        example.features.feature['image'].bytes_list.value.append(png)
        capsule = (np.arange(16) * (number + 1) % 7 / 10).tolist()
        for signature, instance in (
            ('serving_default', _base64(png)),
            ('explain', _base64(png)),
            ('examples', _base64(example.SerializeToString())),
            ('pixels', image.tolist()),
            ('decode', {'capsule': capsule, 'label': number}),
        ):
            right.append(('digits', signature, instance))
            if signature != 'decode':
                wrong += [('digits', signature, other) for other in _others(instance)]
                continue
            for other in _others(capsule):
                wrong.append(('digits', signature, {'capsule': other, 'label': number}))
            for other in _others(number):
                wrong.append(('digits', signature, {'capsule': capsule, 'label': other}))
        # A model without checks of its own, which makes rows of whatever it gets.
        x = (np.arange(6).reshape(2, 3) + number).tolist()
        right.append(('unchecked', 'serving_default', x))
        wrong += [('unchecked', 'serving_default', other) for other in _others(x)]
    return right, wrong


def _base64(content):
    return {'b64': base64.b64encode(content).decode()}


def test_wrong_shapes_are_refused_and_spoil_no_other_answer(mnist_test, digits_url):
    def ask(question):
        model, name, instance = question
        url = digits_url.replace('/digits', f'/{model}')
        body = json.dumps({'signature_name': name, 'instances': [instance]}).encode()
        status, _, text = request('POST', f'{url}:predict', body)
        return status, json.loads(text)

    def outputs(answer):
        (prediction,) = answer['predictions']
        values = prediction.values() if isinstance(prediction, dict) else [prediction]
        return [np.array(value) for value in values]

    right, wrong = _questions(mnist_test.images[:3])
    alone = [ask(question) for question in right]
    assert {status for status, _ in alone} == {200}
    # Each several times, so that there are some of a shape to be merged.
    asked = [*right * 4, *wrong * 2]
    order = random.Random(0).sample(range(len(asked)), len(asked))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = dict(zip(order, pool.map(ask, [asked[place] for place in order]), strict=True))
    for place, (status, answer) in found.items():
        if place >= 4 * len(right):
            assert status == 400, asked[place]
            assert 'must have the shape' in answer['error']
            continue
        assert status == 200
        for value, expected in zip(
            outputs(answer), outputs(alone[place % len(right)][1]), strict=True
        ):
            if expected.dtype.kind == 'U':
                np.testing.assert_array_equal(value, expected)
            else:
                np.testing.assert_allclose(value, expected, atol=1e-4)
