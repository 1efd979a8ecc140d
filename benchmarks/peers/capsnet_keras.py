"""XifengGuo/CapsNet-Keras, branch tf2.2: `train_on_batch`, or a tf.function of the same step.

The network, the losses, their weights and Adam's learning rate are those of its capsulenet.py. Its
routing stops no gradients: they go through all iterations. Its batches are ready in memory, since
its own way of shifting images, one by one in Python, is not what we compare. It is written for
Keras 2 and needs the package tf_keras with TensorFlow 2.16 or later.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import protocol

_ROUTINGS = 3  # its default
_LEARNING_RATE = 0.001  # its default
_RECONSTRUCTION_WEIGHT = 0.392  # its default, for the mean over pixels


def prepare(options: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """See benchmarks.peers.protocol."""
    os.environ['TF_USE_LEGACY_KERAS'] = '1'
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    _stand_in_for_plotting()
    import capsulenet

    with np.load(options.data) as arrays:
        x = arrays['images'][..., np.newaxis].astype(np.float32) / 255
        y = np.eye(10, dtype=np.float32)[arrays['labels']]
    starts = range(0, len(x) - options.batch + 1, options.batch)
    batches: list[Any] = [(x[i : i + options.batch], y[i : i + options.batch]) for i in starts]
    model = capsulenet.CapsNet(x.shape[1:], 10, _ROUTINGS, options.batch)[0]
    optimizer = tf.keras.optimizers.Adam(learning_rate=_LEARNING_RATE)
    if options.step == 'train_on_batch':
        model.compile(
            optimizer=optimizer,
            loss=[capsulenet.margin_loss, 'mse'],
            loss_weights=[1.0, _RECONSTRUCTION_WEIGHT],
            metrics={'capsnet': 'accuracy'},
        )
        endless = itertools.cycle(batches)

        def step() -> float:
            images, labels = next(endless)
            return float(model.train_on_batch([images, labels], [labels, images])[0])

    else:
        endless = itertools.cycle([tuple(map(tf.constant, batch)) for batch in batches])

        @tf.function
        def train(images: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                lengths, reconstructions = model([images, labels], training=True)
                loss = capsulenet.margin_loss(labels, lengths)
                loss += _RECONSTRUCTION_WEIGHT * tf.reduce_mean((reconstructions - images) ** 2)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        def step() -> float:
            return float(train(*next(endless)))

    return step, model.count_params()


def _stand_in_for_plotting() -> None:
    """Replaces missing packages that only its plots need, so that its modules can be imported."""
    for name, part in (('matplotlib', 'pyplot'), ('pandas', ''), ('PIL', 'Image')):
        if importlib.util.find_spec(name) is None:
            package = sys.modules[name] = types.ModuleType(name)
            if part:
                module = sys.modules[f'{name}.{part}'] = types.ModuleType(f'{name}.{part}')
                setattr(package, part, module)


if __name__ == '__main__':
    protocol.run(prepare)
