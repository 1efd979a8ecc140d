import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError
from serving.requests.classify_regress import (
    format_classify_response,
    format_regress_response,
    parse_examples_request,
)


def signature(inputs=('inputs',), outputs=()):
    found = meta_graph_pb2.SignatureDef(method_name='tensorflow/serving/predict')
    for name in inputs:
        found.inputs[name].dtype = types_pb2.DT_STRING
    for name in outputs:
        found.outputs[name].dtype = types_pb2.DT_FLOAT
    return found


DEFINITIONS = {
    'serving_default': signature(['x'], ['y']),
    'classify': signature(outputs=['classes', 'scores']),
    'scores': signature(outputs=['scores']),
    'regress': signature(outputs=['outputs']),
    'two_inputs': signature(['inputs', 'more'], ['outputs']),
    'other_input': signature(['examples'], ['outputs']),
    'no_outputs': signature(),
    'two_outputs': signature(outputs=['outputs', 'more']),
    'other_output': signature(outputs=['y']),
}


def parse(request, method='regress', name='regress'):
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    named = body[:-1] + f'{", " if body != b"{}" else ""}"signature_name": "{name}"}}'.encode()
    return parse_examples_request(named, method, DEFINITIONS)


def features(request):
    """Of each example: {feature: (kind, values)}."""
    found = []
    for serialized in parse(request).examples:
        example = example_pb2.Example.FromString(serialized)
        lists = {}
        for name, feature in example.features.feature.items():
            kind = feature.WhichOneof('kind')
            lists[name] = (kind, list(getattr(feature, kind).value)) if kind else None
        found.append(lists)
    return found


def refusal(request, **which):
    with pytest.raises(ServingError) as error:
        parse(request, **which)
    assert error.value.code == 'INVALID_ARGUMENT'
    return error.value.message


def test_features():
    found = features(
        b'{"examples": [{"words": ["a", "\xc3\xa9", {"b64": "/w=="}], "word": "b", "none": []},'
        b'{"floats": [1.5, NaN, Infinity, 1e39], "big": 18446744073709551616},'
        b'{"ints": [-1, true, false, 9223372036854775807], "int": 0}, {}]}'
    )
    assert found[0] == {
        'words': ('bytes_list', [b'a', 'é'.encode(), b'\xff']),
        'word': ('bytes_list', [b'b']),
        'none': None,
    }
    kind, floats = found[1]['floats']
    assert kind == 'float_list'
    np.testing.assert_array_equal(floats, [1.5, np.nan, np.inf, np.inf])
    assert found[1]['big'] == ('float_list', [2.0**64])
    assert found[2] == {
        'ints': ('int64_list', [-1, 1, 0, 2**63 - 1]),
        'int': ('int64_list', [0]),
    }
    assert found[3] == {}


def test_the_context_is_part_of_each_example():
    found = features(
        {'context': {'query': 'pizza', 'place': 1}, 'examples': [{'age': 20}, {'place': 2}]}
    )
    query = ('bytes_list', [b'pizza'])
    assert found == [
        {'query': query, 'place': ('int64_list', [1]), 'age': ('int64_list', [20])},
        {'query': query, 'place': ('int64_list', [2])},
    ]


@pytest.mark.parametrize(
    ('request_', 'words'),
    [
        ({}, "When method is regress, key 'examples' is expected and was not found"),
        ({'examples': {'x': 1}}, "Expecting 'examples' value to be an list/array"),
        ({'examples': []}, "'examples' value is an empty array"),
        ({'examples': [1]}, 'Example must be JSON object but got JSON Number'),
        ({'examples': [{}, None]}, 'Example must be JSON object but got JSON Null'),
        ({'context': [], 'examples': [{}]}, 'Example must be JSON object but got JSON Array'),
        ({'examples': [{'x': None}]}, 'x has element with unexpected JSON type: Null'),
        ({'examples': [{'x': [[1]]}]}, 'x has element with unexpected JSON type: Array'),
        ({'examples': [{'x': {'a': 1}}]}, 'x has element with unexpected JSON type: Object'),
        ({'examples': [{'x': {'b64': 1}}]}, 'x has element with unexpected JSON type: Object'),
        ({'examples': [{'x': {'b64': '*'}}]}, 'Unable to base64 decode'),
        ({'examples': [{'x': [1, 1.0]}]}, 'element type in feature: x expecting type: int64'),
        ({'examples': [{'x': [1.0, 1]}]}, 'element type in feature: x expecting type: float'),
        ({'examples': [{'x': ['', 1]}]}, 'element type in feature: x expecting type: bytes'),
        ({'examples': [{'x': [2**63]}]}, 'x has uint64_t element. Only int64_t is supported'),
    ],
)  # fmt: skip
def test_refusals(request_, words):
    assert words in refusal(request_)


def test_examples_are_counted_and_the_context_as_often():
    many = 'The request has 1,001 instances; at most 1,000 are allowed (--max_instances)'
    assert refusal({'examples': [{}] * 1001}) == many
    context = {'a': 'b' * 100_000}
    assert len(parse({'context': context, 'examples': [{}] * 500}).examples) == 500
    assert "The 'context' of 100,023 bytes is too large to be repeated in 1,000" in refusal(
        {'context': context, 'examples': [{}] * 1000}
    )


