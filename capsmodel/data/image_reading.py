"""Reads one PNG or JPEG and converts it to a grey image of a given size."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from capsmodel.data import image_files, image_parts, jpeg_segments

MIDDLE_GREY = 127.0
CANNOT_BE_DECODED = 'is damaged: its pixels cannot be decoded'
_LACKS_DATA = 'is damaged: a part of its pixels is missing'
# Red, green and blue, by ITU-R BT.601.
_LUMA = (0.2989, 0.5870, 0.1140)
# Rows and columns of a JPEG's blocks, and the places in a block that are checked.
_BLOCK = 8
_PLACES = ((0, 0), (3, 5), (6, 2))
# A picture is converted to float32 in this many parts, one after another, since it takes four times
# the memory as float32.
_STRIPS = 4


@image_parts.function_of_its_own
def read(
    file: tf.Tensor, height: int, width: int, invert_light_background: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a picture of any kind.

    Args:
        file: string scalar, any bytes.
        height: Height of the result.
        width: Width of the result.
        invert_light_background: Whether to invert a picture with a light background.

    Returns:
        uint8 [height, width], and the problem with the picture, a string scalar that completes
        'Image 3 ...' or is empty.
    """
    found = image_files.examine(file)
    pixels, is_decodable = _decoded(found.decodable, found.is_keyed)
    problem = tf.where(is_decodable, found.problem, CANNOT_BE_DECODED)
    problem = tf.cond(
        found.is_png | (problem != ''), lambda: problem, lambda: _what_it_lacks(found, pixels)
    )
    image = _fit(pixels, found.orientation, height, width, invert_light_background)
    return image, problem


