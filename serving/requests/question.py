"""From the body of a request to what is asked of a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

from tensorflow.core.protobuf import meta_graph_pb2

from serving.models.shapes import Tensors
from serving.requests import classify_regress, predict, request_cost


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of a signature.

    Attributes:
        signature_name: Its name.
        inputs: By its input names; strings are object arrays of bytes.
        cost: As estimated by serving/requests/request_cost.py.
        write: Makes the body of the answer of the model's outputs.
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
    """Reads the body of a request, and estimates what it costs to answer it.

    Args:
        kind: 'predict', 'classify' or 'regress'.
        content: The body.
        signature_defs: The model's.
        max_instances: The most instances of a request.

    Raises:
        ServingError: It is wrong, or larger or costlier than it may be.
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
