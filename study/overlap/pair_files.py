"""Pairs of digits as tf.Examples in files.

Each example has `image`, `first` and `second`, the bytes of three square images of one size: one
digit over the other, and each alone; `labels`, the two classes; and `id`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from study.overlap.pairs import Pairs

_IMAGES = ('image', 'first', 'second')


def serialized(pairs: Pairs, ids: Sequence[bytes]) -> Iterator[bytes]:
    """The serialized tf.Example of each pair.

    Args:
        pairs: Arrays.
        ids: The ids of the pairs.
    """
    for image, singles, labels, identifier in zip(*pairs, ids, strict=True):
        images = dict(zip(_IMAGES, (image, *singles), strict=True))
        feature = {name: _bytes(each.tobytes()) for name, each in images.items()}
        feature['labels'] = tf.train.Feature(int64_list=tf.train.Int64List(value=labels))
        feature['id'] = _bytes(identifier)
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        yield example.SerializeToString(deterministic=True)


def load(pattern: str) -> Pairs:
    """The pairs of files in the order of their ids: arrays.

    Args:
        pattern: Of TFRecord files, compressed by gzip.

    Raises:
        ValueError: There is no pair.
    """
    specification = {
        **{name: tf.io.FixedLenFeature([], tf.string) for name in (*_IMAGES, 'id')},
        'labels': tf.io.FixedLenFeature([2], tf.int64),
    }
    records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), compression_type='GZIP')
    batches = list(
        records.batch(1024)
        .map(lambda batch: tf.io.parse_example(batch, specification))
        .as_numpy_iterator()
    )
    if not batches:
        raise ValueError(f'No pairs of digits in {pattern}')
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in specification}
    order = np.argsort(columns['id'], kind='stable')
    merged, first, second = (_squares(columns[name][order]) for name in _IMAGES)
    return Pairs(merged, np.stack([first, second], axis=1), columns['labels'][order])


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _squares(images: np.ndarray) -> np.ndarray:
    """Bytes [n] as uint8 [n, side, side]."""
    side = math.isqrt(len(images[0]))
    return np.frombuffer(b''.join(images), np.uint8).reshape(-1, side, side)
