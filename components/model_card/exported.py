"""What the files of an exported model say of it."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

# In the folder of a SavedModel; see capsmodel/model_facts.py.
_FACTS = os.path.join('assets.extra', 'model_facts.json')
_NETWORK = os.path.join('assets.extra', 'network.json')
_VARIABLES = os.path.join('variables', 'variables')


def read(model_dir: str) -> dict[str, Any]:
    """Reads a SavedModel of the Trainer without loading it.

    Returns:
        `network`, its name; `config`, how it is built; `framing`; `class_names`; `image_shape`;
        `parameters`, the number of its weights; `has_decoder` and `has_capsules`; `tensorflow`,
        the version; and `fingerprint`, 16 hexadecimal digits of a hash of network and weights.
    """
    facts = json.loads(_content(model_dir, _FACTS))
    network = json.loads(_content(model_dir, _NETWORK))
    index = _content(model_dir, f'{_VARIABLES}.index')
    graph = saved_model_pb2.SavedModel.FromString(_content(model_dir, 'saved_model.pb'))
    signatures = graph.meta_graphs[0].signature_def
    return {
        'network': facts['network'],
        'class_names': facts['class_names'],
        'image_shape': facts['image_shape'],
        'config': network['config'],
        'framing': network['framing'],
        'parameters': sum(
            int(np.prod(shape))
            for name, shape in tf.train.list_variables(os.path.join(model_dir, _VARIABLES))
            if name.startswith('_variables/')
        ),
        'has_decoder': 'decode' in signatures,
        'has_capsules': 'capsules' in signatures['explain'].outputs,
        'tensorflow': graph.meta_graphs[0].meta_info_def.tensorflow_version,
        'fingerprint': hashlib.sha256(_content(model_dir, _NETWORK) + index).hexdigest()[:16],
    }


def day(milliseconds: int) -> str:
    """The day, in UTC, of a time that ML Metadata has recorded; empty if it has not."""
    if not milliseconds:
        return ''
    return f'{datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc):%Y-%m-%d}'


def _content(model_dir: str, name: str) -> bytes:
    with tf.io.gfile.GFile(os.path.join(model_dir, name), 'rb') as file:
        return file.read()
