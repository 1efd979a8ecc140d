"""XifengGuo/CapsNet-Keras, branch tf2.2: `train_on_batch`, a tf.function of that, an epoch.

The network, the losses, their weights and Adam's learning rate are those of its capsulenet.py. Its
routing stops no gradients: they go through all iterations. For single steps its batches are ready
in memory, since its own way of shifting images, one by one in Python, is not what they compare. An
epoch has all of its own recipe. It is written for Keras 2 and needs the package tf_keras with
TensorFlow 2.16 or later.

An epoch has the lengths of capsules as the program had them up to its commit 0621dd5. With the
1e-7 that it adds under the root since then, the gradient of the first, very short capsules is lost
here: its margin loss does not move, and it still answers one class after the first epoch.
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
_LEARNING_RATE_DECAY = 0.9  # its default, for each epoch
_SHIFT_FRACTION = 0.1  # its default, of the height and the width
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

    if options.step == protocol.EPOCH:
        capsulenet.Length = _length()
    with np.load(options.data) as arrays:
        x, y = _prepared(arrays['images'], arrays['labels'])
        if options.step == protocol.EPOCH:
            evaluated = _prepared(arrays['eval_images'], arrays['eval_labels'])
    model = capsulenet.CapsNet(x.shape[1:], 10, _ROUTINGS, options.batch)[0]
    optimizer = tf.keras.optimizers.Adam(learning_rate=_LEARNING_RATE)
    model.compile(
        optimizer=optimizer,
        loss=[capsulenet.margin_loss, 'mse'],
        loss_weights=[1.0, _RECONSTRUCTION_WEIGHT],
        metrics={'capsnet': 'accuracy'},
    )
    if options.step == protocol.EPOCH:
        return _epoch(model, (x, y), evaluated, options.batch), model.count_params()
    starts = range(0, len(x) - options.batch + 1, options.batch)
    batches: list[Any] = [(x[i : i + options.batch], y[i : i + options.batch]) for i in starts]
    if options.step == 'train_on_batch':
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


def _length() -> Any:
    """The layer of the lengths without anything under the root but the squares."""
    import capsulelayers
    import tensorflow as tf

    class Length(capsulelayers.Length):
        def call(self, inputs: Any, **_: Any) -> Any:
            return tf.norm(inputs, axis=-1)

    return Length


def _prepared(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as its program has them: float32 from 0 to 1, and one-hot float32."""
    return images[..., np.newaxis].astype(np.float32) / 255, np.eye(10, dtype=np.float32)[labels]


def _epoch(
    model: Any, trained: tuple[Any, Any], evaluated: tuple[Any, Any], batch: int
) -> Callable[[], float]:
    """An epoch of its own training: shifted images, and a learning rate that falls.

    Its `fit` does not run with this TensorFlow, which traces it for any size of a batch: a layer
    needs to know the size.
    """
    from tf_keras.preprocessing.image import ImageDataGenerator

    shifting = ImageDataGenerator(
        width_shift_range=_SHIFT_FRACTION, height_shift_range=_SHIFT_FRACTION
    )
    shifted = (pair for pair in shifting.flow(*trained, batch_size=batch) if len(pair[0]) == batch)
    epochs = itertools.count()

    def epoch() -> float:
        model.optimizer.learning_rate.assign(_LEARNING_RATE * _LEARNING_RATE_DECAY ** next(epochs))
        for x, y in itertools.islice(shifted, len(trained[0]) // batch):
            model.train_on_batch([x, y], [y, x])
        wrong = count = 0
        for start in range(0, len(evaluated[0]) - batch + 1, batch):
            x, y = (array[start : start + batch] for array in evaluated)
            lengths, _ = model.predict_on_batch([x, y])
            wrong += int(np.sum(np.argmax(lengths, 1) != np.argmax(y, 1)))
            count += batch
        return 100 * wrong / count

    return epoch


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
