"""predict: JSON to tensors and back, as TensorFlow Serving reads and writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError, invalid
from serving.models.shapes import has_open_size
from serving.requests import json_text
from serving.requests.json_size import MAX_INSTANCES, check_instances, check_size
from serving.requests.json_tensor import JsonTensor, entries
from serving.requests.json_text import excerpt


@dataclasses.dataclass(frozen=True, eq=False)
class PredictRequest:
    """A predict request.

    Attributes:
        signature_name: A key of the model's SignatureDefs.
        inputs: Arrays by the signature's input names; strings are object arrays of bytes.
        row_format: Whether the request is in row format ("instances"), and so must be the answer.
    """

    signature_name: str
    inputs: dict[str, np.ndarray]
    row_format: bool


def parse_predict_request(
    body: bytes | bytearray,
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef],
    max_instances: int = MAX_INSTANCES,
) -> PredictRequest:
    """Reads the body of a predict request.

    It is as strict as the real server about dtypes and shapes, and stricter in one case: a number
    too big for int8, int16 or uint8 is refused, while it overflows in the real server.

    Args:
        body: JSON.
        signature_defs: The model's signatures, checked after the JSON, as in the real server.
        max_instances: The most instances, or entries of the first axis in column format.

    Raises:
        ServingError: The body does not fit the signature or is too large, or the signature has a
            dtype that JSON cannot carry.
    """
    check_size(body, 'predict', signature_defs, max_instances)
    document = json_text.parse_object(body)
    name = json_text.signature_name(document)
    if name not in signature_defs:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    infos = signature_defs[name].inputs
    dtypes = {key: info.dtype for key, info in sorted(infos.items())}
    if not dtypes:
        raise invalid(f'Failed to get input map for signature: {name}')
    row_format = 'instances' in document
    if row_format and 'inputs' in document:
        raise invalid(
            f'JSON Value: {excerpt(document)} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist"
        )
    if row_format:
        return PredictRequest(name, _parse_rows(document, dtypes, max_instances), True)
    if 'inputs' in document:
        most = {key: max_instances for key, info in infos.items() if has_open_size(info)}
        return PredictRequest(name, _parse_columns(document['inputs'], dtypes, most), False)
    raise invalid("Missing 'inputs' or 'instances' key")


def _parse_rows(
    document: dict[str, Any], dtypes: dict[str, int], max_instances: int
) -> dict[str, np.ndarray]:
    """Tensors of all instances, by input."""
    instances = document['instances']
    if type(instances) is not list:
        raise invalid(f"JSON Value: {excerpt(document)} Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {excerpt(document)} No values in 'instances' array")
    check_instances(len(instances), max_instances)
    has_names = _has_names(instances[0])
    if not has_names and len(dtypes) > 1:
        raise invalid(
            'instances is a plain list, but expecting list of objects as multiple input tensors '
            f'required as per tensorinfo_map: {",".join(dtypes)}'
        )
    tensors = {name: JsonTensor(dtype) for name, dtype in dtypes.items()}
    (only, *_) = tensors.values()
    for index, instance in enumerate(instances):
        if _has_names(instance) != has_names:
            expected, found = ('object', 'list') if has_names else ('value/list', 'object')
            raise invalid(f'Expecting {expected} but got {found} at item {index} of input list')
        key = ''
        try:
            if not has_names:
                only.add(instance)
                continue
            for key, value in instance.items():
                if key not in tensors:
                    raise invalid(
                        f'JSON object: does not have named input: {key}; '
                        f'keys must be equal to: {",".join(tensors)}'
                    )
                tensors[key].add(value)
        except ServingError as error:
            raise invalid(
                f'Failed to process element: {index}{f" key: {key}" if has_names else ""} of '
                f"'instances' list. Error: {error.code}: {error.message}"
            ) from None
        if len(instance) != len(tensors):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f'{excerpt(instance)} keys must be equal to: {",".join(tensors)}'
            )
    return {name: tensor.batch() for name, tensor in tensors.items()}


def _parse_columns(
    inputs: Any, dtypes: dict[str, int], max_instances: dict[str, int]
) -> dict[str, np.ndarray]:
    """Tensors by input; `max_instances` has the inputs whose first axis counts instances."""
    if not _has_names(inputs):
        if len(dtypes) > 1:
            raise invalid(
                'inputs is a plain value/list, but expecting an object as multiple input tensors '
                f'required as per tensorinfo_map: {",".join(dtypes)}'
            )
        inputs = dict.fromkeys(dtypes, inputs)
    arrays = {}
    for name, dtype in dtypes.items():
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        if name in max_instances and type(inputs[name]) is list:
            check_instances(len(inputs[name]), max_instances[name])
        tensor = JsonTensor(dtype)
        tensor.add(inputs[name])
        arrays[name] = tensor.array()
    return arrays


def _has_names(value: Any) -> bool:
    """Whether a value is an object whose members are inputs."""
    return type(value) is dict and not json_text.is_base64(value)


def format_predict_response(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """Writes the body of the answer.

    Args:
        outputs: Arrays by the signature's output names; strings are object arrays of bytes.
        row_format: Whether the request was in row format.

    Raises:
        ServingError: JSON cannot carry the outputs.
    """
    if not outputs:
        raise invalid('Cannot convert empty tensor map to JSON')
    if row_format:
        body = f'{{"predictions": [{", ".join(_rows(outputs))}]}}'
    else:
        body = f'{{"outputs": {_columns(outputs)}}}'
    return body.encode('utf-8', 'surrogateescape')


def _rows(outputs: Mapping[str, np.ndarray]) -> list[str]:
    """A text for each instance."""
    batch = None
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f'Tensor name: {name} has no shape information')
        if batch not in (None, len(array)):
            raise invalid(
                f'Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}'
            )
        batch = len(array)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return entries(name, array)
    members = [
        [f'{json_text.string(name)}: {text}' for text in entries(name, array)]
        for name, array in outputs.items()
    ]
    return [f'{{{", ".join(instance)}}}' for instance in zip(*members, strict=True)]


def _columns(outputs: Mapping[str, np.ndarray]) -> str:
    texts = {}
    for name, array in outputs.items():
        rows = entries(name, array)
        texts[name] = f'[{", ".join(rows)}]' if array.ndim else rows[0]
    if len(texts) == 1:
        return next(iter(texts.values()))
    members = (f'{json_text.string(name)}: {text}' for name, text in texts.items())
    return f'{{{", ".join(members)}}}'
