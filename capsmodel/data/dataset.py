"""The transformed images as batches of training, in an order and with changes from a seed.

Beam writes examples in any order, so images are sorted by their ids when they are loaded. The batch
of a step depends only on the seed and the step's number: no random state is stored, and any step
can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from capsmodel.data import features, preprocessing
from capsmodel.data.augmentation import augment


class LabeledImages(NamedTuple):
    """Images in the order of their ids.

    Attributes:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        labels: int64 [n].
    """

    images: np.ndarray
    labels: np.ndarray


def load_examples(patterns: Sequence[str], shape: Sequence[int], crop: int = 0) -> LabeledImages:
    """Loads transformed examples into memory, in the order of their ids.

    Args:
        patterns: Patterns of Transform's files, TFRecords compressed by gzip.
        shape: Of an image, `NetworkConfig.uncropped_shape`.
        crop: Rows and columns in the middle of each image that are kept; 0: all.

    Raises:
        ValueError: There is no example.
    """
    specification = {
        features.IMAGE: tf.io.FixedLenFeature([], tf.string),
        features.LABEL: tf.io.FixedLenFeature([], tf.int64),
        features.ID: tf.io.FixedLenFeature([], tf.string),
    }

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        example = tf.io.parse_example(serialized, specification)
        pixels = preprocessing.raw_pixels(example[features.IMAGE], shape, crop)
        return pixels, example[features.LABEL], example[features.ID]

    records = tf.data.TFRecordDataset(tf.io.gfile.glob(list(patterns)), compression_type='GZIP')
    batches = list(records.batch(1024).map(parse).as_numpy_iterator())
    if not batches:
        raise ValueError(f'No transformed examples in {", ".join(patterns)}')
    pixels, labels, ids = (np.concatenate(column) for column in zip(*batches, strict=True))
    order = np.argsort(ids, kind='stable')
    return LabeledImages(pixels[order], labels[order])


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
    images, labels = tf.convert_to_tensor(data.images), tf.convert_to_tensor(data.labels)
    count = images.shape[0]
    steps_per_epoch = count // batch_size
    positions = step % steps_per_epoch * batch_size + tf.range(batch_size, dtype=tf.int64)
    order = tf.random.experimental.index_shuffle(
        positions, tf.stack([seed, step // steps_per_epoch]), tf.constant(count - 1, tf.int64)
    )
    changed = augment(tf.gather(images, order), augmentation, seed=seed, step=step)
    return changed, tf.gather(labels, order)


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
    # Tensors outside the function: constants inside it would be copied at each step.
    tensors = LabeledImages(tf.constant(data.images), tf.constant(data.labels))

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
    tensors = LabeledImages(tf.constant(data.images), tf.constant(data.labels))
    count = len(data.labels)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = tf.minimum(start + tf.range(batch_size, dtype=tf.int64), count - 1)
        return tf.gather(tensors.images, positions), tf.gather(tensors.labels, positions)

    return _pieces(tf.data.Dataset.range(0, count, batch_size), batch, context)


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

    return numbers.map(pieces, num_parallel_calls=tf.data.AUTOTUNE).unbatch().prefetch(2 * mine)
