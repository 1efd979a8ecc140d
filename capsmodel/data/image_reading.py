"""Reads one PNG or JPEG and converts it to a grey or colour image of a given size."""

from __future__ import annotations

import functools

import tensorflow as tf

from capsmodel.data import image_files, image_parts, jpeg_segments
from capsmodel.data.choices import WHOLE
from capsmodel.data.framing import frame

_MIDDLE_GREY = 127.0
# Of a transparent picture: levels between what touches the ground and the rest.
_CONTRAST = 64.0
CANNOT_BE_DECODED = 'is damaged: its pixels cannot be decoded'
_LACKS_DATA = 'is damaged: a part of its pixels is missing'
# Red, green and blue, by ITU-R BT.601.
_LUMA = (0.2989, 0.5870, 0.1140)
# Rows and columns of a JPEG's blocks, and the places in a block that are checked.
_BLOCK = 8
_PLACES = ((0, 0), (3, 5), (6, 2))
# What all channels of such a pixel have: middle grey, and what this is as CMYK, inverted or not.
_OF_NO_DATA = (128, 64, 63)
# The longer side of what a larger picture is reduced to before it is framed.
_MOST_SIDE = 256


@image_parts.function_of_its_own
def read(
    file: tf.Tensor, height: int, width: int, framing: str, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a picture of any kind.

    Args:
        file: string scalar, any bytes.
        height: Height of the result.
        width: Width of the result.
        framing: See `framing.frame`.
        channels: 1 for a grey image, 3 for colour.

    Returns:
        uint8 [height, width], or [height, width, 3] in colour, and the problem with the
        picture, a string scalar that completes 'Image 3 ...' or is empty.
    """
    found = image_files.examine(file)
    pixels, is_decodable = _decoded(found.decodable, _kind(found))
    problem = tf.where(is_decodable, found.problem, CANNOT_BE_DECODED)
    problem = tf.cond(
        found.is_png | (problem != ''), lambda: problem, lambda: _what_it_lacks(found, pixels)
    )
    # A whole picture is reduced once more, which gives the better means the larger it still is.
    side = (16 if framing == WHOLE else 2) * max(height, width)
    picture = _picture(pixels, found.orientation, max(_MOST_SIDE, side), channels)
    return frame(picture, height, width, framing), problem


def _kind(found: image_files.ImageFile) -> tf.Tensor:
    """int32 scalar: which of the decoders of `_decoded` a file is for."""
    return tf.where(found.is_keyed, 1, tf.where(found.is_halved, 2, 0))


def _decoded(file: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [rows, columns, 1 to 4], and a bool scalar: false if the decoder refuses the file."""

    def decode(file: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # decode_jpeg decodes PNGs, too, with as many channels as there are. But it ignores that a
        # grey or a colour of a PNG may mean transparency.
        jpeg = functools.partial(tf.io.decode_jpeg, file, channels=0, dct_method='INTEGER_ACCURATE')
        decoders = [
            jpeg,
            lambda: tf.io.decode_png(file, channels=4),
            lambda: jpeg(ratio=2),
        ]
        return tf.switch_case(kind, decoders), tf.constant(True)

    # Only tf.data can ignore an error in a graph.
    decoded = tf.data.Dataset.from_tensors((file, kind)).map(decode).ignore_errors()
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
        again, is_decodable = _decoded(with_more, _kind(found))
        return tf.where(is_decodable & tf.reduce_all(again == pixels), '', _LACKS_DATA)

    may_lack = _may_have_grey_block(pixels, tf.where(found.is_halved, 2, 1))
    return tf.cond(may_lack, look_again, lambda: tf.constant(''))


def _may_have_grey_block(pixels: tf.Tensor, reduction: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG may have a block without data.

    It checks some pixels of each block; checking all would take longer than decoding.

    Args:
        pixels: uint8 [any, any, any].
        reduction: int32 scalar: 2 if it was decoded with half as many rows and columns, or 1.

    Returns:
        bool scalar.
    """
    block = _BLOCK // reduction
    blocks = -(-tf.shape(pixels)[:2] // block)
    is_grey = [tf.fill(blocks, True)] * len(_OF_NO_DATA)
    for row, column in _PLACES:
        some = pixels[row // reduction :: block, column // reduction :: block]
        # The picture's edge may cut off the last blocks.
        beyond = tf.stack([tf.zeros([2], tf.int32), blocks - tf.shape(some)[:2]], 1)
        for number, value in enumerate(_OF_NO_DATA):
            is_value = tf.reduce_all(some == value, axis=-1)
            is_grey[number] &= tf.pad(is_value, beyond, constant_values=True)
    return tf.reduce_any(is_grey)


def _picture(pixels: tf.Tensor, orientation: tf.Tensor, most: int, channels: int) -> tf.Tensor:
    """Reduces a picture by area, turns it upright, and converts it to grey or keeps its colours.

    Args:
        pixels: uint8 [rows, columns, channels]. With two or four channels, the last one is alpha.
        orientation: int32 scalar, 1 to 8 as in Exif.
        most: The longer side of the result, at most.
        channels: 1 for grey, 3 for colour.

    Returns:
        float32 [any, any], or [3, any, any] in colour, from 0 to 255.
    """
    size = tf.shape(pixels)[:2]
    longer = tf.reduce_max(size)
    scale = tf.minimum(tf.cast(most / longer, tf.float32), 1)
    size = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32), 1)
    picture = tf.cond(
        tf.shape(pixels)[2] % 2 == 0,
        lambda: _opaque(pixels, size, channels),
        lambda: _converted(_reduced(pixels, size), channels),
    )
    return _turn(picture, orientation)


def _opaque(pixels: tf.Tensor, size: tf.Tensor, channels: int) -> tf.Tensor:
    """float32 [size], or [3, size] in colour.

    It lays a transparent picture, uint8 [rows, columns, 2 or 4], on a ground that it can be seen
    on.
    """
    # 16 bits hold the products, in half the memory of float32.
    colours = tf.cast(pixels[..., :-1], tf.uint16) * tf.cast(pixels[..., -1:], tf.uint16)
    reduced = _reduced(colours, size)
    luma = _luma(reduced) / 255
    opacity = _reduced(pixels[..., -1:], size)[..., 0] / 255
    picture = luma if channels == 1 else _converted(reduced, channels) / 255
    return picture + _ground(luma, opacity) * (1 - opacity)


def _ground(luma: tf.Tensor, opacity: tf.Tensor) -> tf.Tensor:
    """Black or white: what a transparent picture is laid on.

    It is the contrary of what is visible: white below dark strokes. But where the visible part is
    lighter at its edges than within, the ground is white, and black where it is darker there: so
    paper whose white was made transparent is white again below the black strokes left on it.

    Args:
        luma: float32 [any, any], from 0 to 255, times `opacity`.
        opacity: float32 [any, any], from 0 to 1.
    """
    # How opaque the least opaque of a pixel's neighbours is.
    inner = -tf.nn.max_pool2d(-opacity[tf.newaxis, ..., tf.newaxis], 3, 1, 'SAME')[0, ..., 0]
    visible, middle, edge = (
        tf.math.divide_no_nan(tf.reduce_sum(luma * weight), tf.reduce_sum(opacity * weight))
        for weight in (tf.ones_like(inner), inner, 1 - inner)
    )
    has_contrast = (tf.abs(edge - middle) > _CONTRAST) & (tf.reduce_sum(inner) > 0)
    is_light = tf.where(has_contrast, edge > middle, visible <= _MIDDLE_GREY)
    return tf.where(is_light, 255.0, 0.0)


def _reduced(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """[any, any, channels], uint8 or uint16, to float32 [size, channels], by area."""
    return tf.raw_ops.ResizeArea(images=pixels[tf.newaxis], size=size)[0]


def _converted(colours: tf.Tensor, channels: int) -> tf.Tensor:
    """float32 [size, 1 or 3] to [size], or to [3, size] in colour."""
    if channels == 1:
        return _luma(colours)
    return tf.ensure_shape(tf.transpose(colours + tf.zeros([3]), [2, 0, 1]), [3, None, None])


def _luma(colours: tf.Tensor) -> tf.Tensor:
    """float32 [..., 1 or 3] to [...]; grey counts as equal red, green and blue."""
    return tf.reduce_sum(colours * _LUMA, -1)


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns [..., any, any] upright; the orientation is an int32 scalar, 1 to 8 as in Exif."""
    *others, row, column = range(image.shape.rank)
    image = tf.transpose(
        image, tf.where(orientation >= 5, [*others, column, row], [*others, row, column])
    )
    # Upside down, and mirrored.
    is_reversed = tf.stack(
        [tf.reduce_any(orientation == [3, 4, 7, 8]), tf.reduce_any(orientation == [2, 3, 6, 7])]
    )
    return tf.reverse(image, image_parts.where(is_reversed, [row, column]))
