"""The quantities of a version's own data, with which requests are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from components.drift import files, quantities, sampling
from components.drift.asked_model import AskedModel
from components.drift.errors import CannotJudge
from components.drift.quantities import Quantities

# Changes with the meaning of what the file holds.
_FORMAT = 1


def load(path: str, version: str) -> Quantities | None:
    """Reads the reference of a version; None if the file does not hold it.

    Args:
        path: What `save` has written, or nothing.
        version: The number of the version.
    """
    try:
        with open(path, encoding='utf-8') as opened:
            content = json.load(opened)
        if (content['format'], content['version']) != (_FORMAT, version):
            return None
        return {
            name: np.array(
                [np.nan if value is None else value for value in content['quantities'][name]],
                np.float64 if name in quantities.NUMERIC else str,
            )
            for name in quantities.NAMES
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(path: str, version: str, reference: Quantities) -> None:
    """Writes the reference of a version."""
    values = {
        name: [None if value != value else value for value in array.tolist()]
        for name, array in reference.items()
    }
    files.write(path, json.dumps({'format': _FORMAT, 'version': version, 'quantities': values}))


def measure(model: AskedModel, pattern: str) -> Quantities:
    """Asks a model about `sampling.MOST_IMAGES` pictures at most of the data that it comes from.

    Args:
        model: The version.
        pattern: Of the files with raw examples, TFRecords compressed by gzip, each with a picture
            as `image`.

    Raises:
        CannotJudge: There are no such pictures.
    """
    try:
        paths = sorted(tf.io.gfile.glob(pattern))
        count = sum(1 for _ in _records(paths))
        places = sampling.chosen(count)
        pictures = (
            picture_of(record) for place, record in enumerate(_records(paths)) if place in places
        )
        rows = [
            {**quantities.of_answer(answer), **quantities.of_image(answer['image'])}
            for answer in model.answers(pictures)
            if answer is not None
        ]
    except (tf.errors.OpError, ValueError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CannotJudge(f'The examples {pattern} cannot be read: {reason}') from error
    if not rows:
        raise CannotJudge(
            f'The data that the version was trained with are not there any more: {pattern}. Push a '
            'new version, or run the pipeline again.'
        )
    return quantities.joined(rows)


def picture_of(serialized: bytes) -> bytes:
    """The picture of a serialized raw example.

    Raises:
        ValueError: It is no example.
        IndexError: It has no picture.
    """
    try:
        example = tf.train.Example.FromString(serialized)
    except Exception as error:  # DecodeError of the protobuf that is installed
        raise ValueError('this is no tf.Example') from error
    return example.features.feature['image'].bytes_list.value[0]


def _records(paths: Sequence[str]) -> Iterator[bytes]:
    if paths:
        yield from tf.data.TFRecordDataset(paths, 'GZIP').as_numpy_iterator()
