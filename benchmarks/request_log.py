"""What it costs a server to keep requests: microseconds of CPU for each, in a table.

`python -m benchmarks.request_log` takes ten seconds. `on its way` is what the thread that answers
pays; `in all` has the thread that writes, too. Both are the smallest of several turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np

import start_tensorflow
from benchmarks.interleaved import report

_TURNS, _REQUESTS = 5, 1000
_COLUMNS = {'request': '', 'on_its_way_us': '.1f', 'in_all_us': '.0f'}


def _requests() -> dict[str, tuple[float, bool, dict[str, np.ndarray], int]]:
    """By name: the sampling rate, whether pictures are kept, the inputs and the images."""
    png = b'x' * 300  # as long as a digit of MNIST
    small = {'image_bytes': np.array([png], object)}
    return {
        'not in the sample': (0.001, True, small, 1),
        'kept, without its picture': (1.0, False, small, 1),
        'kept, a PNG of 300 bytes': (1.0, True, small, 1),
        'kept, 100 PNGs of 300 bytes': (1.0, True, {'image_bytes': np.array([png] * 100)}, 100),
    }


def measure(name: str) -> dict[str, Any]:
    """A row of the table."""
    from serving.request_log.files import RequestLogOptions
    from serving.request_log.log import RequestLog

    rate, keep_images, inputs, images = _requests()[name]
    inputs = {key: value.astype(object) for key, value in inputs.items()}
    outputs = {
        'class_name': np.array([b'7'] * images, object),
        'known': np.ones(images, bool),
        'label': np.full(images, 7),
        'scores': np.zeros((images, 10), np.float32),
    }
    on_its_way, in_all = [], []
    for _ in range(_TURNS):
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, 'requests')
            log = RequestLog(RequestLogOptions(rate, prefix, keep_images))
            cpu, own = time.process_time(), time.thread_time()
            for _ in range(_REQUESTS):
                log.add('capsnet', 1, 'serving_default', inputs, outputs)
            on_its_way.append(time.thread_time() - own)
            log.close()
            in_all.append(time.process_time() - cpu)
    scale = 1e6 / _REQUESTS
    return {
        'request': name,
        'on_its_way_us': scale * min(on_its_way),
        'in_all_us': scale * min(in_all),
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    start_tensorflow.load()
    report([measure(name) for name in _requests()], _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
