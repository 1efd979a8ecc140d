"""The learning curve, from the event files that the training wrote for TensorBoard."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

_METRICS = 'metrics/'
# The most points of a curve.
_MOST = 200

Curves = dict[str, dict[str, list[tuple[int, float]]]]


def read(log_dir: str) -> Curves:
    """The curves of a training: by part, `train` or `eval`, and metric, pairs of step and value.

    Of a curve with more than 200 points, only each second, third, ... is kept, and the last one.

    Args:
        log_dir: The folder of the log; it need not exist.
    """
    curves: Curves = {}
    for part in ('train', 'eval'):
        found: dict[str, dict[int, float]] = {}
        for path in sorted(tf.io.gfile.glob(os.path.join(log_dir, part, '*tfevents*'))):
            for event in LegacyEventFileLoader(path).Load():
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name != 'scalars':
                        continue
                    if value.tag.startswith(_METRICS):
                        name = value.tag.removeprefix(_METRICS)
                        found.setdefault(name, {})[event.step] = _number(value)
        if found:
            curves[part] = {
                name: _thinned(sorted(points.items())) for name, points in sorted(found.items())
            }
    return curves


def _number(value: tf.compat.v1.Summary.Value) -> float:
    return float(tf.make_ndarray(value.tensor))


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // _MOST)
    return [p for i, p in enumerate(points) if (len(points) - 1 - i) % every == 0]
