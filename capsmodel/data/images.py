"""Converts pictures, from a dataset or a user, to grey or colour images of one size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from capsmodel.data import image_files, image_reading, png_chunks
from capsmodel.data.choices import STROKES, WHOLE
from capsmodel.data.framing import need_no_framing

# Bytes of a plain PNG: signature, IHDR and the head of IDAT; and all bytes around IDAT's content.
_PLAIN_HEAD_SIZE = 41
_PLAIN_FRAME_SIZE = 57
# The limit for the pixels of all pictures in one request, a quarter of those of a JPEG that is
# halved: one picture of the largest size, 64 of 512 x 512, or 1,000 of 128 x 128. They take about a
# second of one processor.
MAX_PIXELS = image_files.MAX_PIXELS

_PNG_END = b'\x00\x00\x00\x00IEND\xaeB`\x82'


# AutoGraph would take seconds to find that there is nothing to convert here.
@tf.autograph.experimental.do_not_convert
def decode_images(
    encoded: tf.Tensor, height: int, width: int, framing: str, channels: int = 1
) -> tf.Tensor:
    """Decodes PNG and JPEG pictures of any size into images of one size.

    Grey is the luma of ITU-R BT.601. A transparent picture gets a black or a white background, so
    that strokes stay visible: the contrary of its visible part, unless that is clearly lighter or
    darker at its edges than within, which white or black then continues. The picture is
    turned by the orientation tag of its Exif data, if it has one. A large picture is reduced by
    area before it is framed.

    Args:
        encoded: string [n], the contents of files; n may be 0.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        framing: How a picture is brought to this size, see `framing.frame`.
        channels: 1 for grey images, 3 for red, green and blue.

    Returns:
        uint8 [n, height, width], or [n, height, width, 3] in colour.

    Raises:
        ValueError: Strokes are to be framed in colour.
        tf.errors.InvalidArgumentError: When it runs, if a picture is neither PNG nor JPEG, is
            damaged, or has too many pixels (checked before decoding). The message names the first
            such picture by its index.
    """
    if framing == STROKES and channels != 1:
        raise ValueError('FRAMING=strokes reads grey ink, so CHANNELS must be 1')
    images, problems = _decode(encoded, height, width, framing, channels)
    # One more element, since there may be no image.
    problems = tf.concat([problems, ['']], 0)
    index = tf.argmax(problems != '')
    problem = problems[index]
    message = tf.strings.join(
        [
            'Image ',
            tf.strings.as_string(index),
            ' of the batch (counted from 0) ',
            problem,
            '. Use a PNG or a JPEG.',
        ]
    )
    # tf.debugging.Assert would be a tf.cond, and each function in a graph costs TensorFlow's
    # optimizers time before a session's first answer.
    refusal = tf.raw_ops.Assert(condition=problem == '', data=[message])
    with tf.control_dependencies([refusal]):
        return tf.identity(images)


def limit_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Refuses pictures that have more than MAX_PIXELS together, before any of them is decoded.

    This is for requests; a batch of a dataset may have more pixels, and `decode_images` takes it.

    Args:
        encoded: string [n], the contents of files.

    Returns:
        `encoded`.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if there are more. The message names the first
            picture beyond the limit by its index.
    """
    pixels = tf.cumsum(image_files.count_pixels(encoded))
    index = tf.searchsorted(pixels, tf.constant([MAX_PIXELS], tf.int64), side='right')[0]
    total = tf.reduce_sum(pixels[-1:])
    message = tf.strings.join(
        [
            'The pictures of the batch have ',
            tf.strings.as_string(total),
            f' pixels together, and {MAX_PIXELS} are allowed (as many as 4096 x 4096 have): image ',
            tf.strings.as_string(index),
            ' (counted from 0) is the first that is too much. Ask for fewer or smaller ones at a '
            'time.',
        ]
    )
    refusal = tf.raw_ops.Assert(condition=total <= MAX_PIXELS, data=[message])
    with tf.control_dependencies([refusal]):
        return tf.identity(encoded)


def decoded_or_not(
    encoded: Sequence[bytes], custom_config: Mapping[str, int]
) -> tuple[np.ndarray, list[str]]:
    """What `decode_images` makes of pictures with the framing WHOLE, and which it would refuse.

    Args:
        encoded: The contents of n files.
        custom_config: `image_height`, `image_width` and `channels` of the results.

    Returns:
        uint8 [n, height, width], or [n, height, width, 3] in colour, and for each picture its
        problem, such as 'is empty'; '' if it can be decoded.
    """
    names = ('image_height', 'image_width', 'channels')
    function = _whole_function(*(custom_config[name] for name in names))
    images, problems = function(tf.constant(list(encoded), tf.string))
    return images.numpy(), [problem.decode() for problem in problems.numpy()]


