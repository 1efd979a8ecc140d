"""Looks at the images of the splits: are they blank, and are test images also learned from?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

# A contrast below which a picture counts as blank; it is in fractions of the whole range.
_BLANK = 0.01
# The fraction of a split that may be blank: pictures of an empty place may be a class.
_MOST_BLANK = 0.5
# The fraction of a split that may also be in train. Of MNIST and Fashion-MNIST none is.
_MOST_SHARED = 0.01
_BATCH_SIZE = 256
_MOST_NAMED = 3
# int64 values that tf.strings.to_hash_bucket_fast can give.
_BUCKETS = 2**63 - 1


class Split(NamedTuple):
    """What the gate needs of n examples.

    Attributes:
        labels: int64 [n].
        ids: object [n], bytes.
        digests: int64 [n], hashes of the image files.
        contrasts: float32 [n]; [0] if the examples have no contrast.
    """

    labels: np.ndarray
    ids: np.ndarray
    digests: np.ndarray
    contrasts: np.ndarray


def read(examples: types.Artifact, split: str) -> Split:
    """Reads a split; it takes about 100 bytes of memory an example, most of them for its id."""
    specification = {
        'label': tf.io.VarLenFeature(tf.int64),
        'id': tf.io.VarLenFeature(tf.string),
        'image': tf.io.VarLenFeature(tf.string),
        'contrast': tf.io.VarLenFeature(tf.float32),
    }
    columns: dict[str, list[np.ndarray]] = {
        'label': [np.zeros(0, np.int64)],
        'id': [np.zeros(0, object)],
        'image': [np.zeros(0, np.int64)],
        'contrast': [np.zeros(0, np.float32)],
    }
    for records in _records(examples, split):
        parsed = tf.io.parse_example(records, specification)
        values = {name: parsed[name].values for name in columns}
        values['image'] = tf.strings.to_hash_bucket_fast(values['image'], _BUCKETS)
        for name, column in columns.items():
            column.append(values[name].numpy())
    return Split(*map(np.concatenate, columns.values()))


def refusals(splits: Mapping[str, Split], judging: Collection[str]) -> Iterator[str]:
    """A sentence for each reason not to train on these pictures, or not to be judged by them.

    Args:
        splits: By name, with one that is called train.
        judging: The names of those that judge what was learned from train.
    """
    blank = {
        split: np.mean(each.contrasts < _BLANK)
        for split, each in splits.items()
        if each.contrasts.size
    }
    mostly = {split: share for split, share in blank.items() if share > _MOST_BLANK}
    if mostly:
        where = ', '.join(f'{share:.0%} of {split}' for split, share in mostly.items())
        yield (
            f'Most pictures are blank, with all pixels alike: {where}. There is nothing to learn '
            'from them: look at the files, and at what wrote them.'
        )
    for split, each in splits.items():
        if split not in judging or not each.digests.size:
            continue
        shared = np.isin(each.digests, splits['train'].digests)
        if shared.mean() > _MOST_SHARED:
            yield (
                f'{shared.sum():,} of the {len(shared):,} {split} images are also in train, and at '
                f'most {_MOST_SHARED:.0%} may be: {_some(each.ids, shared)}. On these, the '
                'accuracy tells what the network remembers, not what it has learned. Take them out '
                'of one of the two splits.'
            )


def _some(ids: np.ndarray, chosen: np.ndarray) -> str:
    """Names the first of the chosen examples."""
    names = [each.decode() for each in itertools.compress(ids, chosen)]
    return ', '.join(names[:_MOST_NAMED]) + (' and others' if len(names) > _MOST_NAMED else '')


def _records(examples: types.Artifact, split: str) -> tf.data.Dataset:
    """The serialized tf.Examples of a split in batches."""
    folder = artifact_utils.get_split_uri([examples], split)
    files = [os.path.join(folder, name) for name in sorted(fileio.listdir(folder))]
    return tf.data.TFRecordDataset(files, compression_type='GZIP').batch(_BATCH_SIZE)
