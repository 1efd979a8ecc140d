"""The step that every ExampleGen takes its images through.

It leaves out images that cannot be decoded, and writes facts such as the brightness beside the
others, so that TFX's statistics say something about pictures. `report` names the images that were
left out, and refuses a dataset with too many.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.utils import import_utils

from components.datasets.errors import DatasetError

# Images in one call of the function: fewer if they are read slowly.
_MIN_BATCH_SIZE = 32
_MAX_BATCH_SIZE = 256
_NAMED = 10


@beam.ptransform_fn
@beam.typehints.with_input_types(bytes)
@beam.typehints.with_output_types(bytes)
def check(
    examples: beam.pvalue.PCollection,
    image_check: str,
    custom_config: Mapping[str, Any],
    folder: str,
) -> beam.pvalue.PCollection:
    """Keeps the serialized tf.Examples whose images can be decoded, and adds facts to them.

    Args:
        examples: Serialized tf.Examples with `image` and `id`.
        image_check: Dotted path of a function that gets a list of n encoded images and
            `custom_config`. It returns the problem of each image, or '', and a dict from the names
            of facts to arrays [n] of whole numbers or of floats.
        custom_config: Its second argument.
        folder: Made if an image is left out. Its files have a line for each such image: its id, a
            tab, and the problem.

    Returns:
        The examples; each fact is a feature of its own, with one value.
    """
    return (
        examples
        | beam.BatchElements(min_batch_size=_MIN_BATCH_SIZE, max_batch_size=_MAX_BATCH_SIZE)
        | beam.ParDo(_Check(image_check, custom_config, folder))
    )


def check_splits(
    splits: Mapping[str, beam.pvalue.PCollection], exec_properties: Mapping[str, Any], folder: str
) -> dict[str, beam.pvalue.PCollection]:
    """`check` for each split, if an ExampleGen has an image check.

    Args:
        splits: Serialized tf.Examples by split.
        exec_properties: Those of the ExampleGen: `image_check` and `custom_config`, as JSON.
        folder: Gets a folder for each split, with its name.
    """
    image_check = exec_properties['image_check']
    if not image_check:
        return dict(splits)
    custom_config = json.loads(exec_properties['custom_config'])
    return {
        split: examples
        | f'CheckImages[{split}]' >> check(image_check, custom_config, os.path.join(folder, split))
        for split, examples in splits.items()
    }


class _Check(beam.DoFn):
    """Keeps the examples of a batch whose images can be decoded, and lists the others."""

    def __init__(self, image_check: str, custom_config: Mapping[str, Any], folder: str) -> None:
        super().__init__()
        self._path = image_check
        self._custom_config = custom_config
        self._folder = folder
        self._image_check: Callable[..., tuple[list[str], dict[str, np.ndarray]]] | None = None

    def setup(self) -> None:
        module, _, name = self._path.rpartition('.')
        self._image_check = import_utils.import_func_from_module(module, name)

    def process(self, serialized: list[bytes]) -> Iterator[bytes]:
        assert self._image_check, 'Beam calls setup first'
        examples = [tf.train.Example.FromString(each) for each in serialized]
        images = [each.features.feature['image'].bytes_list.value[0] for each in examples]
        problems, facts = self._image_check(images, self._custom_config)
        self._list(examples, problems)
        columns = {name: values.tolist() for name, values in facts.items()}
        for index, (example, problem) in enumerate(zip(examples, problems, strict=True)):
            if problem:
                continue
            for name, values in columns.items():
                feature = example.features.feature[name]
                if isinstance(values[index], int):
                    feature.int64_list.value.append(values[index])
                else:
                    feature.float_list.value.append(values[index])
            yield example.SerializeToString(deterministic=True)

    def _list(self, examples: list[tf.train.Example], problems: list[str]) -> None:
        """Writes a line for each image with a problem."""
        lines = [
            f'{example.features.feature["id"].bytes_list.value[0].decode()}\t{problem}\n'
            for example, problem in zip(examples, problems, strict=True)
            if problem
        ]
        if lines:
            # Not with Beam's sinks, which take seconds even if there is nothing to write.
            tf.io.gfile.makedirs(self._folder)
            with tf.io.gfile.GFile(os.path.join(self._folder, uuid.uuid4().hex), 'w') as file:
                file.write(''.join(lines))


def report(
    dataset: str, folder: str, image_counts: Mapping[str, int], max_bad_images: float
) -> int:
    """Prints which images were left out.

    Args:
        dataset: The dataset's name.
        folder: Has a folder for each split, with its name, that `check` wrote.
        image_counts: The number of images that were read, by split.
        max_bad_images: The largest fraction of all images that may be left out.

    Returns:
        The number of images that were left out.

    Raises:
        DatasetError: Too many images were left out, or all images of a split.
    """
    found = {split: _lines(os.path.join(folder, split)) for split in image_counts}
    count, total = sum(map(len, found.values())), sum(image_counts.values())
    if not count:
        return 0
    by_split = ', '.join(f'{len(lines)} in {split}' for split, lines in found.items() if lines)
    named = [line.replace('\t', ' ') for lines in found.values() for line in lines][:_NAMED]
    which = f'{count:,} of the {total:,} images of {dataset} ({by_split})'
    names = ':\n  ' + '\n  '.join(named) + (f'\n  and {count - _NAMED:,} more' * (count > _NAMED))
    if count > max_bad_images * total:
        # Rounded up, so that this value allows them.
        enough = math.ceil(count / total * 1e6) / 1e6
        raise DatasetError(
            f'{which} cannot be decoded{names}\nRepair or remove them, or set MAX_BAD_IMAGES, the '
            f'fraction that may be left out: it is {max_bad_images:g}, and {enough:g} would do'
        )
    for split, lines in found.items():
        if len(lines) == image_counts[split]:
            raise DatasetError(f'None of the images of {dataset} in {split} can be decoded{names}')
    print(f'  left out {which}, which cannot be decoded{names}', file=sys.stderr, flush=True)
    return count


def _lines(folder: str) -> list[str]:
    """The lines of a folder in the order of the dataset: numbers in ids are sorted as numbers."""
    lines = set()  # Beam may have checked a batch twice
    for path in tf.io.gfile.glob(os.path.join(folder, '*')):
        with tf.io.gfile.GFile(path) as file:
            lines.update(file.read().splitlines())

    def key(line: str) -> list[str | int]:
        # Splitting by a group returns text and numbers in turn.
        return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', line)]

    return sorted(lines, key=key)
