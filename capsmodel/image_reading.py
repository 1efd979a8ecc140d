"""Reads one PNG or JPEG whose structure is good, and brings it to a size in grey."""

from __future__ import annotations

import functools

import tensorflow as tf

from capsmodel import image_files

MIDDLE_GREY = 127.0
# What is wrong with a JPEG that is to be looked at again.
SUSPECT = 'may lack data'
# Rows and columns of the blocks that a JPEG consists of.
_BLOCK = 8


# Traced once and not wherever pictures are decoded.
@functools.partial(tf.function, autograph=False)
def read_and_fit(
    picture: tf.Tensor,
    is_png: tf.Tensor,
    orientation: tf.Tensor,
    height: int,
    width: int,
    invert_light_background: bool,
    has_suspects: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a picture whose structure is good.

    Args:
        picture: string scalar.
        is_png: bool scalar.
        orientation: int32 scalar, 1 to 8.
        height: Height of the result.
        width: Width of the result.
        invert_light_background: Whether dark on light becomes light on dark.
        has_suspects: Whether a JPEG that may lack data is called SUSPECT; otherwise it is found
            out, which takes another decoding.

    Returns:
        uint8 [height, width] and what is wrong with the picture, a string scalar.
    """
    grey, problem = tf.cond(
        is_png, lambda: _read_png(picture), lambda: _read_jpeg(picture, has_suspects)
    )
    grey = tf.cond(orientation == 1, lambda: grey, lambda: _turn(grey, orientation))
    return _fit(grey, height, width, invert_light_background), problem


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


def _read_jpeg(picture: tf.Tensor, has_suspects: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """string scalar to float32 [any, any], luma in 0..255; and what is wrong."""

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')

    rgb = decode(picture)
    # Where data are missing, the decoder paints grey, and warns, which nobody hears.
    if has_suspects:
        problem = tf.where(_has_grey_block(rgb), SUSPECT, '')
    else:
        is_whole = tf.reduce_all(rgb == decode(image_files.with_more_data(picture)))
        problem = tf.where(is_whole, '', 'is damaged: a part of its pixels is missing')
    return _luma(rgb), problem


def _has_grey_block(rgb: tf.Tensor) -> tf.Tensor:
    """uint8 [any, any, 3] to a bool scalar: whether one of a JPEG's blocks is of middle grey."""

    def look_at_all() -> tf.Tensor:
        is_grey = tf.reduce_all(rgb == 128, axis=-1)
        beyond = tf.stack([tf.zeros([2], tf.int32), -tf.shape(is_grey) % _BLOCK], 1)
        is_grey = tf.pad(is_grey, beyond, constant_values=True)
        rows, columns = tf.unstack(tf.shape(is_grey) // _BLOCK)
        is_grey = tf.reshape(is_grey, [rows, _BLOCK, columns, _BLOCK])
        return tf.reduce_any(tf.reduce_all(is_grey, axis=[1, 3]))

    corners = rgb[::_BLOCK, ::_BLOCK]
    is_possible = tf.reduce_any(tf.reduce_all(corners == 128, axis=-1))
    # To look at every pixel takes twice as long as to decode the picture.
    return tf.cond(is_possible, look_at_all, lambda: False)


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
