"""The TFRecord files of a request log."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import itertools
import os
import time

import tensorflow as tf

# A record has its length, and two checksums, beside its bytes.
_FRAME_BYTES = 16


@dataclasses.dataclass(frozen=True)
class RequestLogOptions:
    """What is kept, and where.

    Attributes:
        sampling_rate: The fraction of the requests that is kept, above 0 and at most 1.
        filename_prefix: How the paths of the files begin; `-`, the time in UTC, the process and a
            number follow.
        keep_images: Whether to keep what was asked, and those answers that pictures are made from.
        max_bytes: Of all files with this prefix together; the oldest are removed.
        file_bytes: After which the next file is begun; a reader gets through one in seconds. A
            request that is larger has a file of its own.
    """

    sampling_rate: float
    filename_prefix: str
    keep_images: bool = True
    max_bytes: int = 1 << 30
    file_bytes: int = 16 << 20


# So that no two files of a process have one name.
_numbers = itertools.count(1)


class Files:
    """The files of a log, of which the newest is written."""

    def __init__(self, options: RequestLogOptions) -> None:
        self._options = options
        # The oldest file goes before another one is begun, so that there must be room for two.
        self._file_bytes = min(options.file_bytes, options.max_bytes // 2)
        self._writer: tf.io.TFRecordWriter | None = None
        self._path = ''
        self._bytes = 0

    def write(self, record: bytes) -> None:
        """Adds a record; raises OSError or tf.errors.OpError."""
        size = len(record) + _FRAME_BYTES
        if self._writer and self._bytes + size > self._file_bytes:
            self.close()
        writer = self._writer or self._open(max(size, self._file_bytes))
        writer.write(record)
        self._bytes += size

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

    def drop(self) -> None:
        """Closes the file, and removes it if nothing could be written to it."""
        try:
            self.close()
        finally:
            with contextlib.suppress(OSError):
                if not os.path.getsize(self._path):
                    os.remove(self._path)

    def _open(self, size: int) -> tf.io.TFRecordWriter:
        prefix = self._options.filename_prefix
        # For the person who serves alone: the files hold what others have asked.
        os.makedirs(os.path.dirname(prefix), mode=0o700, exist_ok=True)
        self._remove_oldest(size)
        now = time.strftime('%Y%m%dT%H%M%S', time.gmtime())
        self._path = f'{prefix}-{now}-{os.getpid()}-{next(_numbers):06}.tfrecord'
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._bytes = 0
        self._writer = tf.io.TFRecordWriter(self._path)
        return self._writer

    def _remove_oldest(self, room: int) -> None:
        """Makes room for one more file."""
        paths = sorted(glob.glob(f'{glob.escape(self._options.filename_prefix)}-*.tfrecord'))
        sizes = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = os.path.getsize(path)
        left = sum(sizes.values())
        for path, size in sizes.items():
            if left + room <= self._options.max_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
            left -= size
