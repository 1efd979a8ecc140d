"""A request and its answer as a record: tensorflow.serving.PredictionLog."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.models.shapes import Tensors

# Of a request whose form is used again.
_SMALL_BYTES = 1 << 16


class Answered(NamedTuple):
    """A request that was answered.

    Attributes:
        model: The name of the model.
        version: Its version.
        signature_name: The signature that was asked.
        inputs: Arrays by its input names; strings are object arrays of bytes.
        outputs: Arrays by its output names, likewise.
        seconds: When, since 1970.
        size: Bytes of all arrays.
    """

    model: str
    version: int
    signature_name: str
    inputs: Tensors
    outputs: Tensors
    seconds: int
    size: int


def bytes_of(array: np.ndarray) -> int:
    """The bytes of an array, or of the strings in it."""
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes


def record(answered: Answered, sampling_rate: float) -> bytes:
    """A serialized PredictionLog with a predict_log; only one thread may call this."""
    arrays = (*answered.inputs.values(), *answered.outputs.values())
    # Forms keep the values that they were filled with last.
    form = _form if answered.size <= _SMALL_BYTES else _form.__wrapped__
    log, tensors = form(
        answered.model,
        answered.version,
        answered.signature_name,
        tuple(answered.inputs),
        tuple(answered.outputs),
        tuple((array.dtype, array.shape) for array in arrays),
    )
    log.log_metadata.sampling_config.sampling_rate = sampling_rate
    log.log_metadata.timestamp_secs = answered.seconds
    for tensor, array in zip(tensors, arrays, strict=True):
        if array.dtype == object:
            tensor.string_val[:] = array.flat
        else:
            tensor.tensor_content = array.tobytes()
    return log.SerializeToString()


@functools.lru_cache(64)
def _form(
    model: str,
    version: int,
    signature_name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    kinds: tuple[tuple[np.dtype, tuple[int, ...]], ...],
) -> tuple[prediction_log_pb2.PredictionLog, list[tensor_pb2.TensorProto]]:
    """A record without values, and its tensors, for the thread that writes to fill in again.

    To build each record from nothing takes four times as long.
    """
    log = prediction_log_pb2.PredictionLog()
    asked, said = log.predict_log.request, log.predict_log.response
    for spec in (log.log_metadata.model_spec, asked.model_spec, said.model_spec):
        spec.name = model
        spec.version.value = version
        spec.signature_name = signature_name
    tensors = [asked.inputs[name] for name in inputs] + [said.outputs[name] for name in outputs]
    for tensor, (dtype, shape) in zip(tensors, kinds, strict=True):
        tensor.dtype = tf.as_dtype(dtype).as_datatype_enum
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    return log, tensors
