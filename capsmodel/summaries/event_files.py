"""TensorBoard's event files of a training that resumes after an interruption."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

# TensorBoard reads the files of a folder in the order of their names: this one comes first.
_TAKEN_OVER = 'events.out.tfevents.0.earlier'


def take_over(earlier: str, folder: str, first_step: int) -> None:
    """Copies the events before a step into a folder and removes all other events there.

    The resumed training writes the steps from `first_step` on again; without this, readers of event
    files would see them twice. The end of a file may be torn, as a killed process leaves it.

    Args:
        earlier: The folder with the events of the interrupted training; it need not exist.
        folder: The folder of the resumed training, which may be the same.
        first_step: The step that the training resumes from.
    """
    tf.io.gfile.makedirs(folder)
    taken_over = os.path.join(folder, _TAKEN_OVER)
    # Without 'tfevents' in its name, nobody reads it before it is complete.
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
    """Paths of a folder's event files, in the order in which TensorBoard reads them."""
    return sorted(tf.io.gfile.glob(os.path.join(folder, '*tfevents*')))


def remove(folder: str) -> None:
    """Removes the event files of a folder, which need not exist."""
    for path in event_files(folder):
        tf.io.gfile.remove(path)
