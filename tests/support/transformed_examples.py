"""Examples as Transform writes them, and genuine digits to make some of."""

import numpy as np
import tensorflow as tf
from project_paths import DATA

from capsmodel.data import dataset


def write(path, labeled, order=None):
    """Writes images as TFRecords, in the given order or their own; their ids tell their places."""
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for index in range(len(labeled.labels)) if order is None else order:
            feature = {
                'image': tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[labeled.images[index].tobytes()])
                ),
                'label': tf.train.Feature(
                    int64_list=tf.train.Int64List(value=[labeled.labels[index]])
                ),
                'id': tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[f'id {index:04}'.encode()])
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def digits():
    """Genuine digits of MNIST: 200 to learn from and 100 to judge by."""
    with np.load(DATA / 'mnist_300.npz') as archive:
        images, labels = archive['images'], archive['labels'].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return tuple(
        dataset.LabeledImages(images[part], labels[part]) for part in (order[:200], order[200:])
    )
