"""What an exported model is about, in files beside it that are read without loading the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from capsmodel.networks.settings import NetworkConfig

# In the folder of a SavedModel that is for files that TensorFlow does not know.
_PATH = os.path.join('assets.extra', 'model_facts.json')
_NETWORK = os.path.join('assets.extra', 'network.json')
# The checksums of all weights are in it.
_INDEX = os.path.join('variables', 'variables.index')


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
    _write(os.path.join(directory, _PATH), facts)


def read(directory: str) -> dict[str, Any]:
    """The facts of a SavedModel; empty if it was exported before it had this file.

    The network of an older file is capsnet.
    """
    path = os.path.join(directory, _PATH)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        return {'network': 'capsnet', **json.loads(file.read())}


def write_network(directory: str, config: NetworkConfig, framing: str) -> None:
    """Writes into the SavedModel in `directory` how its network is built and what it is given.

    Args:
        directory: The SavedModel.
        config: The network's.
        framing: How its Transform graph frames a picture.
    """
    _write(
        os.path.join(directory, _NETWORK),
        {'config': dataclasses.asdict(config), 'framing': framing},
    )


def read_network(directory: str) -> dict[str, Any]:
    """`config`, for `table.config_of`, and `framing`; empty for a SavedModel without this file."""
    path = os.path.join(directory, _NETWORK)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())


def fingerprint(directory: str) -> str:
    """A hash, 16 hexadecimal digits, of a SavedModel's network and weights."""
    digest = hashlib.sha256()
    for name in (_NETWORK, _INDEX):
        with tf.io.gfile.GFile(os.path.join(directory, name), 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _write(path: str, facts: dict[str, Any]) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, 'w') as file:
        file.write(json.dumps(facts))
