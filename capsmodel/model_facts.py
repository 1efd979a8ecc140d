"""What an exported model is about, in a file beside it that is read without loading the model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from capsmodel.networks.settings import NetworkConfig

# In the folder of a SavedModel that is for files that TensorFlow does not know.
_PATH = os.path.join('assets.extra', 'model_facts.json')


def write(directory: str, class_names: Sequence[str], config: NetworkConfig) -> None:
    """Writes the facts into the SavedModel in `directory`.

    Two models can be compared with each other if their facts are the same.

    Args:
        directory: The SavedModel.
        class_names: The name of each class.
        config: The network's.
    """
    facts = {
        'class_names': [*class_names],
        'image_shape': [*config.image_shape],
        'network': config.network,
    }
    path = os.path.join(directory, _PATH)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, 'w') as file:
        file.write(json.dumps(facts))


def read(directory: str) -> dict[str, Any]:
    """The facts of a SavedModel; empty if it was exported before it had this file.

    The network of an older file is capsnet.
    """
    path = os.path.join(directory, _PATH)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        return {'network': 'capsnet', **json.loads(file.read())}
