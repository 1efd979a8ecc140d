"""Looks at the images of the splits: are they blank, and are test images also learned from?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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
# The fraction of a split that may also be in train: MNIST has none and Fashion-MNIST 0.1%.
_MOST_SHARED = 0.01
_BATCH_SIZE = 256
# int64 values that tf.strings.to_hash_bucket_fast can give.
_BUCKETS = 2**63 - 1


class Split(NamedTuple):
    """What the gate needs of n examples.

    Attributes:
        labels: int64 [n].
        digests: int64 [n], hashes of the image files.
        contrasts: float32 [n]; [0] if the examples have no contrast.
    """

    labels: np.ndarray
    digests: np.ndarray
    contrasts: np.ndarray


def read(examples: types.Artifact, split: str) -> Split:
    """Reads a split; it takes 20 bytes of memory an example."""
    specification = {
        'label': tf.io.VarLenFeature(tf.int64),
        'image': tf.io.VarLenFeature(tf.string),
        'contrast': tf.io.VarLenFeature(tf.float32),
    }
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    for records in _records(examples, split):
        parsed = tf.io.parse_example(records, specification)
        digests = tf.strings.to_hash_bucket_fast(parsed['image'].values, _BUCKETS)
        for column, values in zip(
            columns, (parsed['label'].values, digests, parsed['contrast'].values), strict=True
        ):
            column.append(values.numpy())
    dtypes = (np.int64, np.int64, np.float32)
    return Split(
        *(
            np.concatenate([np.zeros(0, dtype), *column])
            for column, dtype in zip(columns, dtypes, strict=True)
        )
    )


def refusals(splits: Mapping[str, Split]) -> Iterator[str]:
    """A sentence for each reason not to train on these pictures, or not to be judged by them.

    Args:
        splits: By name, with one that is called train.
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
        if split == 'train' or not each.digests.size:
            continue
        shared = np.isin(each.digests, splits['train'].digests)
        if shared.mean() > _MOST_SHARED:
            yield (
                f'{shared.sum():,} of the {len(shared):,} {split} images are also in train, the '
                f'same files, and at most {_MOST_SHARED:.0%} may be: on these, the accuracy tells '
                'what the network remembers, not what it has learned. Take them out of one of the '
                'two splits.'
            )


def _records(examples: types.Artifact, split: str) -> tf.data.Dataset:
    """The serialized tf.Examples of a split in batches."""
    folder = artifact_utils.get_split_uri([examples], split)
    files = [os.path.join(folder, name) for name in sorted(fileio.listdir(folder))]
    return tf.data.TFRecordDataset(files, compression_type='GZIP').batch(_BATCH_SIZE)
