"""Keeps a sample of the requests while the server answers.

The files are as TensorFlow Serving's warm-up requests are. A thread writes them; what it cannot
write is counted and left out, and no request waits for it or fails because of it.
"""

from __future__ import annotations

import collections
import contextlib
import random
import threading
import time

import tensorflow as tf
from prometheus_client.metrics_core import Metric

from serving.console import complain
from serving.models.shapes import Tensors
from serving.request_log.files import Files, RequestLogOptions
from serving.request_log.records import Answered, bytes_of, record

# What may wait to be written. More is dropped, so that a slow disk does not fill the memory.
_WAITING_BYTES, _WAITING_RECORDS = 64 << 20, 1024
# A killed server loses what it has answered in this time.
_FLUSH_SECONDS = 0.25
# After a failure, such as a full disk, nothing is written for so long.
_PAUSE_SECONDS = 10.0
# Answers with more axes are pictures, such as a reconstruction, or can be made into one.
_MOST_AXES_WITHOUT_IMAGES = 2
_STATUSES = ('logged', 'dropped', 'failed')


class RequestLog:
    """Keeps requests until `close`. `add` may be called by one thread only.

    Args:
        options: What is kept, and where.
    """

    def __init__(self, options: RequestLogOptions) -> None:
        self._options = options
        self._waiting: collections.deque[Answered] = collections.deque()
        self._waiting_bytes = 0
        self._counts = dict.fromkeys(_STATUSES, 0)
        self._failure = ''
        self._pause_ends = 0.0
        self._files = Files(options)
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
        size = sum(map(bytes_of, inputs.values())) + sum(map(bytes_of, outputs.values()))
        with self._wakes:
            if (
                len(self._waiting) >= _WAITING_RECORDS
                or self._waiting_bytes + size > _WAITING_BYTES
            ):
                self._counts['dropped'] += 1
                return
            self._waiting_bytes += size
            answered = Answered(
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
                    self._wakes.wait(_FLUSH_SECONDS)
                closing = self._closing
            count = 0
            try:
                if self._waiting and time.monotonic() < self._pause_ends:
                    self._leave_out(0)
                if self._waiting:
                    self._files.look()
                while self._waiting:
                    with self._wakes:
                        answered = self._waiting.popleft()
                        self._waiting_bytes -= answered.size
                    count += 1
                    self._files.write(record(answered, self._options.sampling_rate))
                if count or closing:
                    self._files.flush()
            except Exception as error:
                # Whatever it is, requests are still answered.
                self._failed(count, error)
            else:
                self._counts['logged'] += count
                if count:
                    self._failure = ''
        with contextlib.suppress(Exception):
            self._files.close()

    def _failed(self, count: int, error: Exception) -> None:
        """Counts what is lost, among it `count` that no longer wait, and says so once."""
        self._leave_out(count)
        self._pause_ends = time.monotonic() + _PAUSE_SECONDS
        with contextlib.suppress(Exception):
            self._files.drop()
        # Not by the message, which has the name of the file.
        failure = f'{type(error).__name__} {getattr(error, "errno", "")}'
        if failure != self._failure:
            self._failure = failure
            message = error.message if isinstance(error, tf.errors.OpError) else str(error)
            complain(
                f'The request log cannot be written: {message}. Requests are still answered; it is '
                f'tried again every {_PAUSE_SECONDS:.0f} seconds.'
            )

    def _leave_out(self, count: int) -> None:
        with self._wakes:
            self._counts['failed'] += count + len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