@pytest.mark.parametrize(
    ('method', 'name', 'words'),
    [
        ('classify', 'nowhere', 'No signature was found with the name: nowhere'),
        ('regress', '', 'No regression inputs found in SignatureDef'),
        ('regress', 'two_inputs', 'Expected one input Tensor.'),
        ('regress', 'two_outputs', 'Expected one output Tensor.'),
        ('regress', 'other_input', 'No regression inputs found in SignatureDef'),
        ('regress', 'other_output', 'No regression outputs found in SignatureDef'),
        ('regress', 'classify', 'Expected one output Tensor.'),
        ('classify', 'other_input', 'No classification inputs found in SignatureDef'),
        ('classify', 'no_outputs', 'Expected one or two output Tensors, found 0'),
        ('classify', 'regress', 'outputs to contain at least one of "classes" or "scores"'),
    ],
)
def test_signatures_for_something_else(method, name, words):
    assert words in refusal({'examples': [{}]}, method=method, name=name)


@pytest.mark.parametrize('name', ['classify', 'scores'])
def test_classify_needs_classes_or_scores(name):
    request = parse({'examples': [{}, {}]}, 'classify', name)
    assert request.signature_name == name
    assert request.examples.shape == (2,)
    assert request.examples.dtype == np.object_


def test_json_is_read_before_the_signature_is_looked_at():
    for method in ('classify', 'regress'):
        with pytest.raises(ServingError, match='JSON Parse error: The document is empty'):
            parse_examples_request(b'', method, {})
        with pytest.raises(ServingError, match="'signature_name' key must be a string"):
            parse_examples_request(b'{"signature_name": ["x"]}', method, {})
        with pytest.raises(ServingError, match=f'When method is {method}'):
            parse_examples_request(b'{"signature_name": "nowhere"}', method, {})


VALUES = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.sampled_from(['', 'é', '\0', '\ud800', {'b64': 'aGk='}]),
    lambda inner: strategies.lists(inner, max_size=3),
    max_leaves=6,
)
EXAMPLES = strategies.dictionaries(
    strategies.sampled_from(['', 'x', '\0', '\udc80']), VALUES, max_size=2
)


@hypothesis.given(EXAMPLES | VALUES, strategies.lists(EXAMPLES, max_size=2) | VALUES)
def test_any_document_is_read_or_refused(context, examples):
    try:
        found = parse({'context': context, 'examples': examples})
    except ServingError as refused:
        error = refused
    else:
        assert [type(example) for example in found.examples] == [bytes] * len(examples)
        return
    assert error.code == 'INVALID_ARGUMENT'


LABELS = np.array([[b'a', b'"'], [b'\xff', b'']], np.object_)
SCORES = np.array([[0.25, 1], [1 / 3, np.nan]], np.float32)


def test_classify_answers():
    answer = format_classify_response({'classes': LABELS, 'scores': SCORES}, 2)
    assert answer == (
        b'{"results": [[["a", 0.25], ["\\"", 1.0]], [["\xff", 0.333333343], ["", NaN]]]}'
    )
    answer = format_classify_response({'scores': SCORES}, 2)
    assert answer == b'{"results": [[["", 0.25], ["", 1.0]], [["", 0.333333343], ["", NaN]]]}'
    answer = format_classify_response({'classes': LABELS[:1]}, 1)
    assert answer == b'{"results": [[["a", 0.0], ["\\"", 0.0]]]}'


@pytest.mark.parametrize(
    ('outputs', 'count', 'words'),
    [
        ({'scores': SCORES[:0]}, 0, 'Cannot convert empty ClassificationResults to JSON'),
        ({'scores': SCORES[0]}, 2, r'shape: \[batch_size num_classes\] but got \[2\]'),
        ({'scores': SCORES.astype(float)}, 2, 'scores Tensor of DT_FLOAT. Got: DT_DOUBLE'),
        ({'classes': SCORES}, 2, 'classes Tensor of DT_STRING. Got: DT_FLOAT'),
        ({'classes': LABELS}, 3, 'Expected classes output batch size of 3. Got: 2'),
        ({'classes': LABELS[:, :1], 'scores': SCORES}, 2, r'should match in .* Got 1 vs. 2'),
    ],
)  # fmt: skip
def test_outputs_that_are_no_classification(outputs, count, words):
    with pytest.raises(ServingError, match=words) as error:
        format_classify_response(outputs, count)
    assert error.value.code == 'INVALID_ARGUMENT'


def test_regress_answers():
    values = np.array([0.2, np.inf, 42], np.float32)
    for array in (values, values[:, np.newaxis]):
        answer = format_regress_response({'outputs': array}, 3)
        assert answer == b'{"results": [0.2, Infinity, 42.0]}'


@pytest.mark.parametrize(
    ('outputs', 'count', 'words'),
    [
        (SCORES[0, :0], 0, 'Cannot convert empty RegressionResults to JSON'),
        (SCORES, 2, r'either \[batch_size\] or \[batch_size, 1\] but got \[2, 2\]'),
        (np.array(1, np.float32), 1, r'but got \[\]'),
        (SCORES[0], 3, 'Input batch size did not match output batch size: 3 vs. 2'),
        (SCORES[0].astype(float), 2, 'Expected output Tensor of DT_FLOAT. Got: DT_DOUBLE'),
    ],
)
def test_outputs_that_are_no_regression(outputs, count, words):
    with pytest.raises(ServingError, match=words) as error:
        format_regress_response({'outputs': outputs}, count)
    assert error.value.code == 'INVALID_ARGUMENT'
