"""Pairs of digits are read as they were written, in the order of their ids."""

import numpy as np
import pytest
import tensorflow as tf

from study.overlap import pair_files
from study.overlap.pairs import Pairs


def test_pairs_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    pairs = Pairs(
        random.integers(0, 256, (5, 6, 6), np.uint8),
        random.integers(0, 256, (5, 2, 6, 6), np.uint8),
        random.integers(0, 10, (5, 2)),
    )
    ids = [b'c', b'a', b'e', b'b', b'd']
    with tf.io.TFRecordWriter(str(tmp_path / 'pairs.gz'), 'GZIP') as writer:
        for serialized in pair_files.serialized(pairs, ids):
            writer.write(serialized)
    read = pair_files.load(str(tmp_path / '*.gz'))
    for values, expected in zip(read, pairs, strict=True):
        np.testing.assert_array_equal(values, expected[np.argsort(ids)])


def test_reading_nothing_says_where(tmp_path):
    with pytest.raises(ValueError, match=f'No pairs of digits in {tmp_path}'):
        pair_files.load(str(tmp_path / '*.gz'))
