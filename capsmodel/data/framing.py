"""Finds the strokes in a picture of a digit or letter, and frames them as MNIST's makers did.

MNIST's digits were scaled, with their aspect ratio kept, to fit into a box of 20 x 20 pixels. Then
they were placed so that their centre of mass is the centre of 28 x 28 pixels (LeCun, Bottou,
Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE
86(11), 1998, section III.A). A network that has learned from them has hardly seen a digit of
another size, in another place, or drawn with another pen.
"""

from __future__ import annotations

import tensorflow as tf

# Values of FRAMING that Transform knows: find the strokes and frame them, or scale the whole image.
STROKES, WHOLE = 'strokes', 'whole'

# The longer side of the box that strokes are scaled to, as a fraction of the image's shorter side.
_BOX = 20 / 28
# How far the box and the centre of mass of an image that is framed already may be off, in pixels.
_TOLERANCE = 1.0
# Background and strokes are searched for in a copy whose longer side has this many pixels.
_SMALL = 64
# Rounds of fitting the background, of which the first half looks at the border only.
_FITS = 6
# The window, in pixels of the small copy, that is wider than any stroke but not than a shadow.
_SHADOW = 25
# Least contrast of ink: as a multiple of the noise's standard deviation, and in levels of grey.
_NOISE_FACTOR = 4.0
_LEAST_CONTRAST = 8.0
# A stroke ends where its ink has this fraction of its contrast; in the small copy, where strokes
# are blurred, this one of the strongest contrast.
_STROKE_LEVEL = 0.4
_SMALL_LEVEL = 0.25
# A speck has less ink than this fraction of the connected piece with the most ink.
_SPECK = 0.1
# Rounds of joining neighbours to pieces. Each one more than doubles the length that is joined.
_JOINING = 10
# Widths of strokes in MNIST, in pixels: thinner ones are widened and thicker ones are thinned.
_THIN, _THICK = 2.0, 3.0


