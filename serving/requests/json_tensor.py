"""One tensor as JSON: values are collected into an array, and an array is written as texts."""

from __future__ import annotations

import math
from array import array as c_array
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from serving.errors import ServingError, invalid
from serving.requests import json_text
from serving.requests.json_text import excerpt

_MAX_RANK = 31  # numpy 1 has at most 32 dimensions; one may be the batch

# For each dtype: the Python types that need no conversion, and the numpy type.
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


class JsonTensor:
    """Collects JSON values for a tensor: one value, or several of one shape.

    Args:
        dtype: The tensor's, a number of TensorFlow's DataType.
    """

    def __init__(self, dtype: int) -> None:
        self._name = _dtype_name(dtype)
        self._ready, self._type = _TYPES.get(dtype, (frozenset(), np.void))
        self._count = 0
        self._shape: list[int] = []
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """Appends a JSON value; raises ServingError if it is ragged, or not of the dtype."""
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
        """A JSON value that is not a list, as it goes into the array."""
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
            # One call, which also refuses numbers that do not fit.
            return np.frombuffer(c_array(dtype.char, self._values), dtype)
        except OverflowError:
            limits = np.iinfo(dtype)
            wrong = next(v for v in self._values if not limits.min <= v <= limits.max)
            raise self._type_error(wrong) from None


def _shape(value: Any) -> list[int]:
    """The shape of nested lists, judged by the first item of each list."""
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


def entries(name: str, array: np.ndarray) -> list[str]:
    """Writes an output as JSON: one text for each entry of the first axis, or one for a scalar.

    Args:
        name: The output's name; strings are written as base64 if it ends with "_bytes".
        array: Its values.

    Raises:
        ServingError: JSON cannot carry the dtype.
    """
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
    """A dtype's name in the real server's errors: "float", "int32"."""
    return types_pb2.DataType.Name(dtype).removeprefix('DT_').lower()
