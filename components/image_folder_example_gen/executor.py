"""Reads a folder of pictures on Beam and writes one tf.Example for each."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import apache_beam as beam
import tensorflow as tf
from tfx.components.example_gen import base_example_gen_executor
from tfx.types import artifact_utils, standard_component_specs

from components import checked_images, image_examples
from components.datasets import image_folder
from components.datasets.errors import DatasetError
from components.datasets.folder_listing import printable
from components.datasets.image_folder import SPLITS
from components.image_folder_example_gen import contradictions


class _Picture(NamedTuple):
    """A file that was read."""

    id: str
    label: int
    split: str
    content: bytes


class Executor(base_example_gen_executor.BaseExampleGenExecutor):
    """Reads the folder that the execution properties name; it needs no driver."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:
        """Not used: all splits are read at once, since the contents decide between them."""
        raise NotImplementedError

    def GenerateExamplesByBeam(
        self, pipeline: beam.Pipeline, exec_properties: dict[str, Any]
    ) -> dict[str, beam.pvalue.PCollection]:
        """The serialized examples of each split whose images can be decoded, with facts."""
        folder = self._folder
        # Paths as bytes: Beam encodes text as UTF-8, which not every name of a file is.
        files = [(os.fsencode(path), *others) for path, *others in folder.pictures]
        pictures = (
            pipeline
            | 'Files' >> beam.Create(files)
            | 'Spread' >> beam.Reshuffle()
            | 'Read' >> beam.Map(_read, folder.folder, folder.taken_from_train)
        )
        _ = (
            pictures
            | 'SplitsAlone' >> beam.Map(_split)
            | 'Count' >> beam.combiners.Count.PerElement()
            | 'WriteCounts' >> beam.Map(_write_count, self._written('counts'))
        )
        by_split = pictures | 'BySplit' >> beam.Partition(_number_of_split, len(SPLITS))
        splits = {
            split: each | f'Serialize[{split}]' >> beam.Map(_serialized_example)
            for split, each in zip(SPLITS, by_split, strict=True)
        }
        splits = checked_images.check_splits(splits, exec_properties, self._written('undecodable'))
        _ = (
            tuple(splits.values())
            | 'AllSplits' >> beam.Flatten()
            | 'WriteContradictions' >> contradictions.write(self._written('contradictions'))
        )
        return splits

    def Do(
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the splits and describes them in the artifact; raises DatasetError."""
        self._folder = image_folder.read(exec_properties['folder'])
        name, found = printable(self._folder.folder), self._folder.fingerprint
        expected = exec_properties['fingerprint']
        if expected and expected != found:
            raise DatasetError(
                f'the pictures in {name} have changed since this run was set up: start it again'
            )
        examples = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.EXAMPLES_KEY]
        )
        self._uri = examples.uri
        super().Do(input_dict, output_dict, exec_properties)

        counts = {split: _read_count(self._written('counts', split)) for split in SPLITS}
        for split, count in counts.items():
            if not count:
                raise DatasetError(
                    f'None of the {sum(counts.values()):,} pictures in {name} came to {split}: add '
                    f'more, or put some into a sub-folder {split}'
                )
        left_out = checked_images.report(
            name, self._written('undecodable'), counts, exec_properties['max_bad_images']
        )
        contradictions.report(name, self._written('contradictions'), sum(counts.values()))
        examples.set_int_custom_property('undecodable_images', left_out)
        examples.span = exec_properties['span']
        examples.set_string_custom_property('dataset', name)
        examples.set_string_custom_property('fingerprint', found)

    def _written(self, *names: str) -> str:
        """A path in the folder of the artifact, beside the splits."""
        return os.path.join(self._uri, *names)


def _read(
    file_of_split: tuple[bytes, int, str], folder: str, taken_from_train: tuple[str, ...]
) -> _Picture:
    path, label, split = file_of_split
    with image_folder.open_file(folder, os.fsdecode(path)) as file:
        content = file.read()
    if split == 'train':
        split = image_folder.split_of(content, taken_from_train)
    return _Picture(printable(os.fsdecode(path)), label, split, content)


def _split(picture: _Picture) -> str:
    return picture.split


def _number_of_split(picture: _Picture, count: int) -> int:
    return SPLITS.index(picture.split)


def _write_count(split_and_count: tuple[str, int], folder: str) -> None:
    split, count = split_and_count
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(os.path.join(folder, split), 'w') as file:
        file.write(str(count))


def _read_count(path: str) -> int:
    if not tf.io.gfile.exists(path):
        return 0
    with tf.io.gfile.GFile(path) as file:
        return int(file.read())


def _serialized_example(picture: _Picture) -> bytes:
    return image_examples.serialized(picture.content, picture.label, picture.id.encode())
