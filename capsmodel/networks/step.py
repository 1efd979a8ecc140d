"""What a step of training tells a network: how far it is, and random numbers that repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

# Streams of random numbers below this belong to the augmentation of the step's images.
_FIRST_STREAM = 1000

# The weight of a step in moving averages, in the long run.
_NEWEST = 0.01


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of training, as one replica sees it.

    Attributes:
        seed: Of the training.
        number: int64 scalar, counted from 0 over all epochs.
        progress: float32 scalar, the part of all steps that is done, from 0 to 1.
        batch_size: Images of the step, all replicas together.
        replicas: Among how many replicas they are split evenly.
        replica: int32 scalar, which of them this is.
        newest: float32 scalar, the weight of this step in moving averages of what layers measure.
    """

    seed: int
    number: tf.Tensor
    progress: tf.Tensor
    batch_size: int
    replicas: int
    replica: tf.Tensor
    newest: tf.Tensor

    @classmethod
    def on_this_replica(cls, seed: int, number: tf.Tensor, steps: int, batch_size: int) -> Step:
        """The step of this replica.

        `newest` falls from 0.9 to 0.01, which it has from step 890 on, as with `num_updates` of
        TensorFlow's ExponentialMovingAverage: with 0.01 all the time, averages take hundreds of
        steps to forget the values they begin with.

        Args:
            seed: Of the training.
            number: Integer scalar, counted from 0.
            steps: Of the whole training.
            batch_size: Images of the step, all replicas together.
        """
        context = tf.distribute.get_replica_context()
        return cls(
            seed=seed,
            number=tf.cast(number, tf.int64),
            progress=tf.minimum(tf.cast(number, tf.float32) / steps, 1),
            batch_size=batch_size,
            replicas=context.num_replicas_in_sync,
            replica=tf.convert_to_tensor(context.replica_id_in_sync_group),
            newest=tf.maximum(_NEWEST, 9 / (10 + tf.cast(number, tf.float32))),
        )

    def uniform(self, stream: int, shape: Sequence[int]) -> tf.Tensor:
        """Random numbers for each image of the replica, in [0, 1).

        They depend on the seed, the step, the stream and the image's place in the batch of this
        step, and so on its id; not on the number of replicas.

        Args:
            stream: Tells apart what draws numbers: at least 0.
            shape: Of the numbers of one image.

        Returns:
            float32 [n, *shape].
        """
        first = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(self.number, tf.int64)])
        seed = tf.random.experimental.stateless_fold_in(first, _FIRST_STREAM + stream)
        whole = tf.random.stateless_uniform([self.batch_size, *shape], seed)
        pieces = tf.reshape(whole, [self.replicas, self.batch_size // self.replicas, *shape])
        return tf.gather(pieces, self.replica)


def dropout(x: tf.Tensor, rate: float, step: Step | None, stream: int) -> tf.Tensor:
    """Sets numbers to 0 at random and scales the others up (Srivastava et al. 2014, section 10).

    Args:
        x: float [n, ...], the other sizes known.
        rate: The part that becomes 0, at least 0 and less than 1.
        step: The step of training; None: nothing changes.
        stream: See `Step.uniform`; another one for each layer.

    Returns:
        Shape and dtype of `x`.
    """
    if step is None or not rate:
        return x
    is_kept = step.uniform(stream, x.shape[1:]) >= rate
    return tf.where(is_kept, x / tf.cast(1 - rate, x.dtype), tf.zeros([], x.dtype))
