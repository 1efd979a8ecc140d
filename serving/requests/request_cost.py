"""How costly a request is, estimated before a model sees it.

A server that knows nothing of its models can tell this much: how many rows are asked, how many
bytes they are, and how many pixels the pictures among them have.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.errors import ServingError, invalid
from serving.requests.picture_cost import hides_data, pixels

# A request of cost 1 has so many rows, or bytes, or pixels to decode, or a part of each. What costs
# less is light: on one core it takes well below 0.1 s, unless the model is a large one.
_ROWS = 16
_BYTES = 1 << 18
_PIXELS = 1 << 19
_HARMLESS_BYTES = 1 << 10  # a file that cannot hide much, as deflate makes a thousand bytes of one
# Four pictures of 4096 x 4096; they take a core one or two seconds.
MAX_PIXELS = 1 << 26
# Of the light requests that are merged into one batch, together.
MAX_BATCH_COST = 4.0


def estimate(inputs: Mapping[str, np.ndarray]) -> float:
    """The cost of a request; up to 1 it is light.

    Args:
        inputs: What is asked, by the signature's input names; strings are object arrays of bytes.

    Raises:
        ServingError: The pictures in it take too much work to decode.
    """
    rows = 1
    size = 0
    texts: list[bytes] = []
    for value in inputs.values():
        if value.ndim:
            rows = max(rows, len(value))
        if value.dtype.hasobject:
            texts += value.ravel().tolist()
        else:
            size += value.nbytes
    work = 0.0
    for text in texts:
        size += len(text)
        work += pixels(text)
        if work > MAX_PIXELS:
            raise _too_much_work()
    if work and any(len(text) > _HARMLESS_BYTES and hides_data(text) for text in texts):
        raise _too_much_work()
    return rows / _ROWS + size / _BYTES + work / _PIXELS


def _too_much_work() -> ServingError:
    return invalid(
        'The pictures in this request take more work to decode than '
        f'{MAX_PIXELS:,} pixels, which one request may have. Scans beyond the first, compressed '
        'texts, and data without pixels count as well',
    )
