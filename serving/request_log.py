"""A sample of requests and their answers, kept in files for whoever wants to know what was asked.

The files are TFRecord files of tensorflow.serving.PredictionLog, as TensorFlow Serving's warm-up
requests are. A thread writes them; what it cannot write is counted and left out, and no request
waits for it or fails because of it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import glob
import itertools
import os
import random
import threading
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from prometheus_client.metrics_core import Metric
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.console import complain
from serving.models.shapes import Tensors

# What may wait to be written. More is dropped, so that a slow disk does not fill the memory.
_WAITING_BYTES, _WAITING_RECORDS = 64 << 20, 1024
# A killed server loses what it has answered in this time.
_FLUSH_SECONDS = 1.0
# A record has its length, and two checksums, beside its bytes.
_FRAME_BYTES = 16
# Of a request whose form is used again.
_SMALL_BYTES = 1 << 16
# Answers with more axes are pictures, such as a reconstruction, or can be made into one.
_MOST_AXES_WITHOUT_IMAGES = 2
_STATUSES = ('logged', 'dropped', 'failed')


@dataclasses.dataclass(frozen=True)
class RequestLogOptions:
    """What is kept, and where.

    Attributes:
        sampling_rate: The fraction of the requests that is kept, above 0 and at most 1.
        filename_prefix: How the paths of the files begin; `-`, the time in UTC, the process and a
            number follow.
        keep_images: Whether to keep what was asked, and those answers that pictures are made from.
        max_bytes: Of all files with this prefix together; the oldest are removed.
        file_bytes: After which the next file is begun; a reader gets through one in seconds.
    """

    sampling_rate: float
    filename_prefix: str
    keep_images: bool = True
    max_bytes: int = 1 << 30
    file_bytes: int = 16 << 20


class _Answered(NamedTuple):
    """A request that was answered."""

    model: str
    version: int
    signature_name: str
    inputs: Tensors
    outputs: Tensors
    seconds: int
    size: int


class RequestLog:
    """Keeps requests until `close`. `add` may be called by one thread only.

    Args:
        options: What is kept, and where.
    """

    def __init__(self, options: RequestLogOptions) -> None:
        self._options = options
        self._waiting: collections.deque[_Answered] = collections.deque()
        self._waiting_bytes = 0
        self._counts = dict.fromkeys(_STATUSES, 0)
        self._complaint = ''
        self._files = _Files(options)
        self._closing = False
        self._wakes = threading.Condition()
        self._thread = threading.Thread(target=self._write, name='request_log', daemon=True)
        self._thread.start()

    def add(
        self, model: str, version: int, signature_name: str, inputs: Tensors, outputs: Tensors
    ) -> None:
        """Keeps an answered request if it is one of the sample; it takes microseconds.

        Args:
            model: The name of the model that answered.
            version: Its version.
            signature_name: The signature that was asked.
            inputs: Arrays by its input names; strings are object arrays of bytes.
            outputs: Arrays by its output names, likewise.
        """
        rate = self._options.sampling_rate
        if rate < 1 and random.random() >= rate:
            return
        if not self._options.keep_images:
            inputs = {}
            outputs = {
                name: value
                for name, value in outputs.items()
                if value.ndim <= _MOST_AXES_WITHOUT_IMAGES
            }
        size = sum(map(_bytes_of, inputs.values())) + sum(map(_bytes_of, outputs.values()))
        with self._wakes:
            if (
                len(self._waiting) >= _WAITING_RECORDS
                or self._waiting_bytes + size > _WAITING_BYTES
            ):
                self._counts['dropped'] += 1
                return
            self._waiting_bytes += size
            answered = _Answered(
                model, version, signature_name, inputs, outputs, int(time.time()), size
            )
            self._waiting.append(answered)

    def family(self) -> Metric:
        """What became of the sampled requests, for Prometheus."""
        name = ':tensorflow:serving:request_log_count'
        family = Metric(name, 'The number of sampled requests, by what became of them.', 'counter')
        for status, count in self._counts.items():
            family.add_sample(name, {'status': status}, count)
        return family

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        with self._wakes:
            self._closing = True
            self._wakes.notify()
        self._thread.join()

    def _write(self) -> None:
        """Writes what waits, a few times a second. To wake for each request would cost more."""
        closing = False
        while not closing:
            with self._wakes:
                if not self._closing:
                    self._wakes.wait(_FLUSH_SECONDS / 4)
                closing = self._closing
            count = 0
            try:
                if self._waiting:
                    self._files.look()
                while self._waiting:
                    with self._wakes:
                        answered = self._waiting.popleft()
                        self._waiting_bytes -= answered.size
                    count += 1
                    self._files.write(_record(answered, self._options.sampling_rate))
                if count or closing:
                    self._files.flush()
            except Exception as error:
                # Whatever it is, requests are still answered.
                self._failed(count, error)
            else:
                self._counts['logged'] += count
                self._complaint = self._complaint if not count else ''
        with contextlib.suppress(Exception):
            self._files.close()

    def _failed(self, count: int, error: Exception) -> None:
        with self._wakes:
            count += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._counts['failed'] += count
        with contextlib.suppress(Exception):
            self._files.close()
        message = error.message if isinstance(error, tf.errors.OpError) else str(error)
        complaint = f'The request log cannot be written: {message}. Requests are still answered.'
        if complaint != self._complaint:
            self._complaint = complaint
            complain(complaint)


# So that no two files of a process have one name.
_numbers = itertools.count(1)


class _Files:
    """The files of a log, of which the newest is written."""

    def __init__(self, options: RequestLogOptions) -> None:
        self._options = options
        self._writer: tf.io.TFRecordWriter | None = None
        self._path = ''
        self._bytes = 0

    def write(self, record: bytes) -> None:
        """Adds a record; raises OSError or tf.errors.OpError."""
        if self._writer and self._bytes + len(record) + _FRAME_BYTES > self._options.file_bytes:
            self.close()
        writer = self._writer or self._open()
        writer.write(record)
        self._bytes += len(record) + _FRAME_BYTES

    def flush(self) -> None:
        """Hands what was written to the system; raises tf.errors.OpError."""
        if self._writer:
            self._writer.flush()

    def look(self) -> None:
        """Closes the file if somebody has removed it: nobody would read what is written there."""
        if self._writer and not os.path.exists(self._path):
            self.close()

    def close(self) -> None:
        """Closes the file; raises tf.errors.OpError."""
        writer, self._writer = self._writer, None
        if writer:
            writer.close()

    def _open(self) -> tf.io.TFRecordWriter:
        prefix = self._options.filename_prefix
        # For the person who serves alone: the files hold what others have asked.
        os.makedirs(os.path.dirname(prefix), mode=0o700, exist_ok=True)
        self._remove_oldest()
        now = time.strftime('%Y%m%dT%H%M%S', time.gmtime())
        self._path = f'{prefix}-{now}-{os.getpid()}-{next(_numbers):06}.tfrecord'
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._bytes = 0
        self._writer = tf.io.TFRecordWriter(self._path)
        return self._writer

    def _remove_oldest(self) -> None:
        """Makes room for one more file."""
        paths = sorted(glob.glob(f'{glob.escape(self._options.filename_prefix)}-*.tfrecord'))
        sizes = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = os.path.getsize(path)
        left = sum(sizes.values())
        for path, size in sizes.items():
            if left + self._options.file_bytes <= self._options.max_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
            left -= size


def _bytes_of(array: np.ndarray) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes


def _record(answered: _Answered, sampling_rate: float) -> bytes:
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
