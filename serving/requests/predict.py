"""predict: JSON to tensors and back, as TensorFlow Serving reads and writes them."""

from __future__ import annotations

import dataclasses
import math
from array import array as c_array
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError, invalid
from serving.models.shapes import has_open_size
from serving.requests import json_text
from serving.requests.json_size import MAX_INSTANCES, check_instances, check_size
from serving.requests.json_text import excerpt

_MAX_RANK = 31  # numpy 1 has 32 dimensions; one may be the batch

# By dtype: which values need no conversion, and what a tensor of them is in numpy.
_NUMBER, _INTEGER = frozenset([int, float]), frozenset([int])
_TYPES: dict[int, tuple[frozenset[type], Any]] = {
    types_pb2.DT_FLOAT: (_NUMBER, np.float32),
    types_pb2.DT_DOUBLE: (_NUMBER, np.float64),
    types_pb2.DT_INT8: (_INTEGER, np.int8),
    types_pb2.DT_INT16: (_INTEGER, np.int16),
    types_pb2.DT_INT32: (_INTEGER, np.int32),
    types_pb2.DT_INT64: (_INTEGER, np.int64),
    types_pb2.DT_UINT8: (_INTEGER, np.uint8),
    types_pb2.DT_UINT32: (_INTEGER, np.uint32),
    types_pb2.DT_UINT64: (_INTEGER, np.uint64),
    types_pb2.DT_BOOL: (frozenset([bool]), np.bool_),
    types_pb2.DT_STRING: (frozenset(), np.object_),
}


@dataclasses.dataclass(frozen=True, eq=False)
class PredictRequest:
    """A predict request.

    Attributes:
        signature_name: A key of the model's SignatureDefs.
        inputs: By the signature's input names; strings are object arrays of bytes.
        row_format: Whether the request came in row format ("instances"), and so must the answer.
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

    As strict as the real server about dtypes and shapes, and stricter in one thing: a number too
    big for int8, int16 or uint8 is refused, where the real server lets it wrap around.

    Args:
        body: JSON.
        signature_defs: The model's. Looked at after the JSON has been read, as in the real server.
        max_instances: The most instances, or entries of the first axis in column format.

    Raises:
        ServingError: The body does not fit the signature, is larger than it may be, or the
            signature has a dtype that JSON cannot carry.
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
    tensors = {name: _Tensor(dtype) for name, dtype in dtypes.items()}
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
    """Tensors by input; `max_instances` of those whose first axis is that of the instances."""
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
        tensor = _Tensor(dtype)
        tensor.add(inputs[name])
        arrays[name] = tensor.array()
    return arrays


def _has_names(value: Any) -> bool:
    """Whether a value is an object whose members are inputs."""
    return type(value) is dict and not json_text.is_base64(value)


class _Tensor:
    """A tensor in the making: one JSON value, or several of one shape."""

    def __init__(self, dtype: int):
        self._name = _dtype_name(dtype)
        self._ready, self._type = _TYPES.get(dtype, (frozenset(), np.void))
        self._count = 0
        self._shape: list[int] = []
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """Appends a JSON value. Raises ServingError where it is none of the dtype, or ragged."""
        if self._type is np.void:
            raise ServingError(
                'UNIMPLEMENTED',
                f'Conversion of JSON Value: {excerpt(value)} to type: {self._name}',
            )
        shape = _shape(value)
        self._append(value, shape, 0)
        self._count += 1
        if self._count == 1:
            self._shape = shape
        elif self._shape != shape:
            size, expected = math.prod(shape), math.prod(self._shape)
            if size != expected:
                raise invalid(f'Expecting tensor size: {expected} but got: {size}')
            raise invalid(f'Expecting shape {_brackets(self._shape)} but got: {_brackets(shape)}')

    def _append(self, value: Any, shape: list[int], level: int) -> None:
        rank = len(shape)
        if type(value) is not list:
            if level != rank:
                raise invalid(
                    f'JSON Value: {excerpt(value)} found at incorrect level: {level + 1} '
                    f'in the JSON DOM. Expected at level: {rank}'
                )
            self._values.append(self._converted(value))
            return
        if level >= rank:
            raise invalid(f'Encountered list at unexpected level: {level} expected < {rank}')
        if len(value) != shape[level]:
            raise invalid(
                f'Encountered list at unexpected size: {len(value)} at level: {level} '
                f'expected size: {shape[level]}'
            )
        if level == rank - 1 and self._ready.issuperset(map(type, value)):
            self._values.extend(value)
        else:
            for item in value:
                self._append(item, shape, level + 1)

    def _converted(self, value: Any) -> Any:
        """What is no list."""
        if type(value) in self._ready:
            return value
        if self._type is np.object_:
            if type(value) is str:
                return value.encode()
            if json_text.is_base64(value):
                return json_text.decode_base64(value)
            if type(value) is dict:
                raise invalid(
                    f'JSON Value: {excerpt(value)} not formatted correctly for base64 data'
                )
        raise self._type_error(value)

    def _type_error(self, value: Any) -> ServingError:
        return invalid(
            f'JSON Value: {excerpt(value)} Type: {json_text.type_name(value)} is not of expected '
            f'type: {self._name}'
        )

    def array(self) -> np.ndarray:
        """The one value that was added."""
        return self._flat().reshape(self._shape)

    def batch(self) -> np.ndarray:
        """All values that were added, along a first axis."""
        return self._flat().reshape([self._count, *self._shape])

    def _flat(self) -> np.ndarray:
        if issubclass(self._type, np.integer):
            return self._integers()
        if issubclass(self._type, np.floating):
            with np.errstate(over='ignore'):  # to infinity
                return np.array(self._values, np.float64).astype(self._type)
        flat = np.empty(len(self._values), self._type)
        flat[:] = self._values
        return flat

    def _integers(self) -> np.ndarray:
        dtype = np.dtype(self._type)
        try:
            # One call, that refuses what does not fit.
            return np.frombuffer(c_array(dtype.char, self._values), dtype)
        except OverflowError:
            limits = np.iinfo(dtype)
            wrong = next(v for v in self._values if not limits.min <= v <= limits.max)
            raise self._type_error(wrong) from None


def _shape(value: Any) -> list[int]:
    """The lengths of the lists that a value is nested in, judged by the first ones."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise invalid(f'Lists are nested deeper than {_MAX_RANK} dimensions')
        if not value:
            break
        value = value[0]
    return shape


