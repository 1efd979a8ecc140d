"""Turns pictures, a dataset's or a person's, into grey images of one size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from capsmodel import image_files, image_reading

# A plain PNG: signature, IHDR, the head of IDAT; and what else is around the content of that.
_PLAIN_HEAD_SIZE = 41
_PLAIN_FRAME_SIZE = 57
_PNG_END = b'\x00\x00\x00\x00IEND\xaeB`\x82'
_CANNOT_BE_DECODED = 'is damaged: its pixels cannot be decoded'
_LACKS_DATA = 'is damaged: a part of its pixels is missing'


# Nothing here needs AutoGraph, which takes seconds to find that out.
@tf.autograph.experimental.do_not_convert
def decode_images(
    encoded: tf.Tensor, height: int, width: int, invert_light_background: bool = True
) -> tf.Tensor:
    """Decodes PNG and JPEG pictures of any size into grey images of one size.

    A picture is made grey by the luma of ITU-R BT.601. One with transparency is laid on black if
    what is visible of it is light and on white if that is dark, so that strokes on nothing stay
    visible. It is turned as the orientation tag of its Exif data says, if it has any. The mean of
    its border, one pixel wide, is its background level; a level above 127 is a light background,
    and `invert_light_background` says whether to invert such a picture. It is scaled to fit, by
    area averaging if it becomes smaller and bilinearly if it becomes larger, keeps its aspect
    ratio, and stands in the middle of an image filled with its background level. A grey picture
    that has the size already keeps each value.

    Args:
        encoded: string [n], the content of one file each; n may be 0.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        invert_light_background: Whether dark on light becomes light on dark.

    Returns:
        uint8 [n, height, width].

    Raises:
        tf.errors.InvalidArgumentError: Where it runs, on a picture that is neither PNG nor JPEG, is
            damaged, or has more than 4096 rows or columns, which is seen before it is decoded. The
            message names the first such picture by its index.
    """
    images, problems = _decode(encoded, height, width, invert_light_background)
    # With one more, since there may be no image.
    problems = tf.concat([problems, ['']], 0)
    index = tf.argmax(problems != '')
    problem = problems[index]
    message = tf.strings.join(
        [
            'Image ',
            tf.strings.as_string(index),
            ' of the batch (counted from 0) ',
            problem,
            f'. A PNG or a JPEG of 1 to {image_files.MAX_SIDE} pixels each way can be read.',
        ]
    )
    # Not tf.debugging.Assert, which is a tf.cond: TensorFlow's optimizers take a session's time for
    # each function in a graph.
    refusal = tf.raw_ops.Assert(condition=problem == '', data=[message])
    with tf.control_dependencies([refusal]):
        return tf.identity(images)


def why_undecodable(encoded: Sequence[bytes], custom_config: Mapping[str, int]) -> list[str]:
    """Tells which pictures `decode_images` refuses.

    Args:
        encoded: The content of one file each.
        custom_config: `image_height` and `image_width` of the images that they are to become.

    Returns:
        For each picture what is wrong with it, such as 'is empty'; '' if it can be decoded.
    """
    function = _problems_function(custom_config['image_height'], custom_config['image_width'])
    return [problem.decode() for problem in function(tf.constant(list(encoded), tf.string)).numpy()]


@functools.cache
def _problems_function(height: int, width: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """string [n] to string [n], in a graph."""
    return tf.function(
        lambda encoded: _decode(encoded, height, width, False)[1],
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def _decode(
    encoded: tf.Tensor, height: int, width: int, invert_light_background: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [n, height, width], and string [n]: what is wrong with a picture, whose image is 0."""
    plain = _are_plain(encoded, height, width)
    places = [tf.cast(tf.where(kind)[:, 0], tf.int32) for kind in (plain, ~plain)]

    def decode_plain(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(picture, channels=1)[..., 0]
        return tf.ensure_shape(image, [height, width]), tf.constant('')

    of_plain = _map(decode_plain, (tf.gather(encoded, places[0]),), height, width)
    others = tf.gather(encoded, places[1])
    of_others = tf.cond(
        tf.size(others) > 0,
        lambda: _decode_others(others, height, width, invert_light_background),
        lambda: (tf.zeros([0, height, width], tf.uint8), tf.zeros([0], tf.string)),
    )
    images, problems = (
        tf.dynamic_stitch(places, list(parts)) for parts in zip(of_plain, of_others, strict=True)
    )
    if invert_light_background:
        light = plain & (image_reading.border_mean(images) > image_reading.MIDDLE_GREY)
        images = tf.where(light[:, tf.newaxis, tf.newaxis], 255 - images, images)
    return images, problems


def _decode_others(
    encoded: tf.Tensor, height: int, width: int, invert_light_background: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `_decode`, for pictures of any kind."""
    found, is_png, orientation = tf.map_fn(
        image_files.examine,
        encoded,
        parallel_iterations=1,
        fn_output_signature=image_files.ImageFile(tf.string, tf.bool, tf.int32),
    )

    def read(
        picture: tf.Tensor, is_png: tf.Tensor, orientation: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return image_reading.read_and_fit(
            picture, is_png, orientation, height, width, invert_light_background
        )

    def look_again(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        problem = tf.where(image_reading.lacks_data(picture), _LACKS_DATA, '')
        return tf.zeros([height, width], tf.uint8), problem

    # A file with a bad structure is not decoded: the decoder refuses the empty one in its place.
    pictures = tf.where(found == '', encoded, '')
    images, problems = _map(read, (pictures, is_png, orientation), height, width)
    problems = tf.where(found == '', problems, found)
    suspects = tf.where(problems == image_reading.SUSPECT)
    _, again = _map(look_again, (tf.gather_nd(pictures, suspects),), height, width)
    return images, tf.tensor_scatter_nd_update(problems, suspects, again)


def _map(
    decode: Callable[..., tuple[tf.Tensor, tf.Tensor]],
    arguments: tuple[tf.Tensor, ...],
    height: int,
    width: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one picture after the other: a batch of large ones takes the memory of one.

    tf.map_fn would do that too, but a decoder's error ends it and does not say where. tf.data is
    the one place of a graph where an error can be passed over.

    Args:
        decode: From the arguments of one picture to uint8 [height, width] and what is wrong with
            it, a string scalar.
        arguments: Tensors of n rows.
        height: Height of the images.
        width: Width of the images.

    Returns:
        uint8 [n, height, width] and string [n].
    """
    count = tf.size(arguments[0])
    decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), *arguments))
    decoded = decoded.map(lambda index, *row: (index, *decode(*row))).ignore_errors()
    # One more, which no decoder refuses: there is always something to take out.
    last = tf.data.Dataset.from_tensors((count, tf.zeros([height, width], tf.uint8), ''))
    decoded = decoded.concatenate(last).batch(tf.cast(count, tf.int64) + 1)
    # To optimize the dataset would take longer than to decode a picture.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    indices, images, problems = decoded.with_options(options).get_single_element()

    rows = indices[:-1, tf.newaxis]
    return (
        tf.scatter_nd(rows, images[:-1], [count, height, width]),
        tf.tensor_scatter_nd_update(tf.fill([count], _CANNOT_BE_DECODED), rows, problems[:-1]),
    )


def _are_plain(encoded: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """bool [n]: whether nothing is to do but to decode, as with nearly every picture of a dataset.

    That is: an 8-bit grey PNG of this size with a single chunk between IHDR and IEND, its pixels.
    """
    size = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
    head = image_files.PNG_START + b'\x00\x00\x00\x0dIHDR' + size + b'\x08\x00'
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
