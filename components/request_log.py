"""Reads what the server has kept of the requests and its answers."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2


class Logged(NamedTuple):
    """A request that was kept.

    Attributes:
        file: The name of the file that it is in.
        number: Of the record in the file, from 1 on.
        log: The request and its answer.
    """

    file: str
    number: int
    log: prediction_log_pb2.PredictionLog


def read(folder: str, numbers: Mapping[str, int] | None = None) -> Iterator[Logged]:
    """The requests in a folder of logs, file by file, the oldest file first.

    A file that is written now, or that a killed server has left, may end within a record: it is
    read up to there.

    Args:
        folder: Has files whose names end with `.tfrecord`; it may be missing.
        numbers: By the name of a file, how many of its records are known already.
    """
    numbers = numbers or {}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), '*.tfrecord'))):
        name = os.path.basename(path)
        known = numbers.get(name, 0)
        records = tf.data.TFRecordDataset(path).skip(known).as_numpy_iterator()
        try:
            for number, record in enumerate(records, known + 1):
                log = prediction_log_pb2.PredictionLog.FromString(record)
                yield Logged(name, number, log)
        except (tf.errors.DataLossError, tf.errors.NotFoundError):
            continue  # its end is not written yet, or the server has just removed the file
