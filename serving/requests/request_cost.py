"""Estimates the cost of a request before a model runs it.

A server that knows nothing about its models can count rows, bytes, and the pixels of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.errors import ServingError, invalid
from serving.requests.picture_cost import hides_data, pixels

# A request of cost 1 has this many rows, or bytes, or pixels to decode, or a mixture of these. A
# request that costs less is light: one core takes well below 0.1 s, unless the model is large.
_ROWS = 16
_BYTES = 1 << 18
_PIXELS = 1 << 19
_HARMLESS_BYTES = 1 << 10  # a smaller file cannot hide much: deflate makes a thousand bytes of one
# Four pictures of 4096 x 4096, for which a core takes one or two seconds.
MAX_PIXELS = 1 << 26
# The most total cost of the light requests in one batch.
MAX_BATCH_COST = 4.0


def estimate(inputs: Mapping[str, np.ndarray]) -> float:
    """The cost of a request, which is light up to a cost of 1.

    Args:
        inputs: Arrays by the signature's input names; strings are object arrays of bytes.

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
