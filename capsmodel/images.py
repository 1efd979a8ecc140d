"""Turns pictures, a dataset's or a person's, into grey images of one size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from capsmodel import image_files

_MIDDLE_GREY = 127.0
# A plain PNG: signature, IHDR, the head of IDAT; and what else is around the content of that.
_PLAIN_HEAD_SIZE = 41
_PLAIN_FRAME_SIZE = 57
_PNG_END = b'\x00\x00\x00\x00IEND\xaeB`\x82'
# Rows and columns of the blocks that a JPEG consists of.
_BLOCK = 8
_CANNOT_BE_DECODED = 'is damaged: its pixels cannot be decoded'


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

    def refuse() -> tf.Tensor:
        index = tf.argmax(problems != '')
        message = tf.strings.join(
            [
                'Image ',
                tf.strings.as_string(index),
                ' of the batch (counted from 0) ',
                problems[index],
                f'. A PNG or a JPEG of 1 to {image_files.MAX_SIDE} pixels each way can be read.',
            ]
        )
        with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
            return tf.identity(images)

    return tf.cond(tf.reduce_all(problems == ''), lambda: images, refuse)


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

    def decode_plain(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(picture, channels=1)[..., 0]
        return tf.ensure_shape(image, [height, width]), tf.constant('')

    def decode(picture: tf.Tensor, is_plain: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(
            is_plain,
            lambda: decode_plain(picture),
            lambda: _read_and_fit(picture, height, width, invert_light_background),
        )

    images, problems = tf.cond(
        tf.reduce_all(plain),
        lambda: _map(decode_plain, (encoded,), height, width),
        lambda: _map(decode, (encoded, plain), height, width),
    )
    if invert_light_background:
        light = plain & (_border_mean(images) > _MIDDLE_GREY)
        images = tf.where(light[:, tf.newaxis, tf.newaxis], 255 - images, images)
    return images, problems


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
    rows = indices[:, tf.newaxis]
    images = tf.scatter_nd(rows, images, [count + 1, height, width])
    problems = tf.tensor_scatter_nd_update(tf.fill([count + 1], _CANNOT_BE_DECODED), rows, problems)
    return images[:-1], problems[:-1]


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


# Traced once and not wherever pictures are decoded.
@functools.partial(tf.function, autograph=False)
def _read_and_fit(
    picture: tf.Tensor, height: int, width: int, invert_light_background: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """string scalar to uint8 [height, width] and what is wrong with the picture, a string."""
    file = image_files.examine(picture)

    def read() -> tuple[tf.Tensor, tf.Tensor]:
        grey, problem = tf.cond(
            file.is_png, lambda: _read_png(picture), lambda: _read_jpeg(picture, file.data_ends)
        )
        grey = tf.cond(file.orientation == 1, lambda: grey, lambda: _turn(grey, file.orientation))
        return _fit(grey, height, width, invert_light_background), problem

    return tf.cond(
        file.problem == '', read, lambda: (tf.zeros([height, width], tf.uint8), file.problem)
    )


def _read_png(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """string scalar to float32 [any, any], luma in 0..255 on the ground it can be seen on."""
    rgba = tf.io.decode_png(picture, channels=4)
    depth, colour_type = tf.unstack(
        tf.io.decode_raw(tf.strings.substr(picture, 24, 2), tf.uint8), 2
    )
    # To grey and palette pictures of 1, 2 or 4 bits that have no alpha, the decoder gives the
    # largest value of so many bits as alpha, not 255.
    filling = tf.bitwise.left_shift(tf.constant(1, tf.uint8), depth) - 1
    has_few_bits = ((colour_type == 0) | (colour_type == 3)) & (depth < 8)
    is_filled = has_few_bits & tf.reduce_all(rgba[..., 3] == filling)
    alpha = tf.where(is_filled, tf.constant(255, tf.uint8), rgba[..., 3])
    luma = _luma(rgba[..., :3])
    alpha = tf.cast(alpha, tf.float32) / 255.0
    visible = tf.math.divide_no_nan(tf.reduce_sum(luma * alpha), tf.reduce_sum(alpha))
    ground = tf.where(visible > _MIDDLE_GREY, 0.0, 255.0)
    return ground + alpha * (luma - ground), tf.constant('')


def _read_jpeg(picture: tf.Tensor, data_ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """string scalar to float32 [any, any], luma in 0..255."""

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')

    rgb = decode(picture)
    # Where data are missing, the decoder paints grey, and warns, which nobody hears.
    is_grey = tf.reduce_all(rgb == 128, axis=-1)
    beyond = -tf.shape(is_grey) % _BLOCK
    is_grey = tf.pad(is_grey, tf.stack([tf.zeros([2], tf.int32), beyond], 1), constant_values=True)
    rows, columns = tf.unstack(tf.shape(is_grey) // _BLOCK)
    is_grey = tf.reduce_all(tf.reshape(is_grey, [rows, _BLOCK, columns, _BLOCK]), axis=[1, 3])
    is_whole = tf.cond(
        tf.reduce_any(is_grey),
        lambda: tf.reduce_all(rgb == decode(image_files.with_more_data(picture, data_ends))),
        lambda: True,
    )
    return _luma(rgb), tf.where(is_whole, '', 'is damaged: a part of its pixels is missing')


def _luma(rgb: tf.Tensor) -> tf.Tensor:
    """uint8 [..., 3] to float32 [...] in 0..255."""
    return tf.image.rgb_to_grayscale(tf.cast(rgb, tf.float32))[..., 0]


def _turn(grey: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """[any, any] as the eye is to see it; the orientation is an int32 scalar, 2 to 8, of Exif's."""
    grey = tf.cond(orientation >= 5, lambda: tf.transpose(grey), lambda: grey)
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    grey = tf.cond(upside_down, lambda: grey[::-1], lambda: grey)
    return tf.cond(mirrored, lambda: grey[:, ::-1], lambda: grey)


