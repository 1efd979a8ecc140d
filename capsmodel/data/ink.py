"""Tells the ink of a picture from its background, be it dark on light or light on dark."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Background and pieces are searched for in a copy whose longer side has this many pixels.
_SMALL = 64
# Rounds of fitting the background, of which the first half looks at the border only.
_FITS = 6
# Windows in pixels of the small copy: one that is wider than any stroke but not than a shadow or a
# sheet, and one that is wider than most strokes on a sheet.
_SHADOW = 25
_STROKE = 9
# Contrast of a sheet with what it lies on, in levels of grey; the least share of the sheet that has
# it; and how much there may be around the sheet, as a share of what the sheet has.
_SHEET_CONTRAST, _SHEET_SHARE, _AROUND_SHARE = 40.0, 0.8, 0.1
# Least contrast of ink: as a multiple of the noise's standard deviation, and in levels of grey.
_NOISE_FACTOR = 5.0
_LEAST_CONTRAST = 8.0
# In the small copy, where strokes are blurred, ink has this fraction of the strongest contrast.
_LEAST_SHARE = 0.25
# A speck has less ink than this fraction of the connected piece with the most ink.
_SPECK = 0.1
# Rounds of joining pieces that touch, and how often a round doubles the length of the chains of
# pieces that it joins. Spirals and random dots of 64 x 64 pixels need up to 5 rounds.
_JOINING, _DOUBLING = 6, 5


def find(grey: tf.Tensor) -> tf.Tensor:
    """Finds the ink of a picture.

    What is darker or lighter than the background is ink, whichever has more contrast. Shadows and
    specks are not ink, and neither is what a sheet lies on.

    Args:
        grey: float32 [rows, columns], from 0 to 255, both at least 1.

    Returns:
        float32 [rows, columns], from 0 to 1, the contrast of strokes; all 0 if it finds no strokes.
    """
    size = tf.shape(grey)
    longer = tf.maximum(tf.reduce_max(size), _SMALL)
    small_size = tf.maximum(size * _SMALL // longer, 1)
    small = _reduced(grey, small_size)
    sheet, level = _sheet(small)
    small = tf.where(sheet, small, level)
    grey = tf.where(_nearest(sheet, size), grey, level)
    surface, least = _background(small)
    polarity, shadow, contrast = _polarity(small - _evaluated(surface, small_size), least)
    strokes = _without_specks(contrast, least)
    # Back at full size, one pixel of the small copy wider.
    near = _nearest(largest_near(strokes[tf.newaxis], 3)[0], size)
    shadow = tf.image.resize(shadow[..., tf.newaxis], size)[..., 0]
    ink = ((grey - _evaluated(surface, size)) * polarity - shadow) * near
    is_strong = tf.cast(ink > 0.5 * tf.reduce_max(ink), tf.float32)
    whole = tf.math.divide_no_nan(tf.reduce_sum(ink * is_strong), tf.reduce_sum(is_strong))
    is_found = tf.cast(whole > _LEAST_CONTRAST, tf.float32)
    return is_found * tf.clip_by_value(tf.math.divide_no_nan(ink, whole), 0, 1)


def _reduced(grey: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [any, any] to float32 [size], by area."""
    return tf.raw_ops.ResizeArea(images=grey[tf.newaxis, ..., tf.newaxis], size=size)[0, ..., 0]


