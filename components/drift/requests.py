"""The images that a model was asked about, from the records of a request log."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.drift import quantities, reference
from components.drift.asked_model import AskedModel
from components.drift.quantities import Row

# The inputs of the signatures that look at images.
_PICTURES = 'image_bytes'
_EXAMPLES = 'examples'
_PIXELS = 'pixels'


@dataclasses.dataclass(frozen=True)
class Asked:
    """One image of a request.

    Attributes:
        answer: The outputs of the model by name, without the axis of images.
        picture: The contents of the file that was sent; None if it was not kept.
        image: uint8 [height, width] or [height, width, 3], what the network was given, if that was
            kept.
    """

    answer: dict[str, Any]
    picture: bytes | None = None
    image: np.ndarray | None = None


def version_of(log: prediction_log_pb2.PredictionLog) -> str:
    """The number of the version that has answered."""
    return str(
        log.predict_log.response.model_spec.version.value
        or log.log_metadata.model_spec.version.value
    )


def count(log: prediction_log_pb2.PredictionLog) -> int:
    """The number of images of a record; 0 if it is about something else, such as `decode`."""
    outputs = log.predict_log.response.outputs
    if 'scores' not in outputs:
        return 0
    dims = outputs['scores'].tensor_shape.dim
    return dims[0].size if len(dims) == 2 else 0


def images(log: prediction_log_pb2.PredictionLog) -> list[Asked]:
    """The images of a record, as many as `count` says."""
    number = count(log)
    outputs = {
        name: tf.make_ndarray(proto) for name, proto in log.predict_log.response.outputs.items()
    }
    outputs = {name: array for name, array in outputs.items() if array.shape[:1] == (number,)}
    inputs = log.predict_log.request.inputs
    kept: dict[str, list[Any]] = {}
    for name, field, read in (
        (_PICTURES, 'picture', lambda value: value),
        (_EXAMPLES, 'picture', reference.picture_of),
        (_PIXELS, 'image', lambda value: value.astype(np.uint8)),
    ):
        if name in inputs:
            array = tf.make_ndarray(inputs[name])
            if array.shape[:1] == (number,):
                kept[field] = [read(value) for value in array]
    return [
        Asked(
            {name: array[place] for name, array in outputs.items()},
            **{field: values[place] for field, values in kept.items()},
        )
        for place in range(number)
    ]


def rows(model: AskedModel, asked: Iterable[Asked]) -> Iterator[Row]:
    """The quantities of each image, in any order.

    What the answers do not hold, the model is asked about if the pictures were kept.

    Args:
        model: The version that has answered.
        asked: The images.
    """
    waiting: list[Row] = []

    def pictures() -> Iterator[bytes]:
        for each in asked:
            row = quantities.of_answer(each.answer)
            image = each.answer.get('image', each.image)
            if image is not None:
                row |= quantities.of_image(image)
            waiting.append(row)
            if image is None and each.picture is not None:
                asking.append(row)
                yield each.picture

    asking: list[Row] = []
    for answer in model.answers(pictures()):
        row = asking.pop(0)
        if answer is not None:
            explained = {**quantities.of_answer(answer), **quantities.of_image(answer['image'])}
            row |= {**explained, **row}
    yield from waiting
