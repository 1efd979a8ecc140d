"""Reads one PNG or JPEG whose structure is good, and brings it to a size in grey."""

from __future__ import annotations

import functools

import tensorflow as tf

from capsmodel import image_files

MIDDLE_GREY = 127.0
# What is wrong with a JPEG that is to be looked at again.
SUSPECT = 'may lack data'
# Rows and columns of the blocks that a JPEG consists of, and some places in a block.
_BLOCK = 8
_PLACES = ((0, 0), (3, 5), (6, 2))


# Traced once for each size, and not wherever pictures are decoded.
@functools.partial(tf.function, autograph=False)
def read_and_fit(
    picture: tf.Tensor,
    is_png: tf.Tensor,
    orientation: tf.Tensor,
    height: int,
    width: int,
    invert_light_background: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a picture whose structure is good.

    Args:
        picture: string scalar.
        is_png: bool scalar.
        orientation: int32 scalar, 1 to 8.
        height: Height of the result.
        width: Width of the result.
        invert_light_background: Whether dark on light becomes light on dark.

    Returns:
        uint8 [height, width] and what is wrong with the picture, a string scalar: SUSPECT where
        `lacks_data` is to tell.
    """
    grey, problem = tf.cond(is_png, lambda: _read_png(picture), lambda: _read_jpeg(picture))
    return _fit(_turn(grey, orientation), height, width, invert_light_background), problem


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def lacks_data(jpeg: tf.Tensor) -> tf.Tensor:
    """string scalar to a bool scalar: whether the decoder has no data for a part of the pixels.

    It paints them grey, and warns, which nobody hears.
    """
    return tf.reduce_any(_decode_jpeg(jpeg) != _decode_jpeg(image_files.with_more_data(jpeg)))


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
    ground = tf.where(visible > MIDDLE_GREY, 0.0, 255.0)
    return ground + alpha * (luma - ground), tf.constant('')


def _read_jpeg(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """string scalar to float32 [any, any], luma in 0..255; and what is wrong."""
    rgb = _decode_jpeg(picture)
    return _luma(rgb), tf.where(_may_have_grey_block(rgb), SUSPECT, '')


def _decode_jpeg(jpeg: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')


def _may_have_grey_block(rgb: tf.Tensor) -> tf.Tensor:
    """uint8 [any, any, 3] to a bool scalar: whether a JPEG's block may be of middle grey alone.

    Some pixels of each block are looked at: all of them take longer than the decoding.
    """
    blocks = -(-tf.shape(rgb)[:2] // _BLOCK)
    is_grey = tf.fill(blocks, True)
    for row, column in _PLACES:
        some = tf.reduce_all(rgb[row::_BLOCK, column::_BLOCK] == 128, axis=-1)
        # The last blocks may be cut off by the picture's edge.
        beyond = tf.stack([tf.zeros([2], tf.int32), blocks - tf.shape(some)], 1)
        is_grey &= tf.pad(some, beyond, constant_values=True)
    return tf.reduce_any(is_grey)


def _luma(rgb: tf.Tensor) -> tf.Tensor:
    """uint8 [..., 3] to float32 [...] in 0..255."""
    return tf.image.rgb_to_grayscale(tf.cast(rgb, tf.float32))[..., 0]


def _turn(grey: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """[any, any] as the eye is to see it; the orientation is an int32 scalar, 1 to 8, of Exif's."""
    grey = tf.transpose(grey, tf.where(orientation >= 5, [1, 0], [0, 1]))
    # Upside down, and mirrored.
    is_reversed = tf.stack(
        [tf.reduce_any(orientation == [3, 4, 7, 8]), tf.reduce_any(orientation == [2, 3, 6, 7])]
    )
    return tf.reverse(grey, tf.boolean_mask([0, 1], is_reversed))


def border_mean(images: tf.Tensor) -> tf.Tensor:
    """[..., height, width] of any dtype to float32 [...]: mean of the outermost pixels."""
    border = tf.concat(
        [images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1]], -1
    )
    return tf.reduce_mean(tf.cast(border, tf.float32), axis=-1)


def _fit(grey: tf.Tensor, height: int, width: int, invert_light_background: bool) -> tf.Tensor:
    """float32 [any, any] to uint8 [height, width]: inverted if light, scaled, centred."""
    level = border_mean(grey)
    if invert_light_background:
        light = level > MIDDLE_GREY
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
