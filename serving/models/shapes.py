"""Whether tensors have the shapes that a signature declares.

A session, in which TensorFlow Serving and this server run models, feeds an input of any shape.
Some models then answer with other numbers of rows, made of numbers that belonged together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import ServingError, invalid

Tensors = Mapping[str, np.ndarray]

ANY = -1  # a size that is open


def check_inputs(name: str, signature: meta_graph_pb2.SignatureDef, inputs: Tensors) -> None:
    """Raises ServingError for an input of another rank or size than is declared.

    A size that is declared as unknown may be any one, and so may the shape where the rank is.

    Args:
        name: What the signature is called.
        signature: What declares the shapes.
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
    """Raises ServingError for outputs that do not have a row for each row of the inputs.

    That is asked where all inputs have the same number of rows, which the signature leaves open, of
    the outputs whose number of rows it leaves open as well.

    Args:
        name: What the signature is called.
        signature: What declares the shapes.
        inputs: What the model was asked.
        outputs: What it answered.
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
    """Whether an input has a declared number of rows, so that requests cannot be merged."""
    shapes = [declared_shape(info) for info in signature.inputs.values()]
    return any(shape and shape[0] != ANY for shape in shapes)


def has_open_size(info: meta_graph_pb2.TensorInfo) -> bool:
    """Whether the number of rows may be any one."""
    declared = declared_shape(info)
    return declared is None or declared[:1] == [ANY]


def declared_shape(info: meta_graph_pb2.TensorInfo) -> list[int] | None:
    """The sizes of an input or output, -1 for those that may be any; None for any rank."""
    if not info.HasField('tensor_shape') or info.tensor_shape.unknown_rank:
        return None
    return [dim.size for dim in info.tensor_shape.dim]


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    return len(shape) == len(declared) and all(
        wanted in (ANY, size) for size, wanted in zip(shape, declared, strict=True)
    )


def _text(shape: Sequence[int]) -> str:
    return f'[{", ".join("?" if size == ANY else str(size) for size in shape)}]'
