"""The transformed images as batches of training, in an order and with changes from a seed.

Beam writes examples in any order, so images are sorted by their ids when they are loaded, into a
file: each step reads the rows that it needs. The batch of a step depends only on the seed and the
step's number: no random state is stored, and any step can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from capsmodel.data import features, preprocessing
from capsmodel.data.augmentation import augment
from capsmodel.data.stored_images import StoredImages, rows_in_piece


class LabeledImages(NamedTuple):
    """Images in the order of their ids.

    Attributes:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        labels: int64 [n].
    """

    images: np.ndarray | StoredImages
    labels: np.ndarray


def load_examples(patterns: Sequence[str], shape: Sequence[int], crop: int = 0) -> LabeledImages:
    """Brings transformed examples into the order of their ids, the images in a temporary file.

    The files are read twice: once for the order, and once to write each image to its place.

    Args:
        patterns: Patterns of Transform's files, TFRecords compressed by gzip.
        shape: Of an image, `NetworkConfig.uncropped_shape`.
        crop: Rows and columns in the middle of each image that are kept; 0: all.

    Raises:
        OSError: There is no space left for the images, in the folder that TMPDIR names.
        ValueError: There is no example.
    """
    paths = tf.io.gfile.glob(list(patterns))
    batches = list(_parsed(paths, {features.ID: tf.string, features.LABEL: tf.int64}, 1024))
    if not batches:
        raise ValueError(f'No transformed examples in {", ".join(patterns)}')
    ids, labels = (
        np.concatenate([batch[name] for batch in batches]) for name in (features.ID, features.LABEL)
    )
    order = np.argsort(ids, kind='stable')
    places = np.argsort(order)
    images = StoredImages(len(order), (crop, crop, *shape[2:]) if crop else shape)
    first = 0
    for batch in _parsed(paths, {features.IMAGE: tf.string}, rows_in_piece(math.prod(shape))):
        pixels = preprocessing.raw_pixels(batch[features.IMAGE], shape, crop).numpy()
        images.write(places[first : first + len(pixels)], pixels)
        first += len(pixels)
    return LabeledImages(images, labels[order])


def _parsed(
    paths: Sequence[str], types: Mapping[str, tf.DType], batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Some features of all examples in files, each [n] in batches, in the order in the files."""
    specification = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in types.items()}
    records = tf.data.TFRecordDataset(paths, compression_type='GZIP').batch(batch_size)
    yield from records.map(
        lambda serialized: tf.io.parse_example(serialized, specification)
    ).as_numpy_iterator()


def training_batch(
    data: LabeledImages,
    step: tf.Tensor,
    *,
    seed: int,
    batch_size: int,
    augmentation: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch of a training step; it depends only on the arguments.

    Every epoch of `n // batch_size` steps goes through the images in a new order. Each image is
    changed at random; 'shift:2' is what section 5 of Sabour, Frosst, Hinton 2017 does.

    Args:
        data: Images and labels, as tensors or arrays.
        step: int64 scalar, counted from 0 over all epochs.
        seed: Decides the order and the changes.
        batch_size: Images in the batch.
        augmentation: The parts of the changes, see `augmentation_parts.parse`.

    Returns:
        images uint8 [batch_size, *shape], labels int64 [batch_size].
    """
    count = data.labels.shape[0]
    steps_per_epoch = count // batch_size
    positions = step % steps_per_epoch * batch_size + tf.range(batch_size, dtype=tf.int64)
    order = tf.random.experimental.index_shuffle(
        positions, tf.stack([seed, step // steps_per_epoch]), tf.constant(count - 1, tf.int64)
    )
    images, labels = rows_at(data, order)
    return augment(images, augmentation, seed=seed, step=step), labels


def training_dataset(
    data: LabeledImages,
    context: tf.distribute.InputContext,
    *,
    first_step: int,
    last_step: int,
    seed: int,
    batch_size: int,
    augmentation: str,
) -> tf.data.Dataset:
    """The batches of the training steps, each split into one piece for each replica.

    Args:
        data: Images and labels.
        context: Says how many input pipelines and replicas there are, and which pipeline this is.
        first_step: The first step of the dataset.
        last_step: The step at which training ends; it is not part of the dataset.
        seed: See `training_batch`.
        batch_size: Images a step, all replicas together; a multiple of the number of replicas.
        augmentation: See `training_batch`.

    Returns:
        For each step, one pair of images and labels for each of this pipeline's replicas in turn.
    """
    tensors = for_graph(data)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return training_batch(
            tensors, step, seed=seed, batch_size=batch_size, augmentation=augmentation
        )

    return _pieces(tf.data.Dataset.range(first_step, last_step), batch, context)


def evaluation_dataset(
    data: LabeledImages, context: tf.distribute.InputContext, *, batch_size: int
) -> tf.data.Dataset:
    """All images in their order, in batches that are split into one piece for each replica.

    Args:
        data: Images and labels.
        context: Says how many input pipelines and replicas there are, and which pipeline this is.
        batch_size: Images in a batch, all replicas together; a multiple of the number of replicas.
            The last batch is filled up with copies of the last image.

    Returns:
        For each batch, one pair of images and labels for each of this pipeline's replicas in turn.
    """
    tensors, count = for_graph(data), len(data.labels)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = tf.minimum(start + tf.range(batch_size, dtype=tf.int64), count - 1)
        return rows_at(tensors, positions)

    return _pieces(tf.data.Dataset.range(0, count, batch_size), batch, context)


def for_graph(data: LabeledImages) -> LabeledImages:
    """Tensors for arrays, which a graph would hold as constants and copy each time."""
    images = data.images if isinstance(data.images, StoredImages) else tf.constant(data.images)
    return LabeledImages(images, tf.constant(data.labels))


def rows_at(data: LabeledImages, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The images and labels at some places, integers [n], n known."""
    labels = tf.gather(data.labels, rows)
    if isinstance(data.images, StoredImages):
        return data.images.gather(rows), labels
    return tf.gather(data.images, rows), labels


def _pieces(
    numbers: tf.data.Dataset,
    batch: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    replicas = context.num_replicas_in_sync
    mine = replicas // context.num_input_pipelines
    first = context.input_pipeline_id * mine

    def pieces(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        split = (tf.reshape(x, [replicas, -1, *x.shape[1:]]) for x in batch(number))
        return tuple(x[first : first + mine] for x in split)

    split = numbers.map(pieces, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
    return untuned(split.prefetch(2 * mine))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without the thread that tunes it as it runs.

    AUTOTUNE is then a call for each core, 16 at most (tensorflow/core/data/dataset_utils.h).
    Whoever lets go of a dataset before its end waits for that thread, which sleeps for longer and
    longer, up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
