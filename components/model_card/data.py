"""What the examples of a model say of themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

_BATCH_SIZE = 256


def read(examples: types.Artifact, class_names: Sequence[str]) -> dict[str, Any]:
    """Counts the examples of each class.

    Args:
        examples: The raw examples, as an ExampleGen of this project wrote them.
        class_names: The name of each class.

    Returns:
        `dataset`, `version`, `fingerprint` and `left_out`, the number of images that cannot be
        decoded; and `splits`: by name, the `images` and `by_class`, the number of each label.
    """
    splits = {}
    for split in examples.splits:
        labels = np.concatenate([np.zeros(0, np.int64), *_labels(files(examples, split))])
        counts = np.bincount(labels, minlength=len(class_names))
        splits[split] = {'images': len(labels), 'by_class': counts.tolist()}
    return {
        'dataset': examples.get_string_custom_property('dataset'),
        'version': examples.get_string_custom_property('dataset_version'),
        'fingerprint': examples.get_string_custom_property('fingerprint'),
        'left_out': examples.get_int_custom_property('undecodable_images'),
        'splits': splits,
    }


def files(examples: types.Artifact, split: str) -> list[str]:
    """The files of a split."""
    folder = artifact_utils.get_split_uri([examples], split)
    return [os.path.join(folder, name) for name in sorted(fileio.listdir(folder))]


def _labels(paths: Sequence[str]) -> list[np.ndarray]:
    specification = {'label': tf.io.VarLenFeature(tf.int64)}
    records = tf.data.TFRecordDataset(list(paths), compression_type='GZIP').batch(_BATCH_SIZE)
    return [tf.io.parse_example(each, specification)['label'].values.numpy() for each in records]
