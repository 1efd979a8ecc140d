"""Answers of SavedModels, one image at a time and in batches: ours against the textbook's.

`python -m benchmarks.inference` exports the networks with their first weights and asks them through
a signature, as a server does. `--model DIR` also measures a model that the pipeline exported.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.interleaved import measure, report
from benchmarks.train_step import mnist_config

BATCHES = (1, 32, 128)

# For each row: the algorithms of routing and of PrimaryCaps, and whether weights are prepared when
# the model is loaded, as in what the pipeline exports.
NETWORKS = {
    'textbook': ('reference', 'conv2d', False),
    'unprepared': ('matmul', 'auto', False),
    'ours': ('matmul', 'auto', True),
}

_COLUMNS = {
    'name': '',
    'batch': '',
    'images_per_s': '.1f',
    'ms_a_request': '.1f',
    'cpu_ms_per_image': '.2f',
    'ratio_to_textbook': '.2f',
    'cpu_ratio_to_textbook': '.2f',
}


def export(name: str, directory: str) -> None:
    """Writes a network of NETWORKS with the signature `pixels`, uint8 -> `scores`."""
    import dataclasses

    import tensorflow as tf

    from capsmodel.networks import capsnet
    from capsmodel.networks.prepared_weights import prepare_weights

    routing, primary, prepares = NETWORKS[name]
    config = dataclasses.replace(
        mnist_config(), routing_algorithm=routing, primary_algorithm=primary
    )
    model = capsnet.CapsNet(config)
    module = tf.Module()
    # Not the model itself: see capsmodel/signatures.py.
    module.weights = [variable.value for variable in model.variables]
    module.prepared = prepare_weights(model) if prepares else {}
    pixels = tf.TensorSpec([None, *config.image_shape], tf.uint8, 'pixels')

    @tf.function(input_signature=[pixels], autograph=False)
    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {'scores': capsnet.lengths(model.answer(pixels, module.prepared))}

    tf.saved_model.save(module, directory, signatures={'pixels': answer})


def prepare_requests(directory: str, batch: int) -> Callable[[], object]:
    """Returns a function that asks the model at `directory` about `batch` images."""
    import numpy as np
    import tensorflow as tf

    model = tf.saved_model.load(directory)
    pixels = model.signatures['pixels']
    shape = pixels.structured_input_signature[1]['pixels'].shape
    images = np.random.default_rng(0).integers(0, 256, [batch, *shape[1:]]).astype(np.uint8)

    def request() -> Any:
        # `model` is named here to keep it alive: its signatures do not.
        return model.signatures['pixels'](pixels=tf.constant(images))['scores'].numpy()

    return request


def _rows(turns: int, model: str | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        directories = {name: f'{folder}/{name}' for name in NETWORKS}
        for name, directory in directories.items():
            export(name, directory)
        if model:
            directories['model'] = model
        programs = {
            f'{name} {batch}': (prepare_requests, (directory, batch))
            for name, directory in directories.items()
            for batch in BATCHES
        }
        timings = measure(programs, turns, seconds=0.5)
    rows = []
    for name in directories:
        for batch in BATCHES:
            timing, textbook = timings[f'{name} {batch}'], timings[f'textbook {batch}']
            rows.append(
                {
                    'name': name,
                    'batch': batch,
                    'dtype': 'float32',
                    'images_per_s': batch / timing.wall,
                    'ms_a_request': 1000 * timing.wall,
                    'cpu_ms_per_image': 1000 * timing.cpu / batch,
                    'peak_rss_mb': timing.peak_rss_mb,
                    'ratio_to_textbook': textbook.wall / timing.wall,
                    'cpu_ratio_to_textbook': textbook.cpu / timing.cpu,
                }
            )
    return sorted(rows, key=lambda row: row['batch'])


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=7, help='turns that the medians are over')
    parser.add_argument('--model', help='a folder with an exported model')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    report(_rows(arguments.turns, arguments.model), _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