def framed(encoded: Sequence[bytes], custom_config: Mapping[str, int]) -> np.ndarray:
    """What `decode_images` makes of pictures with the framing STROKES, in a graph.

    Args:
        encoded: The contents of files.
        custom_config: `image_height` and `image_width` of the results.

    Returns:
        uint8 [n, height, width].

    Raises:
        tf.errors.InvalidArgumentError: A picture cannot be decoded.
    """
    function = _framing_function(custom_config['image_height'], custom_config['image_width'])
    return function(tf.constant(list(encoded), tf.string)).numpy()


@functools.cache
def _framing_function(height: int, width: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """string [n] to uint8 [n, height, width], in a graph."""
    return tf.function(
        lambda encoded: decode_images(encoded, height, width, STROKES),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


@functools.cache
def _whole_function(
    height: int, width: int, channels: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """string [n] to uint8 [n, height, width(, 3)] and string [n], in a graph."""
    return tf.function(
        lambda encoded: _decode(encoded, height, width, WHOLE, channels),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def _decode(
    encoded: tf.Tensor, height: int, width: int, framing: str, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes pictures and frames them.

    Returns:
        uint8 [n, height, width], or [n, height, width, 3] in colour, and string [n]: a picture's
        problem; its image is all 0 then.
    """
    shape = (height, width) if channels == 1 else (height, width, channels)
    plain = tf.where(_are_plain(encoded, height, width, channels))
    images, is_decoded = _decode_plain(tf.gather_nd(encoded, plain), shape)
    images, is_framed = need_no_framing(images, framing)
    is_done = tf.scatter_nd(plain, is_decoded & is_framed, tf.shape(encoded, tf.int64))
    places = [tf.cast(tf.where(kind)[:, 0], tf.int32) for kind in (is_done, ~is_done)]
    images_of_others, problems_of_others = tf.map_fn(
        lambda file: image_reading.read(file, height, width, framing, channels),
        tf.gather(encoded, places[1]),
        # One at a time, so that a batch of large pictures takes the memory of one.
        parallel_iterations=1,
        fn_output_signature=(
            tf.TensorSpec(shape, tf.uint8),
            tf.TensorSpec([], tf.string),
        ),
    )
    images = tf.boolean_mask(images, is_decoded & is_framed)
    problems = tf.fill([tf.size(places[0])], '')
    return (
        tf.dynamic_stitch(places, [images, images_of_others]),
        tf.dynamic_stitch(places, [problems, problems_of_others]),
    )


def _decode_plain(encoded: tf.Tensor, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes plain pictures, see `_are_plain`.

    Returns:
        uint8 [n, *shape] and bool [n], whether a picture is decoded; otherwise it is all 0.
    """

    def decode(index: tf.Tensor, picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(picture, channels=3 if len(shape) == 3 else 1)
        return index, tf.ensure_shape(image if len(shape) == 3 else image[..., 0], shape)

    count = tf.size(encoded)
    # tf.map_fn would end at the first error of the decoder, and would take ten times as long.
    decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    decoded = decoded.map(decode).ignore_errors()
    # One more element that cannot fail, so that the dataset is never empty.
    last = tf.data.Dataset.from_tensors((count, tf.zeros(shape, tf.uint8)))
    decoded = decoded.concatenate(last).batch(tf.cast(count, tf.int64) + 1)
    indices, images = decoded.with_options(image_reading.dataset_options()).get_single_element()
    rows = indices[:-1, tf.newaxis]
    return (
        tf.scatter_nd(rows, images[:-1], [count, *shape]),
        tf.scatter_nd(rows, tf.fill([tf.size(rows)], True), [count]),
    )


def _are_plain(encoded: tf.Tensor, height: int, width: int, channels: int) -> tf.Tensor:
    """bool [n]: whether a picture only needs decoding, as nearly all pictures of a dataset.

    It does if it is an 8-bit PNG of this size, grey or in colour as asked for, whose only chunk
    between IHDR and IEND is IDAT.
    """
    size = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
    head = (
        png_chunks.START
        + b'\x00\x00\x00\x0dIHDR'
        + size
        + (b'\x08\x00' if channels == 1 else b'\x08\x02')
    )
    padding = b'\x00' * _PLAIN_HEAD_SIZE
    start = tf.strings.substr(tf.strings.join([encoded, padding]), 0, _PLAIN_HEAD_SIZE)
    end = tf.strings.substr(tf.strings.join([padding, encoded]), -len(_PNG_END), len(_PNG_END))
    length = tf.io.decode_raw(
        tf.strings.substr(start, _PLAIN_HEAD_SIZE - 8, 4), tf.int32, little_endian=False
    )
    return (
        (tf.strings.substr(start, 0, len(head)) == head)
        & (tf.strings.substr(start, _PLAIN_HEAD_SIZE - 4, 4) == b'IDAT')
        & (end == _PNG_END)
        & (tf.reshape(length, [-1]) == tf.strings.length(encoded) - _PLAIN_FRAME_SIZE)
    )
