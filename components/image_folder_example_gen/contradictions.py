"""Finds and reports equal pictures that lie in more than one class."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterable

import apache_beam as beam
import tensorflow as tf

from components.datasets.errors import DatasetError

# The largest fraction of all pictures that a run goes on with.
_MOST = 0.01
_NAMED = 10


@beam.ptransform_fn
@beam.typehints.with_input_types(bytes)
def write(examples: beam.pvalue.PCollection, folder: str) -> beam.pvalue.PCollection:
    """Writes the ids of equal pictures in different classes.

    Args:
        examples: Serialized tf.Examples with `image`, `label` and `id`.
        folder: Made if there are such pictures. A file has the ids of equal ones, with tabs
            between them.
    """
    return (
        examples
        # Hashes, not pictures, go from machine to machine.
        | 'Hash' >> beam.Map(_hashed)
        | 'EqualOnes' >> beam.GroupByKey()
        | 'Write' >> beam.Map(_write, folder)
    )


def _hashed(example: bytes) -> tuple[bytes, tuple[int, str]]:
    feature = tf.train.Example.FromString(example).features.feature
    label, name = feature['label'].int64_list.value[0], feature['id'].bytes_list.value[0]
    content = feature['image'].bytes_list.value[0]
    return hashlib.sha256(content).digest(), (label, name.decode())


def _write(equal: tuple[bytes, Iterable[tuple[int, str]]], folder: str) -> None:
    pictures = sorted(equal[1])
    if len({label for label, _ in pictures}) > 1:
        tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(os.path.join(folder, uuid.uuid4().hex), 'w') as file:
            file.write('\t'.join(path for _, path in pictures))


def report(dataset: str, folder: str, total: int) -> None:
    """Prints which pictures lie in more than one class.

    Args:
        dataset: The dataset's name.
        folder: What `write` wrote to.
        total: The number of all pictures.

    Raises:
        DatasetError: They are more than a hundredth of all.
    """
    groups = set()  # Beam may have written one twice
    for path in tf.io.gfile.glob(os.path.join(folder, '*')):
        with tf.io.gfile.GFile(path) as file:
            groups.add(tuple(file.read().split('\t')))
    if not groups:
        return
    count = sum(map(len, groups))
    named = '\n  '.join(' = '.join(group) for group in sorted(groups)[:_NAMED])
    more = f'\n  and {len(groups) - _NAMED:,} more' * (len(groups) > _NAMED)
    which = f'{count:,} of the {total:,} images of {dataset} have an equal one in another class'
    if count > _MOST * total:
        raise DatasetError(
            f'{which}:\n  {named}{more}\nRemove them from all classes but one: at most {_MOST:.0%} '
            'of all images may be like this'
        )
    print(f'  {which}, and are kept:\n  {named}{more}', file=sys.stderr, flush=True)
