"""TensorBoard's event files of a training that goes on after an interruption."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

# Files of a folder are read in the order of their names: this one is the first.
_TAKEN_OVER = 'events.out.tfevents.0.earlier'


def take_over(earlier: str, folder: str, first_step: int) -> None:
    """Leaves in a folder the events below a step from an earlier one, and no others.

    The steps from `first_step` on are made, and written, once more: this way no reader of event
    files sees them twice. The end of a file may be torn, as a killed process leaves it.

    Args:
        earlier: The folder of the interrupted training's events; it need not exist.
        folder: The folder of the training that goes on. It may be the same one.
        first_step: The step that it goes on from.
    """
    tf.io.gfile.makedirs(folder)
    taken_over = os.path.join(folder, _TAKEN_OVER)
    # Not 'tfevents': it would be read before it is whole.
    unfinished = os.path.join(folder, 'earlier.unfinished')
    kept: set[tuple[int, str]] = set()
    with tf.io.TFRecordWriter(unfinished) as file:
        for path in event_files(earlier):
            for event in LegacyEventFileLoader(path).Load():
                for value in event.summary.value:
                    key = (event.step, value.tag)
                    if event.step < first_step and key not in kept:
                        kept.add(key)
                        file.write(event.SerializeToString())
    tf.io.gfile.rename(unfinished, taken_over, overwrite=True)
    for path in event_files(folder):
        if path != taken_over or not kept:
            tf.io.gfile.remove(path)


def event_files(folder: str) -> list[str]:
    """Paths of a folder's event files, in the order in which they are read."""
    return sorted(tf.io.gfile.glob(os.path.join(folder, '*tfevents*')))


def remove(folder: str) -> None:
    """Removes the event files of a folder, which need not exist."""
    for path in event_files(folder):
        tf.io.gfile.remove(path)