def _brackets(shape: list[int]) -> str:
    return f'[{",".join(map(str, shape))}]'


def format_predict_response(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """Writes the body of the answer.

    Args:
        outputs: By the signature's output names; strings are object arrays of bytes.
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
        return _entries(name, array)
    members = [
        [f'{json_text.string(name)}: {text}' for text in _entries(name, array)]
        for name, array in outputs.items()
    ]
    return [f'{{{", ".join(instance)}}}' for instance in zip(*members, strict=True)]


def _columns(outputs: Mapping[str, np.ndarray]) -> str:
    texts = {}
    for name, array in outputs.items():
        entries = _entries(name, array)
        texts[name] = f'[{", ".join(entries)}]' if array.ndim else entries[0]
    if len(texts) == 1:
        return next(iter(texts.values()))
    members = (f'{json_text.string(name)}: {text}' for name, text in texts.items())
    return f'{{{", ".join(members)}}}'


def _entries(name: str, array: np.ndarray) -> list[str]:
    """A text for each entry of the first axis; for a scalar, one."""
    if array.dtype.char in 'fd':
        return json_text.nested(json_text.decimals(array), array.shape)
    dtype = tf.as_dtype(array.dtype).as_datatype_enum
    if array.size and dtype not in _TYPES:
        raise invalid(f'Failed to write JSON value for tensor type: {_dtype_name(dtype)}')
    flat = array.ravel().tolist()
    if dtype == types_pb2.DT_BOOL:
        texts = ['true' if value else 'false' for value in flat]
    elif dtype == types_pb2.DT_STRING:
        texts = json_text.strings(flat, as_base64=name.endswith('_bytes'))
    else:
        texts = [str(value) for value in flat]
    return json_text.nested(texts, array.shape)


def _dtype_name(dtype: int) -> str:
    """What the real server calls a dtype in errors: "float", "int32"."""
    return types_pb2.DataType.Name(dtype).removeprefix('DT_').lower()
