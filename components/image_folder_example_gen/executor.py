"""Reads a folder of pictures on Beam and writes one tf.Example for each."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.components.example_gen import base_example_gen_executor
from tfx.types import artifact_utils, standard_component_specs

from components.datasets import image_folder
from components.datasets.errors import DatasetError
from components.datasets.folder_listing import printable
from components.image_folder_example_gen import contradictions
from components.tfds_example_gen import undecodable


class Executor(base_example_gen_executor.BaseExampleGenExecutor):
    """Reads the folder that the execution properties name; it needs no driver."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:
        """Not used: one transform reads all splits, since the content decides between them."""
        raise NotImplementedError

    def GenerateExamplesByBeam(
        self, pipeline: beam.Pipeline, exec_properties: dict[str, Any]
    ) -> dict[str, beam.pvalue.PCollection]:
        """The serialized examples of each split whose images can be decoded."""
        # As bytes: Beam encodes text as UTF-8, which not every file name is.
        pictures = [(os.fsencode(path), *rest) for path, *rest in self._folder.pictures]
        read = (
            pipeline
            | 'Pictures' >> beam.Create(pictures)
            | 'Spread' >> beam.Reshuffle()
            | 'Read' >> beam.Map(_read, self._folder.folder, self._folder.taken_from_train)
        )
        contradictions.write(read, self._written('contradictions'))
        _ = (
            read
            | 'SplitOf' >> beam.Map(lambda picture: picture[1])
            | 'Count' >> beam.combiners.Count.PerElement()
            | 'WriteCount' >> beam.Map(_write_count, self._written('counts'))
        )
        by_split = read | 'Splits' >> beam.Partition(
            lambda picture, _: image_folder.SPLITS.index(picture[1]), len(image_folder.SPLITS)
        )
        splits = {}
        for name, examples in zip(image_folder.SPLITS, by_split, strict=True):
            splits[name] = examples | f'Serialize[{name}]' >> beam.Map(_serialized_example)
            if exec_properties['image_check']:
                splits[name] |= f'LeaveOutUndecodable[{name}]' >> undecodable.leave_out(
                    exec_properties['image_check'],
                    json.loads(exec_properties['custom_config']),
                    self._written('undecodable', name),
                )
        return splits
