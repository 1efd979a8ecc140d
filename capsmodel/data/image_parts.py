"""Parts of files: PNG and JPEG consist of parts, each of which tells where the next one begins.

All places where a part may begin are examined at once; those that can be reached from the first one
are the parts. A loop over the parts would take long in a file with many of them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import tensorflow as tf

# For large functions that plain pictures do not need. TensorFlow optimizes a graph before a
# session's first answer, for each signature again, and a model would be ready late. With _noinline
# a function is no part of what calls it; with _tf_data_function it is not optimized until it is
# called, as is the custom with the functions of tf.data.
function_of_its_own = functools.partial(
    tf.function,
    autograph=False,
    experimental_attributes={'_noinline': True, '_tf_data_function': True},
)

# Number of zeros after a file's bytes. The head of a part can be read there, but is not valid.
PADDING = 16

GOOD, CUT_OFF, DAMAGED, TOO_LONG, TOO_MUCH, RARE = range(6)


class Structure(NamedTuple):
    """The information in the parts of a file.

    Attributes:
        verdict: int32 scalar, GOOD or the problem.
        size: int64 [2], width and height; zeros if they are not known.
        exif: int32 [2], position and length of the first Exif block, or zeros.
        decodable: string scalar, the file or the parts of it that the decoder needs.
        is_keyed: bool scalar, whether one grey or colour of a PNG means transparency.
        is_sequential: bool scalar, whether it is a JPEG with one scan, not progressive. A decoder
            holds some rows of it at a time, where it holds all coefficients of others.
        data_ends: int32 [any], increasing: the places where the data of a JPEG's scans end or are
            interrupted by a restart marker; empty for a PNG.
    """

    verdict: tf.Tensor
    size: tf.Tensor
    exif: tf.Tensor
    decodable: tf.Tensor
    is_keyed: tf.Tensor
    is_sequential: tf.Tensor
    data_ends: tf.Tensor


def content_of(file: tf.Tensor) -> tf.Tensor:
    """string scalar to its bytes and PADDING zeros, uint8 [any]."""
    return tf.io.decode_raw(tf.strings.join([file, b'\x00' * PADDING]), tf.uint8)


def joined(content: tf.Tensor, cuts: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Joins some pieces of a file.

    Args:
        content: uint8 [any].
        cuts: int32 [pieces + 1], increasing: where each piece begins, and where the last one ends.
        chosen: int32 [any], numbers of pieces.

    Returns:
        string scalar.
    """
    # tf.strings.substr would copy the whole file for each piece.
    pieces = tf.RaggedTensor.from_row_splits(
        content[cuts[0] : cuts[-1]], cuts - cuts[0], validate=False
    )
    chosen_bytes = tf.gather(pieces, chosen).values
    # TensorFlow has no inverse of decode_raw, but a tensor's protocol buffer ends with its bytes.
    size = tf.size(chosen_bytes)
    return tf.strings.substr(tf.io.serialize_tensor(chosen_bytes), -size, size)


def chain(start: tf.Tensor, following: tf.Tensor, most: int) -> tf.Tensor:
    """Finds the parts of a file among the places where one may begin.

    Args:
        start: int32 scalar, the number of the first part, or n if the file has no part.
        following: int32 [n], for each place the number of the next part, which is larger than its
            own number, or n if no part follows.
        most: The search stops once it has found this many parts or more.

    Returns:
        int32 [any], the numbers of the parts in their order.
    """
    none = tf.size(following)

    def go_on(found: tf.Tensor, jump: tf.Tensor) -> tf.Tensor:
        del jump
        return (found[-1] < none) & (tf.size(found) < most)

    def step(found: tf.Tensor, jump: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Doubles the number of found parts, and how far the next step jumps."""
        return tf.concat([found, tf.gather(jump, found)], 0), tf.gather(jump, jump)

    found, _ = tf.while_loop(
        go_on,
        step,
        (start[tf.newaxis], tf.concat([following, [none]], 0)),
        (tf.TensorShape([None]), tf.TensorShape([None])),
        parallel_iterations=1,
    )
    return where(found < none, found)


def where(is_it: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The values, [n, ...], where bool [n] is true."""
    # tf.boolean_mask would take twenty operations.
    return tf.gather_nd(values, tf.where(is_it))


def first_where(is_it: tf.Tensor, values: tf.Tensor, otherwise: object) -> tf.Tensor:
    """The first of the values, [n, ...], where bool [n] is true; `otherwise` if all are false."""
    return tf.concat([where(is_it, values), [otherwise]], 0)[0]


def big_endian(digits: tf.Tensor) -> tf.Tensor:
    """int32 [..., n], each 0 to 255 and n up to 4, to int32 [...]; the highest bit is the sign."""
    return tf.reduce_sum(digits * [256**place for place in reversed(range(digits.shape[-1]))], -1)