def _decoded(file: tf.Tensor, is_keyed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [rows, columns, 1 to 4], and a bool scalar: false if the decoder refuses the file."""

    def decode(file: tf.Tensor, is_keyed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # decode_jpeg decodes PNGs, too, with as many channels as there are. But it ignores that a
        # grey or a colour of a PNG may mean transparency.
        pixels = tf.cond(
            is_keyed,
            lambda: tf.io.decode_png(file, channels=4),
            lambda: tf.io.decode_jpeg(file, channels=0, dct_method='INTEGER_ACCURATE'),
        )
        return pixels, tf.constant(True)

    # Only tf.data can ignore an error in a graph.
    decoded = tf.data.Dataset.from_tensors((file, is_keyed)).map(decode).ignore_errors()
    nothing = tf.data.Dataset.from_tensors((tf.zeros([1, 1, 1], tf.uint8), False))
    first = decoded.concatenate(nothing).take(1).with_options(dataset_options())
    return first.get_single_element()


def dataset_options() -> tf.data.Options:
    """Options of a dataset in a graph: optimizing it would take longer than decoding a picture."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return options


def _what_it_lacks(found: image_files.ImageFile, pixels: tf.Tensor) -> tf.Tensor:
    """The problem of a JPEG if the decoder had no data for a part of these pixels.

    The decoder fills such pixels with grey and only logs a warning.
    """

    def look_again() -> tf.Tensor:
        with_more = jpeg_segments.with_more_data(found.decodable, found.data_ends)
        again, is_decodable = _decoded(with_more, found.is_keyed)
        return tf.where(is_decodable & tf.reduce_all(again == pixels), '', _LACKS_DATA)

    return tf.cond(_may_have_grey_block(pixels), look_again, lambda: tf.constant(''))


def _may_have_grey_block(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 [any, any, any] to a bool scalar: whether a JPEG may have a block of middle grey only.

    It checks some pixels of each block; checking all would take longer than decoding.
    """
    blocks = -(-tf.shape(pixels)[:2] // _BLOCK)
    is_grey = tf.fill(blocks, True)
    for row, column in _PLACES:
        some = tf.reduce_all(pixels[row::_BLOCK, column::_BLOCK] == 128, axis=-1)
        # The picture's edge may cut off the last blocks.
        beyond = tf.stack([tf.zeros([2], tf.int32), blocks - tf.shape(some)], 1)
        is_grey &= tf.pad(some, beyond, constant_values=True)
    return tf.reduce_any(is_grey)


def border_mean(images: tf.Tensor) -> tf.Tensor:
    """[..., height, width] of any dtype to float32 [...]: the mean of the outermost pixels."""
    border = tf.concat(
        [images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]], -1
    )
    return tf.reduce_mean(tf.cast(border, tf.float32), axis=-1)


def _fit(
    pixels: tf.Tensor,
    orientation: tf.Tensor,
    height: int,
    width: int,
    invert_light_background: bool,
) -> tf.Tensor:
    """Converts a picture to grey, inverts it if it is light, scales, centres and turns it.

    All but inverting is linear, except for transparency: the luma of the visible part and the
    opacity are scaled down separately, and only then laid on a background.

    Args:
        pixels: uint8 [rows, columns, channels]. With two or four channels, the last one is alpha.
        orientation: int32 scalar, 1 to 8 as in Exif.
        height: Height of the result.
        width: Width of the result.
        invert_light_background: Whether to invert a picture with a light background.

    Returns:
        uint8 [height, width].
    """
    size = tf.cast(tf.shape(pixels)[:2], tf.float32)
    # The target as the file has it, before the picture is turned.
    lies = orientation >= 5
    target = tf.where(lies, [width, height], [height, width])
    scale = tf.reduce_max(size / tf.cast(target, tf.float32))
    rows = _window_weights(size[0], target[0], scale)
    columns = _window_weights(size[1], target[1], scale)
    # Sums of the first row, of the last row and of all rows between, for the border and the whole.
    between = tf.pad(tf.ones([1, tf.maximum(tf.shape(pixels)[0] - 2, 0)]), [[0, 0], [1, 1]])
    ends = tf.one_hot([0, tf.shape(pixels)[0] - 1], tf.shape(pixels)[0])
    weights = tf.concat([rows, ends, between[:, : tf.shape(pixels)[0]]], 0)
    luma, opacity = tf.cond(
        tf.shape(pixels)[2] % 2 == 0,
        lambda: _sums_of_transparent(weights, pixels),
        lambda: _sums_of_opaque(weights, pixels),
    )
    visible = tf.math.divide_no_nan(tf.reduce_sum(luma[-3:]), tf.reduce_sum(opacity[-3:]))
    ground = tf.where(visible > MIDDLE_GREY, 0.0, 255.0)
    grey = luma + ground * (tf.reduce_sum(weights, 1)[:, tf.newaxis] - opacity)
    border = tf.concat([grey[-3], grey[-2], grey[-1, :1], grey[-1, -1:]], 0)
    level = tf.reduce_sum(border) / (2 * size[1] + 2 * tf.maximum(size[0] - 2, 0))
    # Pixels outside of the picture get the border's level.
    covered = tf.reduce_sum(rows, 1)[:, tf.newaxis] * tf.reduce_sum(columns, 1)
    image = tf.matmul(grey[:-3], columns, transpose_b=True) + level * (1 - covered)
    if invert_light_background:
        image = tf.where(level > MIDDLE_GREY, 255.0 - image, image)
    image = tf.ensure_shape(_turn(image, orientation), [height, width])
    return tf.cast(tf.round(image), tf.uint8)


def _sums_of_opaque(weights: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weighted sums over rows of luma and of opacity.

    Args:
        weights: float32 [n, rows].
        pixels: uint8 [rows, columns, channels].

    Returns:
        float32 [n, columns], of values 0 to 255, and of 0 to 1.
    """
    luma = _luma(_weighted_sums(weights, pixels, lambda strip: strip))
    opacity = tf.reduce_sum(weights, 1)[:, tf.newaxis]
    return luma, tf.broadcast_to(opacity, tf.shape(luma))


def _sums_of_transparent(weights: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Like `_sums_of_opaque`, for pixels whose last channel is alpha."""
    colours = _weighted_sums(weights, pixels, lambda strip: strip * (strip[..., -1:] / 255.0))
    opacity = _weighted_sums(weights, pixels[..., -1:], lambda strip: strip / 255.0)
    return _luma(colours[..., :-1]), opacity[..., 0]


def _weighted_sums(
    weights: tf.Tensor, pixels: tf.Tensor, of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """float32 [n, rows] and uint8 [rows, columns, channels] to float32 [n, columns, channels].

    Args:
        weights: The weights of the rows.
        pixels: A picture.
        of: Maps some rows of the picture, in float32, to the values that are summed.
    """
    row_count, column_count, channels = tf.unstack(tf.shape(pixels))
    sums = tf.zeros([tf.shape(weights)[0], column_count * channels])
    for strip in range(_STRIPS):
        # One after another: all strips at once would take the memory of the whole picture.
        with tf.control_dependencies([sums]):
            start, end = row_count * strip // _STRIPS, row_count * (strip + 1) // _STRIPS
            values = of(tf.cast(pixels[start:end], tf.float32))
            values = tf.reshape(values, [end - start, column_count * channels])
            sums += weights[:, start:end] @ values
    return tf.reshape(sums, [-1, column_count, channels])


def _luma(colours: tf.Tensor) -> tf.Tensor:
    """float32 [..., 1 or 3] to [...]; grey counts as equal red, green and blue."""
    return tf.reduce_sum(colours * _LUMA, -1)


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns [any, any] upright; the orientation is an int32 scalar, 1 to 8 as in Exif."""
    image = tf.transpose(image, tf.where(orientation >= 5, [1, 0], [0, 1]))
    # Upside down, and mirrored.
    is_reversed = tf.stack(
        [tf.reduce_any(orientation == [3, 4, 7, 8]), tf.reduce_any(orientation == [2, 3, 6, 7])]
    )
    return tf.reverse(image, image_parts.where(is_reversed, [0, 1]))


def _window_weights(size: tf.Tensor, count: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """The weights for scaling a line of `size` pixels to `count` pixels, `scale` times as wide.

    Each of the `count` pixels averages over a window of its own width, but at least one pixel of
    the source wide: the overlap of that window with two neighbours is linear interpolation.

    Returns:
        float32 [count, size]. A row sums up to 1, or to less where its window leaves the source.
    """
    window = tf.maximum(scale, 1.0)
    count = tf.cast(count, tf.float32)
    centres = (tf.range(count) + (0.5 - count / 2)) * scale + size / 2
    starts = centres[:, tf.newaxis] - window / 2
    pixels = tf.range(size)
    overlap = tf.minimum(starts + window, pixels + 1) - tf.maximum(starts, pixels)
    return tf.maximum(overlap, 0.0) / window
