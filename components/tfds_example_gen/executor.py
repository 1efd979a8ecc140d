"""Reads a prepared TFDS dataset on Beam and writes one tf.Example for each image."""

import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import tensorflow_datasets as tfds
from tfx.components.example_gen import base_example_gen_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from components import checked_images, image_examples
from components.datasets import tfds_dataset
from components.datasets.errors import DatasetError
from components.datasets.slice_rules import check_slices

# Images are read in batches, which takes a third of the time of reading them one by one.
_BATCH_SIZE = 256


class Executor(base_example_gen_executor.BaseExampleGenExecutor):
    """Reads the dataset that the execution properties describe; it needs no driver."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:
        """The transform that reads one slice of the dataset."""
        return _read_slice

    def GenerateExamplesByBeam(
        self, pipeline: beam.Pipeline, exec_properties: dict[str, Any]
    ) -> dict[str, beam.pvalue.PCollection]:
        """The serialized examples of each split whose images can be decoded, with facts."""
        splits = super().GenerateExamplesByBeam(pipeline, exec_properties)
        return checked_images.check_splits(splits, exec_properties, self._undecodable_dir)

    def Do(
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the splits and describes them in the artifact; raises DatasetError."""
        builder = _builder(exec_properties)
        tfds_dataset.check_prepared(builder)
        tfds_dataset.image_and_label(builder)
        input_config = example_gen_pb2.Input()
        proto_utils.json_to_proto(
            exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config
        )
        slices = {split.name: split.pattern for split in input_config.splits}
        check_slices(builder, slices, may_share=('train', 'eval'))  # AnomalyGate decides that
        found = tfds_dataset.fingerprint(builder)
        expected = exec_properties['fingerprint']
        if expected and expected != found:
            raise DatasetError(
                f'the dataset in {builder.data_dir} has changed since this run was set up: '
                f'expected fingerprint {expected}, found {found}; start the run again'
            )

        examples = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.EXAMPLES_KEY]
        )
        self._undecodable_dir = os.path.join(examples.uri, 'undecodable')
        super().Do(input_dict, output_dict, exec_properties)

        image_counts = {
            split.name: builder.info.splits[split.pattern].num_examples
            for split in input_config.splits
        }
        left_out = checked_images.report(
            builder.name, self._undecodable_dir, image_counts, exec_properties['max_bad_images']
        )
        examples.set_int_custom_property('undecodable_images', left_out)
        examples.span = exec_properties['span']
        examples.version = tfds_dataset.version_number(str(builder.version))
        examples.set_string_custom_property('dataset', builder.name)
        examples.set_string_custom_property('dataset_version', str(builder.version))
        examples.set_string_custom_property('fingerprint', found)


@beam.ptransform_fn
@beam.typehints.with_input_types(beam.Pipeline)
@beam.typehints.with_output_types(bytes)
def _read_slice(
    pipeline: beam.Pipeline, exec_properties: dict[str, Any], split_pattern: str
) -> beam.pvalue.PCollection:
    builder = _builder(exec_properties)
    shards = len(builder.info.splits[split_pattern].file_instructions)
    parts = tfds.even_splits(split_pattern, n=shards)
    return pipeline | beam.Create(parts) | beam.FlatMap(_serialized_examples, builder)


def _serialized_examples(split: Any, builder: Any) -> Iterator[bytes]:
    """The examples of a part of a split of TFDS."""
    image, label = tfds_dataset.image_and_label(builder)
    batches = builder.as_dataset(
        split=split,
        batch_size=_BATCH_SIZE,
        decoders=tfds.decode.PartialDecoding(
            {image: True, label: True}, decoders={image: tfds.decode.SkipDecoding()}
        ),
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    for batch in batches:
        columns = (batch[name].numpy().tolist() for name in (image, label, 'tfds_id'))
        yield from map(image_examples.serialized, *columns)


def _builder(exec_properties: dict[str, Any]) -> Any:
    return tfds_dataset.load_builder(
        exec_properties['dataset'],
        exec_properties['data_dir'],
        exec_properties.get('dataset_version'),
    )
