"""Checks that tensors have the shapes that a signature declares.

TensorFlow Serving and this server run models in sessions, which accept inputs of any shape. Given
another shape, some models answer with another number of rows, and mix numbers of different rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError, invalid

Tensors = Mapping[str, np.ndarray]

ANY = -1  # a size that a signature leaves open


def check_inputs(name: str, signature: meta_graph_pb2.SignatureDef, inputs: Tensors) -> None:
    """Raises ServingError for an input with another rank or size than the declared one.

    Where the signature leaves a size or the rank open, any is accepted.

    Args:
        name: The signature's name.
        signature: The signature.
        inputs: A value for each of its inputs.
    """
    for key, info in signature.inputs.items():
        declared, shape = declared_shape(info), np.shape(inputs[key])
        if declared is not None and not _fits(shape, declared):
            raise invalid(
                f'The input {key} of the signature {name} must have the shape {_text(declared)}, '
                f'not {_text(shape)}; ? stands for any size.',
            )


def check_outputs(
    name: str, signature: meta_graph_pb2.SignatureDef, inputs: Tensors, outputs: Tensors
) -> None:
    """Raises ServingError for outputs that do not have one row for each row of the inputs.

    This is checked if the signature leaves the number of rows of all inputs open, and they have the
    same number, for those outputs whose number of rows is open as well.

    Args:
        name: The signature's name.
        signature: The signature.
        inputs: The inputs of the model.
        outputs: Its outputs.
    """
    if not all(has_open_size(info) for info in signature.inputs.values()):
        return
    sizes = {np.shape(value)[:1] for value in inputs.values()}
    if len(sizes) != 1 or () in sizes:
        return
    (size,) = sizes
    for key, info in signature.outputs.items():
        if has_open_size(info) and outputs[key].shape[:1] != size:
            raise ServingError(
                'FAILED_PRECONDITION',
                f'The model does not have one answer for each row: to inputs with {size[0]} rows '
                f'the signature {name} answers with {key} of the shape '
                f'{_text(outputs[key].shape)}.',
            )


def has_fixed_size(signature: meta_graph_pb2.SignatureDef) -> bool:
    """Whether the number of rows of an input is fixed, so that requests cannot be merged."""
    shapes = [declared_shape(info) for info in signature.inputs.values()]
    return any(shape and shape[0] != ANY for shape in shapes)


def has_open_size(info: meta_graph_pb2.TensorInfo) -> bool:
    """Whether the number of rows is open."""
    declared = declared_shape(info)
    return declared is None or declared[:1] == [ANY]


def declared_shape(info: meta_graph_pb2.TensorInfo) -> list[int] | None:
    """The sizes of an input or output, -1 for an open size; None if the rank is open."""
    if not info.HasField('tensor_shape') or info.tensor_shape.unknown_rank:
        return None
    return [dim.size for dim in info.tensor_shape.dim]


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    return len(shape) == len(declared) and all(
        wanted in (ANY, size) for size, wanted in zip(shape, declared, strict=True)
    )


def _text(shape: Sequence[int]) -> str:
    return f'[{", ".join("?" if size == ANY else str(size) for size in shape)}]'