def as_framed(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the images that `frame` need not change but for their polarity.

    Their strokes have the size and the place that `frame` would give them, and their background is
    of one level. All images of MNIST are such images.

    Args:
        images: uint8 [n, height, width].

    Returns:
        uint8 [n, height, width], with those inverted whose first pixel is light; bool [n], whether
        it is such an image.
    """
    height, width = images.shape[1:]
    images = tf.where(images[:, :1, :1] > 127, 255 - images, images)
    values = tf.cast(images, tf.float32)
    framed = tf.reduce_max(values, [1, 2]) > 127
    longer = tf.zeros_like(values[:, 0, 0])
    for axis, size in ((2, height), (1, width)):
        ink = tf.reduce_sum(values, axis)
        places = tf.range(size, dtype=tf.float32)
        last = tf.reduce_max(tf.where(ink > 0, places, -1), 1)
        first = tf.reduce_min(tf.where(ink > 0, places, size), 1)
        longer = tf.maximum(longer, last - first + 1)
        centre = tf.linalg.matvec(ink, places + 0.5) / tf.reduce_sum(ink, 1)
        # `_placed` rounds up, so the centre is up to a pixel beyond the middle.
        framed &= tf.abs(centre - (size + 1) / 2) <= _TOLERANCE
    return images, framed & (tf.abs(longer - _box(height, width)) <= _TOLERANCE)


def frame(grey: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Frames the strokes of one picture.

    What is darker or lighter than the background is ink, and the rarer of the two is meant. Specks
    of ink are left out, the rest is cropped, scaled and placed, and brought to a pen's width as in
    MNIST. A picture that `as_framed` finds is not changed but for its polarity.

    Args:
        grey: float32 [rows, columns], from 0 to 255, both at least 1.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        uint8 [height, width], light strokes on black; all 0 if there are none.
    """
    has_size = tf.reduce_all(tf.shape(grey) == [height, width])
    same = tf.cond(
        has_size,
        lambda: tf.cast(tf.round(tf.reshape(grey, [1, height, width])), tf.uint8),
        lambda: tf.zeros([1, height, width], tf.uint8),
    )
    images, framed = as_framed(same)
    return tf.cond(framed[0], lambda: images[0], lambda: _framed(grey, height, width))


def _framed(grey: tf.Tensor, height: int, width: int) -> tf.Tensor:
    size = tf.shape(grey)
    longer = tf.maximum(tf.reduce_max(size), _SMALL)
    small_size = tf.maximum(size * _SMALL // longer, 1)
    small = _reduced(grey, small_size)
    surface, least = _background(small)
    difference = small - _evaluated(surface, small_size)
    polarity, shadow, contrast = _polarity(difference, least)
    strokes = _without_specks(contrast, least)
    # Back at full size, one pixel of the small copy wider.
    near = _nearest(_largest_near(strokes, 3), size)
    shadow = tf.image.resize(shadow[..., tf.newaxis], size)[..., 0]
    ink = ((grey - _evaluated(surface, size)) * polarity - shadow) * near
    strong = tf.cast(ink > 0.5 * tf.reduce_max(ink), tf.float32)
    stroke_contrast = tf.math.divide_no_nan(tf.reduce_sum(ink * strong), tf.reduce_sum(strong))
    ink = tf.clip_by_value(tf.math.divide_no_nan(ink, stroke_contrast), 0, 1)
    is_found = stroke_contrast > _LEAST_CONTRAST
    image = _like_mnists_pen(_placed(ink, height, width)) * tf.cast(is_found, tf.float32)
    return tf.cast(tf.round(255 * image), tf.uint8)


def _reduced(grey: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [any, any] to float32 [size], by area."""
    return tf.raw_ops.ResizeArea(images=grey[tf.newaxis, ..., tf.newaxis], size=size)[0, ..., 0]


def _nearest(grey: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [any, any] to float32 [size], each value that of the nearest pixel."""
    for axis in (0, 1):
        count = tf.shape(grey)[axis]
        grey = tf.gather(grey, tf.range(size[axis]) * count // size[axis], axis=axis)
    return grey


def _background(grey: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fits a surface of second degree to a picture's background: light falls off across a sheet.

    The fit is a weighted least squares that is repeated with smaller weights for pixels far from
    the surface, as Cauchy's distribution has them. It begins with the median of the border.

    Args:
        grey: float32 [rows, columns].

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
    surface = tf.concat([[[_quantile(values[is_border], 0.5)]], tf.zeros([5, 1])], 0)
    for round_ in range(_FITS):
        differences = values - terms @ surface
        looked_at = is_border if round_ < _FITS // 2 else tf.ones_like(is_border)
        scale = 2 * _noise(differences[looked_at]) + 2
        weights = tf.cast(looked_at, tf.float32) / (1 + (differences / scale) ** 2) ** 2
        # Keeps the surface flat where a few pixels alone would bend it.
        flatness = tf.linalg.diag([0.0] + [1e-3 if round_ == 0 else 1e-4] * 5)
        weighted = terms * weights
        normal = tf.matmul(weighted, terms, transpose_a=True) + flatness * tf.reduce_sum(weights)
        surface = tf.linalg.solve(normal, tf.matmul(weighted, values, transpose_a=True))
    return surface, _NOISE_FACTOR * _noise(values - terms @ surface)


def _terms(size: tf.Tensor) -> tf.Tensor:
    """float32 [size, 6]: 1, x, y, x^2, xy, y^2 of each pixel, where x and y are from -1 to 1."""
    y, x = ((2 * tf.range(n) + 1) / n - 1 for n in tf.unstack(tf.cast(size, tf.float32)))
    x, y = tf.broadcast_to(x, size), tf.broadcast_to(y[:, tf.newaxis], size)
    return tf.stack([tf.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _evaluated(surface: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """float32 [size]: the levels of a surface, [6, 1]."""
    return tf.reshape(tf.reshape(_terms(size), [-1, 6]) @ surface, size)


def _noise(differences: tf.Tensor) -> tf.Tensor:
    """The standard deviation of normal noise, of whose values up to three quarters are something
    else: a quarter of its absolute values is below 0.3186 deviations.
    """
    return _quantile(tf.abs(differences), 0.25) / 0.3186


def _quantile(values: tf.Tensor, fraction: float) -> tf.Tensor:
    """The quantile of all values, a scalar; 0 <= fraction < 1."""
    ordered = tf.sort(tf.reshape(values, [-1]))
    return ordered[tf.cast(fraction * tf.cast(tf.size(ordered), tf.float32), tf.int32)]


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
    found = []
    for polarity in (-1.0, 1.0):
        contrast = polarity * difference
        opened = _largest_near(-_largest_near(-contrast, _SHADOW), _SHADOW)
        shadow = tf.nn.relu(opened - least)
        power = tf.reduce_sum(tf.nn.relu(contrast - shadow - least) ** 2)
        found.append((power, polarity, shadow, contrast - shadow))
    is_dark = found[0][0] > found[1][0]
    polarity, shadow, contrast = (
        tf.where(is_dark, dark, light) for dark, light in list(zip(*found, strict=True))[1:]
    )
    return polarity, shadow, contrast


def _largest_near(values: tf.Tensor, side: int) -> tf.Tensor:
    """float32 [rows, columns]: for each pixel the largest value in the square around it."""
    values = values[tf.newaxis, ..., tf.newaxis]
    values = tf.nn.max_pool2d(values, [side, 1], 1, 'SAME')
    return tf.nn.max_pool2d(values, [1, side], 1, 'SAME')[0, ..., 0]


def _without_specks(contrast: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """float32 [rows, columns]: 1 where a connected piece has ink, but for specks; else 0."""
    strongest = tf.math.top_k(tf.reshape(contrast, [-1]), tf.minimum(8, tf.size(contrast)))
    least = tf.maximum(least, _LEAST_CONTRAST)
    least = tf.maximum(least, _SMALL_LEVEL * tf.reduce_mean(strongest.values))
    is_ink = contrast > least
    pieces = _pieces(is_ink)
    masses = tf.math.unsorted_segment_sum(
        tf.where(is_ink, contrast, 0.0), pieces, tf.size(contrast) + 1
    )
    is_kept = masses > _SPECK * tf.reduce_max(masses)
    return tf.cast(tf.gather(is_kept, pieces) & is_ink, tf.float32)


def _pieces(is_ink: tf.Tensor) -> tf.Tensor:
    """Numbers the connected pieces of ink: pixels that touch, if only by a corner, are connected.

    Each pixel takes the largest number near it, and then the number that the pixel of that number
    has: pieces are joined in a logarithmic number of rounds.

    Args:
        is_ink: bool [rows, columns].

    Returns:
        int32 [rows, columns], 0 where no ink is, at most rows * columns.
    """
    size = tf.shape(is_ink)
    inside = tf.cast(is_ink, tf.float32)
    numbers = tf.range(1, tf.size(is_ink) + 1)
    numbers = tf.reshape(tf.cast(numbers, tf.float32), size) * inside
    for _ in range(_JOINING):
        flat = tf.reshape(_largest_near(numbers, 3) * inside, [-1])
        for _ in range(2):
            flat = tf.gather(tf.concat([[0.0], flat], 0), tf.cast(flat, tf.int32))
        numbers = tf.reshape(flat, size)
    return tf.cast(numbers, tf.int32)


def _placed(ink: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Crops ink to its strokes, scales them to the box, and puts their centre of mass in the middle.

    They are moved by whole pixels, as in MNIST, and stay inside the image.

    Args:
        ink: float32 [rows, columns], from 0 to 1.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        float32 [height, width], from 0 to 1.
    """
    is_stroke = ink > _STROKE_LEVEL
    top, bottom = _extent(tf.reduce_any(is_stroke, 1))
    left, right = _extent(tf.reduce_any(is_stroke, 0))
    scale = tf.maximum(bottom - top, right - left) / _box(height, width)
    rows = _line_weights(tf.reduce_sum(ink, 1), top, bottom, scale, height)
    columns = _line_weights(tf.reduce_sum(ink, 0), left, right, scale, width)
    image = tf.matmul(rows @ ink, columns, transpose_b=True)
    # Strokes that are narrower than a pixel have become faint.
    strong = tf.maximum(_quantile(tf.concat([image[image > 0.1], [0.0]], 0), 0.9), 0.05)
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
    overlap = tf.minimum(starts + window, sources + 1) - tf.maximum(starts, sources)
    is_kept = (places >= 0) & (places < count)
    return tf.where(is_kept, tf.maximum(overlap, 0) / window, 0)


def _like_mnists_pen(image: tf.Tensor) -> tf.Tensor:
    """Widens thin strokes and thins thick ones towards the widths of MNIST.

    The mean width of strokes is twice their area by the length of their edges.

    Args:
        image: float32 [height, width], from 0 to 1.

    Returns:
        The same shape.
    """
    down, right = (image[1:] - image[:-1])[:, :-1], (image[:, 1:] - image[:, :-1])[:-1]
    edges = tf.reduce_sum(tf.sqrt(down**2 + right**2))
    width = tf.math.divide_no_nan(2 * tf.reduce_sum(image), edges)
    kernel = tf.constant([1.0, 2.0, 1.0]) / 4
    kernel = tf.reshape(kernel[:, tf.newaxis] * kernel, [3, 3, 1, 1])
    blurred = tf.nn.conv2d(image[tf.newaxis, ..., tf.newaxis], kernel, 1, 'SAME')[0, ..., 0]
    # A line of one pixel keeps its strength, and gets two sides of half of it.
    share = tf.clip_by_value(_THIN - width, 0, 1)
    image = tf.clip_by_value(image + share * (2 * blurred - image), 0, 1)
    share = tf.clip_by_value((width - _THICK) / 2, 0, 1)
    return image + share * (-_largest_near(-image, 3) - image)


def _box(height: int, width: int) -> int:
    """The longer side of the box that strokes are scaled to, in pixels."""
    return round(_BOX * min(height, width))
