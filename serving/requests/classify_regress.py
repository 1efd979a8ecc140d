"""classify and regress: JSON to tf.Examples, and results to JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import invalid
from serving.requests import json_text
from serving.requests.json_size import MAX_INSTANCES, check_instances, check_size
from serving.requests.json_text import excerpt

# The context is copied into each example, so a large context takes many times its size.
_MAX_CONTEXT_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class ExamplesRequest:
    """A classify or regress request.

    Attributes:
        signature_name: A key of the model's SignatureDefs, whose one input is called "inputs".
        examples: Object array [n] of serialized tf.Examples, the context merged in.
    """

    signature_name: str
    examples: np.ndarray


def parse_examples_request(
    body: bytes | bytearray,
    method: str,
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef],
    max_instances: int = MAX_INSTANCES,
) -> ExamplesRequest:
    """Reads the body of a classify or regress request.

    Args:
        body: JSON.
        method: 'classify' or 'regress'. The signature must have the inputs and outputs for it; its
            method_name does not matter, as in the real server without
            --enable_signature_method_name_check.
        signature_defs: The model's signatures, checked after the JSON, as in the real server.
        max_instances: The most examples.

    Raises:
        ServingError: The body is wrong or too large, or the model has no such signature.
    """
    check_size(body, method, signature_defs, max_instances)
    document = json_text.parse_object(body)
    name = json_text.signature_name(document)
    context = _example(document['context']) if 'context' in document else b''
    if 'examples' not in document:
        raise invalid(
            f"JSON Value: {excerpt(document)} When method is {method}, key 'examples' is expected "
            'and was not found'
        )
    values = document['examples']
    if type(values) is not list:
        raise invalid(
            f"JSON Value: {excerpt(document)} Expecting 'examples' value to be an list/array"
        )
    if not values:
        raise invalid(f"JSON Value: {excerpt(document)} 'examples' value is an empty array")
    check_instances(len(values), max_instances)
    if len(context) * len(values) > _MAX_CONTEXT_BYTES:
        raise invalid(
            f"The 'context' of {len(context):,} bytes is too large to be repeated in "
            f"{len(values):,} 'examples': together at most {_MAX_CONTEXT_BYTES:,} bytes are allowed"
        )
    # A parser merges messages that follow one another. If both have a feature, the example's wins,
    # because it comes last.
    examples = np.array([context + _example(value) for value in values], np.object_)
    _check_signature(name, method, signature_defs)
    return ExamplesRequest(name, examples)


def _example(value: Any) -> bytes:
    """Serializes `{feature: value or list of values}` as a tf.Example."""
    if type(value) is not dict:
        raise invalid(f'Example must be JSON object but got JSON {json_text.type_name(value)}')
    features = {name: _feature(name, content) for name, content in value.items()}
    example = example_pb2.Example(features=feature_pb2.Features(feature=features))
    return example.SerializeToString()


def _feature(name: str, content: Any) -> feature_pb2.Feature:
    kind = ''
    values = []
    for element in content if type(content) is list else [content]:
        element_kind, value = _feature_value(name, element)
        if kind not in ('', element_kind):
            raise invalid(f'Unexpected element type in feature: {name} expecting type: {kind}')
        kind = element_kind
        values.append(value)
    match kind:
        case 'bytes':
            return feature_pb2.Feature(bytes_list=feature_pb2.BytesList(value=values))
        case 'float':
            return feature_pb2.Feature(float_list=feature_pb2.FloatList(value=values))
        case 'int64':
            return feature_pb2.Feature(int64_list=feature_pb2.Int64List(value=values))
    return feature_pb2.Feature()


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    """The kind of feature for a JSON value, and the value in it."""
    if isinstance(value, int):  # also a bool
        if value > np.iinfo(np.int64).max:
            raise invalid(
                f'Feature: {name} has uint64_t element. Only int64_t is supported: {value}'
            )
        return 'int64', int(value)
    if type(value) is float:
        return 'float', value
    if type(value) is str:
        return 'bytes', value.encode()
    if json_text.is_base64(value):
        return 'bytes', json_text.decode_base64(value)
    raise invalid(
        f'Feature: {name} has element with unexpected JSON type: {json_text.type_name(value)}'
    )


def _check_signature(
    name: str, method: str, signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
) -> None:
    """Raises ServingError if a signature cannot classify or regress."""
    if name not in signature_defs:
        raise invalid(f'No signature was found with the name: {name}')
    signature = signature_defs[name]
    outputs = list(signature.outputs)
    if len(signature.inputs) != 1:
        raise invalid(f'Expected one input Tensor. Signature {name} has {len(signature.inputs)}')
    if method == 'classify' and len(outputs) not in (1, 2):
        raise invalid(f'Expected one or two output Tensors, found {len(outputs)}')
    if method == 'regress' and len(outputs) != 1:
        raise invalid(f'Expected one output Tensor. Signature {name} has {len(outputs)}')
    if 'inputs' not in signature.inputs:
        kind = 'classification' if method == 'classify' else 'regression'
        raise invalid(f'No {kind} inputs found in SignatureDef: {signature}')
    if method == 'classify' and not {'classes', 'scores'} & set(outputs):
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or '
            f'"scores". Signature was: {signature}'
        )
    if method == 'regress' and outputs != ['outputs']:
        raise invalid(f'No regression outputs found in SignatureDef: {signature}')


def format_classify_response(outputs: Mapping[str, np.ndarray], count: int) -> bytes:
    """Writes `{"results": [[[label, score], ...], ...]}`.

    Args:
        outputs: "classes", object [count, k] of bytes, and "scores", float32 [count, k], or one of
            them. Missing labels are written as "", missing scores as 0.0.
        count: The number of examples in the request.

    Raises:
        ServingError: The outputs are of another kind or shape.
    """
    if not count:
        raise invalid('Cannot convert empty ClassificationResults to JSON')
    classes, scores = outputs.get('classes'), outputs.get('scores')
    shape: tuple[int, ...] = (count, 0)
    if classes is not None:
        _check_classes('classes', classes, types_pb2.DT_STRING, count)
        shape = classes.shape
    if scores is not None:
        _check_classes('scores', scores, types_pb2.DT_FLOAT, count)
        if classes is not None and classes.shape != scores.shape:
            raise invalid(
                'Tensors class and score should match in dim_size(1). Got '
                f'{classes.shape[1]} vs. {scores.shape[1]}'
            )
        shape = scores.shape
    size = math.prod(shape)
    labels = ['""'] * size if classes is None else json_text.strings(classes.ravel().tolist())
    numbers = ['0.0'] * size if scores is None else json_text.decimals(scores)
    pairs = [f'[{label}, {number}]' for label, number in zip(labels, numbers, strict=True)]
    return _results(json_text.nested(pairs, shape))


def _check_classes(name: str, array: np.ndarray, dtype: int, count: int) -> None:
    if array.ndim != 2:
        raise invalid(
            f'Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}'
        )
    if _dtype(array) != dtype:
        raise invalid(
            f'Expected {name} Tensor of {types_pb2.DataType.Name(dtype)}. '
            f'Got: {types_pb2.DataType.Name(_dtype(array))}'
        )
    if len(array) != count:
        raise invalid(f'Expected {name} output batch size of {count}. Got: {len(array)}')


def format_regress_response(outputs: Mapping[str, np.ndarray], count: int) -> bytes:
    """Writes `{"results": [value, ...]}`.

    Args:
        outputs: "outputs", float32 [count] or [count, 1].
        count: The number of examples in the request.

    Raises:
        ServingError: The output is of another kind or shape.
    """
    if not count:
        raise invalid('Cannot convert empty RegressionResults to JSON')
    values = outputs['outputs']
    if values.shape[1:] not in ((), (1,)) or not values.ndim:
        raise invalid(
            'Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got '
            f'{list(values.shape)}'
        )
    if len(values) != count:
        raise invalid(
            f'Input batch size did not match output batch size: {count} vs. {len(values)}'
        )
    if _dtype(values) != types_pb2.DT_FLOAT:
        raise invalid(
            f'Expected output Tensor of DT_FLOAT. Got: {types_pb2.DataType.Name(_dtype(values))}'
        )
    return _results(json_text.decimals(values))


def _dtype(array: np.ndarray) -> int:
    return tf.as_dtype(array.dtype).as_datatype_enum


def _results(texts: list[str]) -> bytes:
    return f'{{"results": [{", ".join(texts)}]}}'.encode('utf-8', 'surrogateescape')