def _nearest(grey: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [any, any] to float32 [size], each value that of the nearest pixel."""
    # Columns first, in few rows: more rows are then only copied.
    for axis in (1, 0):
        count = tf.shape(grey)[axis]
        grey = tf.gather(grey, tf.range(size[axis]) * count // size[axis], axis=axis)
    return grey


def _sheet(grey: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds a sheet that lies on something else, as a table that is seen around it.

    The sheet is what differs from the background of the border, is wider than any stroke, and
    reaches no border.

    Args:
        grey: float32 [rows, columns].

    Returns:
        bool [rows, columns], the inside of the sheet, or all of the picture if there is no sheet;
        float32 scalar, the median there.
    """
    size = tf.shape(grey)
    surface, _ = _background(grey, border_only=True)
    contrast = tf.abs(grey - _evaluated(surface, size))[tf.newaxis]
    # Strokes on the sheet may be like what is around it: they are filled, but not up to the border.
    padded = tf.pad(contrast, [[0, 0], [_STROKE, _STROKE], [_STROKE, _STROKE]])
    filled = smallest_near(largest_near(padded, _STROKE), _STROKE)
    filled = filled[:, _STROKE:-_STROKE, _STROKE:-_STROKE]
    opened = largest_near(smallest_near(filled, _SHADOW), _SHADOW)
    is_sheet = tf.cast(opened > _SHEET_CONTRAST, tf.float32)
    edges = tf.concat([is_sheet[0, 0], is_sheet[0, -1], is_sheet[0, :, 0], is_sheet[0, :, -1]], 0)
    # The sheet's edge is left out.
    inside = smallest_near(is_sheet, 5) > 0
    # Nearly all of the sheet has this contrast, and nearly nothing around it: a thick digit that
    # fills the picture, or noise, is no sheet.
    differs = tf.cast(contrast > _SHEET_CONTRAST, tf.float32)
    of_sheet = tf.reduce_sum(differs * is_sheet)
    of_surroundings = tf.reduce_sum(differs * (1 - largest_near(is_sheet, 5)))
    is_found = (
        (of_sheet > _SHEET_SHARE * tf.reduce_sum(is_sheet))
        & (of_surroundings < _AROUND_SHARE * of_sheet)
        & (tf.reduce_max(edges) < 0.5)
        & tf.reduce_any(inside)
    )
    inside = inside[0] | ~is_found
    return inside, quantile(grey[inside], 0.5)


def _background(grey: tf.Tensor, border_only: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Fits a surface of second degree to a picture's background: light falls off across a sheet.

    The fit looks at the border, and then at all of the picture. It is a weighted least squares that
    is repeated with smaller weights for pixels far from the surface, as Cauchy's distribution has
    them. It begins with the median of the border.

    Args:
        grey: float32 [rows, columns].
        border_only: Whether it looks at the border only.

    Returns:
        float32 [6, 1], the coefficients of `_terms`; and a float32 scalar, the least contrast that
        noise does not have.
    """
    size = tf.shape(grey)
    terms = tf.reshape(_terms(size), [-1, 6])
    values = tf.reshape(grey, [-1, 1])
    strip = tf.maximum(tf.reduce_min(size) // 16, 1)
    rows, columns = (tf.minimum(tf.range(n), n - 1 - tf.range(n)) for n in tf.unstack(size))
    is_border = tf.reshape((rows < strip)[:, tf.newaxis] | (columns < strip), [-1, 1])
    median = tf.concat([[[quantile(values[is_border], 0.5)]], tf.zeros([5, 1])], 0)

    def fit(surface: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        differences = values - terms @ surface
        looked_at = is_border | (index >= _FITS // 2)
        scale = 2 * _noise(differences[looked_at]) + 2
        weights = tf.cast(looked_at, tf.float32) / (1 + (differences / scale) ** 2) ** 2
        # Keeps the surface flat where a few pixels alone would bend it.
        flatness = tf.linalg.diag([0.0] + [1.0] * 5) * tf.where(index == 0, 1e-3, 1e-4)
        weighted = terms * weights
        normal = tf.matmul(weighted, terms, transpose_a=True) + flatness * tf.reduce_sum(weights)
        return tf.linalg.solve(normal, tf.matmul(weighted, values, transpose_a=True))

    surface = _repeated(fit, median, _FITS // 2 if border_only else _FITS)
    return surface, _NOISE_FACTOR * _noise(values - terms @ surface)


def _repeated(
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], value: tf.Tensor, rounds: int
) -> tf.Tensor:
    """Changes a value in each round, whose index is the second argument.

    A loop in Python would put each round into the graph, and whatever loads a model reads that.
    """
    _, value = tf.while_loop(
        lambda index, _: index < rounds,
        lambda index, value: (index + 1, change(value, index)),
        (0, value),
    )
    return value


def _terms(size: tf.Tensor) -> tf.Tensor:
    """float32 [size, 6]: 1, x, y, x^2, xy, y^2 of each pixel, where x and y are from -1 to 1."""
    y, x = ((2 * tf.range(n) + 1) / n - 1 for n in tf.unstack(tf.cast(size, tf.float32)))
    x, y = tf.broadcast_to(x, size), tf.broadcast_to(y[:, tf.newaxis], size)
    return tf.stack([tf.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _evaluated(surface: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [size]: the levels of a surface, [6, 1]."""
    return tf.reshape(tf.reshape(_terms(size), [-1, 6]) @ surface, size)


def _noise(differences: tf.Tensor) -> tf.Tensor:
    """The standard deviation of normal noise, even if most of the values are something else."""
    # A quarter of the absolute values of a normal distribution is below 0.3186 deviations.
    return quantile(tf.abs(differences), 0.25) / 0.3186


def quantile(values: tf.Tensor, fraction: float) -> tf.Tensor:
    """The quantile of all values, a scalar; 0 <= fraction < 1."""
    place = tf.cast(fraction * tf.cast(tf.size(values), tf.float32), tf.int32)
    # Sorting takes several times as long.
    return tf.raw_ops.NthElement(input=tf.reshape(values, [-1]), n=place)


def _polarity(difference: tf.Tensor, least: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decides whether ink is darker or lighter than the background.

    It is what has more contrast, but not counting shadows: what is as wide as no stroke.

    Args:
        difference: float32 [rows, columns], from the background.
        least: float32 scalar, contrast that counts.

    Returns:
        float32 scalar, -1 for dark ink and 1 for light ink; float32 [rows, columns] each, the
        contrast of shadows and that of ink.
    """
    least += _LEAST_CONTRAST / 2
    polarities = tf.constant([1.0, -1.0])
    contrast = polarities[:, tf.newaxis, tf.newaxis] * difference
    opened = largest_near(smallest_near(contrast, _SHADOW), _SHADOW)
    shadow = tf.nn.relu(opened - least)
    contrast -= shadow
    power = tf.reduce_sum(tf.nn.relu(contrast - least) ** 2, [1, 2])
    chosen = tf.argmax(power)
    return polarities[chosen], shadow[chosen], contrast[chosen]


def largest_near(values: tf.Tensor, side: int) -> tf.Tensor:
    """float32 [n, rows, columns]: for each pixel the largest value in the square around it."""
    values = values[..., tf.newaxis]
    values = tf.nn.max_pool2d(values, [side, 1], 1, 'SAME')
    return tf.nn.max_pool2d(values, [1, side], 1, 'SAME')[..., 0]


def smallest_near(values: tf.Tensor, side: int) -> tf.Tensor:
    """float32 [n, rows, columns]: for each pixel the smallest value in the square around it."""
    return -largest_near(-values, side)


def _without_specks(contrast: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """float32 [rows, columns]: 1 where a connected piece has ink, but for specks; else 0."""
    strongest = tf.math.top_k(tf.reshape(contrast, [-1]), tf.minimum(8, tf.size(contrast)))
    least = tf.maximum(least, _LEAST_CONTRAST)
    least = tf.maximum(least, _LEAST_SHARE * tf.reduce_mean(strongest.values))
    is_ink = contrast > least
    pieces = _pieces(is_ink)
    masses = tf.math.unsorted_segment_sum(
        tf.where(is_ink, contrast, 0.0), pieces, tf.size(contrast) + 1
    )
    is_kept = masses > _SPECK * tf.reduce_max(masses)
    return tf.cast(tf.gather(is_kept, pieces) & is_ink, tf.float32)


def _pieces(is_ink: tf.Tensor) -> tf.Tensor:
    """Numbers the connected pieces of ink: pixels that touch, if only by a corner, are connected.

    At first each pixel has a number of its own. In each round, the pixels of one number look for
    the largest number beside them, and take it, or rather that which it is itself replaced by, and
    so on.

    Args:
        is_ink: bool [rows, columns].

    Returns:
        int32 [rows, columns], 0 where no ink is, at most rows * columns.
    """
    size, count = tf.shape(is_ink), tf.size(is_ink) + 1
    inside = tf.cast(is_ink, tf.float32)
    numbers = tf.reshape(tf.range(1, count), size) * tf.cast(is_ink, tf.int32)

    def join(numbers: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        near = largest_near(tf.cast(numbers, tf.float32)[tf.newaxis], 3)[0] * inside
        # By number: the one that it is replaced by.
        larger = tf.math.unsorted_segment_max(tf.cast(near, tf.int32), numbers, count)
        larger = tf.maximum(larger, 0)  # no pixel has this number
        for _ in range(_DOUBLING):
            larger = tf.gather(larger, larger)
        return tf.gather(larger, numbers)

    return _repeated(join, numbers, _JOINING)