def _border_mean(images: tf.Tensor) -> tf.Tensor:
    """[..., height, width] of any dtype to float32 [...]: mean of the outermost pixels."""
    border = tf.concat(
        [images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]], -1
    )
    return tf.reduce_mean(tf.cast(border, tf.float32), axis=-1)


def _fit(grey: tf.Tensor, height: int, width: int, invert_light_background: bool) -> tf.Tensor:
    """float32 [any, any] to uint8 [height, width]: inverted if light, scaled, centred."""
    level = _border_mean(grey)
    if invert_light_background:
        light = level > _MIDDLE_GREY
        grey = tf.where(light, 255.0 - grey, grey)
        level = tf.where(light, 255.0 - level, level)
    size = tf.cast(tf.shape(grey), tf.float32)
    scale = tf.maximum(size[0] / height, size[1] / width)
    rows = _window_weights(size[0], height, scale)
    columns = _window_weights(size[1], width, scale)
    # With the level taken off, what lies outside of the picture counts as 0: nothing is padded, and
    # a picture of one row takes no more memory than it has pixels.
    scaled = level + rows @ (grey - level) @ tf.transpose(columns)
    return tf.cast(tf.round(scaled), tf.uint8)


def _window_weights(size: tf.Tensor, count: int, scale: tf.Tensor) -> tf.Tensor:
    """How much of each of `size` pixels in a line goes into each of `count` pixels `scale` as wide.

    Each of the `count` averages over a window as wide as itself, but not narrower than one pixel of
    the source: such a window's overlap with two neighbours is linear interpolation between them.

    Returns:
        float32 [count, size]; a row sums up to 1, or to less where its window leaves the source.
    """
    window = tf.maximum(scale, 1.0)
    centres = (tf.range(count, dtype=tf.float32) + (0.5 - count / 2)) * scale + size / 2
    starts = centres[:, tf.newaxis] - window / 2
    pixels = tf.range(size)
    overlap = tf.minimum(starts + window, pixels + 1) - tf.maximum(starts, pixels)
    return tf.maximum(overlap, 0.0) / window
