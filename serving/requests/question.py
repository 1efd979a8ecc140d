"""Reads the body of any request to a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

from tensorflow.core.protobuf import meta_graph_pb2

from serving.models.shapes import Tensors
from serving.requests import classify_regress, predict, request_cost


@dataclasses.dataclass(frozen=True)
class Question:
    """A request to a signature.

    Attributes:
        signature_name: The signature's name.
        inputs: Arrays by its input names; strings are object arrays of bytes.
        cost: The cost estimated by serving/requests/request_cost.py.
        write: Writes the body of the answer, given the model's outputs.
    """

    signature_name: str
    inputs: Tensors
    cost: float
    write: Callable[[Tensors], bytes]


def parse(
    kind: str,
    content: bytes | bytearray,
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef],
    max_instances: int,
) -> Question:
    """Reads the body of a request, and estimates its cost.

    Args:
        kind: 'predict', 'classify' or 'regress'.
        content: The body.
        signature_defs: The model's signatures.
        max_instances: The most instances of a request.

    Raises:
        ServingError: The request is wrong, too large or too costly.
    """
    if kind == 'predict':
        asked = predict.parse_predict_request(content, signature_defs, max_instances)
        write = functools.partial(predict.format_predict_response, row_format=asked.row_format)
        cost = request_cost.estimate(asked.inputs)
        return Question(asked.signature_name, asked.inputs, cost, write)
    request = classify_regress.parse_examples_request(content, kind, signature_defs, max_instances)
    inputs = {'inputs': request.examples}
    write = functools.partial(
        classify_regress.format_classify_response
        if kind == 'classify'
        else classify_regress.format_regress_response,
        count=len(request.examples),
    )
    return Question(request.signature_name, inputs, request_cost.estimate(inputs), write)
