"""Brings a picture to the size of a network's images.

There are two ways. One scales the whole picture. The other finds the strokes of a digit or letter,
and frames them as MNIST's makers did.

MNIST's digits were scaled, with their aspect ratio kept, to fit into a box of 20 x 20 pixels. Then
they were placed so that their centre of mass is the centre of 28 x 28 pixels (LeCun, Bottou,
Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE
86(11), 1998, section III.A). A network that has learned from them has hardly seen a digit of
another size, in another place, or drawn with another pen.
"""

from __future__ import annotations

import tensorflow as tf

from capsmodel.data import image_parts, ink
from capsmodel.data.choices import WHOLE

# The longer side of the box that strokes are scaled to, as a fraction of the image's shorter side.
_BOX = 20 / 28
# How far the box and the centre of mass of an image that is framed already may be off, in pixels.
_TOLERANCE = 1.0
# A stroke ends where it has this fraction of its contrast.
_STROKE_LEVEL = 0.4
# Widths of strokes in MNIST, in pixels of 28: thinner ones are widened, thicker ones are thinned.
_THIN, _THICK = 2.0, 3.0


def frame(picture: tf.Tensor, height: int, width: int, framing: str) -> tf.Tensor:
    """Brings one picture to the size of a network's images.

    Args:
        picture: float32 [rows, columns], or [3, rows, columns] in colour, from 0 to 255, rows and
            columns at least 1.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        framing: WHOLE: the picture is scaled to fit and centred. STROKES, for grey pictures:
            specks are left out, and the strokes are cropped, scaled, placed and brought to the
            width of a pen as in MNIST. A picture that is framed so already, see `need_no_framing`,
            is at most inverted.

    Returns:
        uint8 [height, width], or [height, width, 3] in colour. With STROKES it is light on
        black, and all 0 if the picture has no strokes.
    """
    if framing == WHOLE:
        image = _fitted(picture, height, width)
        return image if image.shape.rank == 2 else tf.transpose(image, [1, 2, 0])
    has_size = tf.reduce_all(tf.shape(picture) == [height, width])
    same = tf.cond(
        has_size,
        lambda: tf.cast(tf.round(tf.reshape(picture, [1, height, width])), tf.uint8),
        lambda: tf.zeros([1, height, width], tf.uint8),
    )
    images, is_framed = need_no_framing(same, framing)
    return tf.cond(
        is_framed[0],
        lambda: images[0],
        lambda: _strokes(picture, height, width),
    )


