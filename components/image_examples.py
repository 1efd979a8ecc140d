"""What the ExampleGens of images have in common: parameters, output, and the form of an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tfx import types
from tfx.proto import example_gen_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs

# Of a ComponentSpec. An ExampleGen adds those that say where its images are.
PARAMETERS = {
    'span': component_spec.ExecutionParameter(type=int),
    'fingerprint': component_spec.ExecutionParameter(type=str),
    'image_check': component_spec.ExecutionParameter(type=str),
    'custom_config': component_spec.ExecutionParameter(type=str),
    'max_bad_images': component_spec.ExecutionParameter(type=float),
    'code_version': component_spec.ExecutionParameter(type=str),
    standard_component_specs.INPUT_CONFIG_KEY: component_spec.ExecutionParameter(
        type=example_gen_pb2.Input
    ),
    standard_component_specs.OUTPUT_CONFIG_KEY: component_spec.ExecutionParameter(
        type=example_gen_pb2.Output
    ),
    standard_component_specs.OUTPUT_DATA_FORMAT_KEY: component_spec.ExecutionParameter(type=int),
    standard_component_specs.OUTPUT_FILE_FORMAT_KEY: component_spec.ExecutionParameter(type=int),
}
OUTPUTS = {
    standard_component_specs.EXAMPLES_KEY: component_spec.ChannelParameter(
        type=standard_artifacts.Examples
    )
}


def formats(splits: Mapping[str, str], custom_config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of the parameters and of the output that follow from these two.

    Args:
        splits: TFX's patterns by the names of the splits to write.
        custom_config: More arguments for `image_check`; anything that JSON can hold.
    """
    return {
        'custom_config': json.dumps(custom_config or {}, sort_keys=True),
        'input_config': example_gen_pb2.Input(
            splits=[
                example_gen_pb2.Input.Split(name=name, pattern=pattern)
                for name, pattern in splits.items()
            ]
        ),
        'output_config': example_gen_pb2.Output(),
        'output_data_format': example_gen_pb2.FORMAT_TF_EXAMPLE,
        'output_file_format': example_gen_pb2.FORMAT_TFRECORDS_GZIP,
        'examples': types.Channel(type=standard_artifacts.Examples),
    }


def serialized(image: bytes, label: int, identifier: bytes) -> bytes:
    """A tf.Example with the names that the rest of the pipeline uses."""
    features = tf.train.Features()
    features.feature['image'].bytes_list.value.append(image)
    features.feature['label'].int64_list.value.append(label)
    features.feature['id'].bytes_list.value.append(identifier)
    return tf.train.Example(features=features).SerializeToString(deterministic=True)