@image_parts.function_of_its_own
def _strokes(picture: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """float32 [any, any] to uint8 [height, width], see `frame`."""
    return tf.cast(tf.round(255 * _pen(_placed(ink.find(picture), height, width))), tf.uint8)


def need_no_framing(images: tf.Tensor, framing: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the images that `frame` would at most invert, among those of the right size.

    With STROKES, these have strokes in the size and the place that `frame` would give them, on a
    background of one level. All images of MNIST are such images.

    Args:
        images: uint8 [n, height, width], or, with WHOLE, [n, height, width, 3] in colour.
        framing: WHOLE or STROKES.

    Returns:
        Images of the same shape, with STROKES light on dark; bool [n], whether `frame` gives these.
    """
    if framing == WHOLE:
        return images, tf.fill([tf.shape(images)[0]], True)
    height, width = images.shape[1:]
    images = tf.where(images[:, :1, :1] > 127, 255 - images, images)
    values = tf.cast(images, tf.float32)
    framed = tf.reduce_max(values, [1, 2]) > 127
    longer = tf.zeros_like(values[:, 0, 0])
    for axis, size in ((2, height), (1, width)):
        levels = tf.reduce_sum(values, axis)
        places = tf.range(size, dtype=tf.float32)
        last = tf.reduce_max(tf.where(levels > 0, places, -1), 1)
        first = tf.reduce_min(tf.where(levels > 0, places, size), 1)
        longer = tf.maximum(longer, last - first + 1)
        centre = tf.linalg.matvec(levels, places + 0.5) / tf.reduce_sum(levels, 1)
        # `_placed` rounds up, so the centre is up to a pixel beyond the middle.
        framed &= tf.abs(centre - (size + 1) / 2) <= _TOLERANCE
    return images, framed & (tf.abs(longer - _box(height, width)) <= _TOLERANCE)


def _fitted(picture: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Scales a picture to fit, and centres it.

    Args:
        picture: float32 [..., any, any], from 0 to 255.
        height: Height of the result.
        width: Width of the result.

    Returns:
        uint8 [..., height, width], filled with the mean of the picture's border where it does not
        reach.
    """
    size = tf.cast(tf.shape(picture)[-2:], tf.float32)
    scale = tf.reduce_max(size / [height, width])
    rows = _window_weights(size[0], height, scale)
    columns = _window_weights(size[1], width, scale)
    edges = (picture[..., 0, :], picture[..., -1, :])
    sides = (picture[..., 1:-1, 0], picture[..., 1:-1, -1])
    border = tf.reduce_mean(tf.concat([*edges, *sides], -1), -1)[..., tf.newaxis, tf.newaxis]
    covered = tf.reduce_sum(rows, 1)[:, tf.newaxis] * tf.reduce_sum(columns, 1)
    image = rows @ tf.matmul(picture, columns, transpose_b=True)
    return tf.cast(tf.round(image + border * (1 - covered)), tf.uint8)


def _window_weights(size: tf.Tensor, count: int, scale: tf.Tensor) -> tf.Tensor:
    """The weights for scaling a line of `size` pixels to `count` pixels, `scale` times as wide.

    Each of the `count` pixels averages over a window of its own width, but at least one pixel of
    the source wide: the overlap of that window with two neighbours is linear interpolation.

    Returns:
        float32 [count, size]. A row sums up to 1, or to less where its window leaves the source.
    """
    window = tf.maximum(scale, 1.0)
    centres = (tf.range(count, dtype=tf.float32) + (0.5 - count / 2)) * scale + size / 2
    starts = centres[:, tf.newaxis] - window / 2
    return _overlaps(starts, window, size)


def _overlaps(starts: tf.Tensor, window: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [n, size]: which share of n windows, from [n, 1] starts, each of the pixels has."""
    pixels = tf.range(tf.cast(size, tf.float32))
    overlap = tf.minimum(starts + window, pixels + 1) - tf.maximum(starts, pixels)
    return tf.maximum(overlap, 0.0) / window


def _placed(contrast: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Crops ink to its strokes, scales them to the box, and centres them by mass.

    They are moved by whole pixels, as in MNIST, and stay inside the image.

    Args:
        contrast: float32 [rows, columns], what `ink.find` returns.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        float32 [height, width], from 0 to 1.
    """
    is_stroke = contrast > _STROKE_LEVEL
    top, bottom = _extent(tf.reduce_any(is_stroke, 1))
    left, right = _extent(tf.reduce_any(is_stroke, 0))
    scale = tf.maximum(bottom - top, right - left) / _box(height, width)
    rows = _line_weights(tf.reduce_sum(contrast, 1), top, bottom, scale, height)
    columns = _line_weights(tf.reduce_sum(contrast, 0), left, right, scale, width)
    image = tf.matmul(rows @ contrast, columns, transpose_b=True)
    # Strokes that are narrower than a pixel have become faint.
    strong = tf.maximum(ink.quantile(tf.concat([image[image > 0.1], [0.0]], 0), 0.9), 0.05)
    image = tf.clip_by_value(image / tf.minimum(strong, 1), 0, 1)
    # Strokes that have become larger have blurred edges.
    return tf.clip_by_value((image - 0.5) * tf.clip_by_value(1 / scale, 1, 2) + 0.5, 0, 1)


def _extent(is_stroke: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """bool [n] to two float32 scalars: where the first stroke begins and where the last one ends.

    Without strokes, that is one pixel.
    """
    places = tf.range(tf.size(is_stroke))
    end = tf.reduce_max(tf.where(is_stroke, places + 1, 1))
    begin = tf.reduce_min(tf.where(is_stroke, places, end - 1))
    return tf.cast(begin, tf.float32), tf.cast(end, tf.float32)


def _line_weights(
    mass: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, scale: tf.Tensor, size: int
) -> tf.Tensor:
    """The weights that crop, scale and place the rows of a picture, or its columns.

    A pixel of the result averages over a window of its own width, but at least one pixel of the
    source wide: the overlap of that window with two neighbours is linear interpolation.

    Args:
        mass: float32 [n], the ink of each row.
        begin: Where the part begins that is kept, in rows.
        end: Where it ends.
        scale: Rows of the source for each row of the result.
        size: The number of rows of the result.

    Returns:
        float32 [size, n].
    """
    count = tf.clip_by_value(tf.round((end - begin) / scale), 1, size)
    step = (end - begin) / count
    sources = tf.range(tf.cast(tf.size(mass), tf.float32))
    centre = tf.math.divide_no_nan(tf.reduce_sum(mass * (sources + 0.5)), tf.reduce_sum(mass))
    # Rounded up, as MNIST's makers did: that puts its digits, enlarged and moved, back in place.
    first = tf.clip_by_value(tf.math.ceil(size / 2 - (centre - begin) / step), 0, size - count)
    places = (tf.range(size, dtype=tf.float32) - first)[:, tf.newaxis]
    window = tf.maximum(step, 1)
    starts = begin + (places + 0.5) * step - window / 2
    is_kept = (places >= 0) & (places < count)
    return tf.where(is_kept, _overlaps(starts, window, tf.size(mass)), 0)


def _pen(image: tf.Tensor) -> tf.Tensor:
    """Widens thin strokes and thins thick ones towards the widths of MNIST.

    The mean width of strokes is twice their area by the length of their edges.

    Args:
        image: float32 [height, width], from 0 to 1.

    Returns:
        The same shape.
    """
    down, right = (image[1:] - image[:-1])[:, :-1], (image[:, 1:] - image[:, :-1])[:-1]
    edges = tf.reduce_sum(tf.sqrt(down**2 + right**2))
    width = 28 / min(image.shape) * tf.math.divide_no_nan(2 * tf.reduce_sum(image), edges)
    kernel = tf.constant([1.0, 2.0, 1.0]) / 4
    kernel = tf.reshape(kernel[:, tf.newaxis] * kernel, [3, 3, 1, 1])
    blurred = tf.nn.conv2d(image[tf.newaxis, ..., tf.newaxis], kernel, 1, 'SAME')[0, ..., 0]
    # A line of one pixel keeps its strength, and gets two sides of half of it.
    share = tf.clip_by_value(_THIN - width, 0, 1)
    image = tf.clip_by_value(image + share * (2 * blurred - image), 0, 1)
    share = tf.clip_by_value((width - _THICK) / 2, 0, 1)
    return image + share * (ink.smallest_near(image[tf.newaxis], 3)[0] - image)


def _box(height: int, width: int) -> int:
    """The longer side of the box that strokes are scaled to, in pixels."""
    return round(_BOX * min(height, width))
