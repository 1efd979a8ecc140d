"""Random changes of training images that leave their class as it is.

Images are light strokes on a black ground, which is what comes into view at the edges. Each image
is changed by amounts that depend on the seed, the step and its place in the batch of this step.
Every part draws its own random numbers: adding one changes nothing about the others.
"""

from __future__ import annotations

import math

import tensorflow as tf

from capsmodel.data.augmentation_parts import PARTS, parse


def augment(images: tf.Tensor, augmentation: str, *, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Changes the images of a training step.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour, n known.
        augmentation: Parts and amounts, see `augmentation_parts.parse`.
        seed: From 0 to 2**32 - 1.
        step: int64 scalar.

    Returns:
        Same shape and dtype as `images`; with the part `crop`, that many rows and columns.

    Raises:
        ValueError: `augmentation` cannot be parsed.
    """
    amounts = parse(augmentation)
    count = images.shape[0]

    def stream(part: str) -> tf.Tensor:
        number = list(PARTS).index(part)
        first = tf.stack([seed, step])
        return tf.random.experimental.stateless_fold_in(first, number) if number else first

    def uniform(part: str) -> tf.Tensor:
        """float32 [n] from minus the part's amount to its amount; zeros without this part."""
        amount = amounts.get(part, 0.0)
        if not amount:
            return tf.zeros([count])
        return tf.random.stateless_uniform([count], stream(part), -amount, amount)

    if 'flip' in amounts:
        is_mirrored = _for_each(uniform('flip'), images) < 0
        images = tf.where(is_mirrored, images[:, :, ::-1], images)
    if amounts.keys() & {'rotate', 'scale', 'stroke', 'contrast', 'brightness'}:
        pixels = tf.cast(images, tf.float32)
        if amounts.keys() & {'rotate', 'scale'}:
            pixels = rotate_and_scale(pixels, uniform('rotate'), 1 + uniform('scale'))
        if 'stroke' in amounts:
            pixels = widen(pixels, uniform('stroke'), most=amounts['stroke'])
        gain = 1 + _for_each(uniform('contrast'), pixels)
        if 'brightness' in amounts:
            pixels += _for_each(uniform('brightness'), pixels)
        if len(images.shape) == 4:
            # Grey images are light on black; in colour, contrast is the distance from the mean.
            mean = tf.reduce_mean(pixels, axis=[1, 2], keepdims=True)
            pixels = mean + gain * (pixels - mean)
        else:
            pixels = gain * pixels
        images = tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)
    if 'shift' in amounts:
        most = int(amounts['shift'])
        offsets = tf.random.stateless_uniform(
            [count, 2], stream('shift'), minval=-most, maxval=most + 1, dtype=tf.int32
        )
        images = shift(images, offsets)
    if 'crop' in amounts:
        side = int(amounts['crop'])
        room = [size - side + 1 for size in images.shape[1:3]]
        places = tf.random.stateless_uniform([count, 2], stream('crop')) * room
        images = crop(images, tf.cast(tf.floor(places), tf.int32), side)
    return images


def _for_each(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """[n] to [n, 1, ...], so that images [n, ...] can be multiplied by it."""
    return tf.reshape(values, [-1] + [1] * (len(images.shape) - 1))


def shift(images: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Moves each image by whole pixels and fills the gaps with zeros.

    Args:
        images: [n, height, width] or [n, height, width, channels], any dtype.
        offsets: int32 [n, 2], pixels down and to the right; at most the image's size.

    Returns:
        Same shape and dtype as `images`.
    """
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        source = tf.range(size)[tf.newaxis] - offsets[:, axis - 1, tf.newaxis]
        inside = (source >= 0) & (source < size)
        moved = tf.gather(images, tf.clip_by_value(source, 0, size - 1), axis=axis, batch_dims=1)
        mask = tf.expand_dims(inside, 3 - axis)
        if len(images.shape) == 4:
            mask = mask[..., tf.newaxis]
        images = tf.where(mask, moved, tf.zeros([], images.dtype))
    return images


def crop(images: tf.Tensor, offsets: tf.Tensor, side: int) -> tf.Tensor:
    """Cuts a square out of each image.

    Args:
        images: [n, height, width] or [n, height, width, channels], any dtype.
        offsets: int32 [n, 2], the first row and the first column that are kept.
        side: Rows and columns that are kept.

    Returns:
        [n, side, side] or [n, side, side, channels], of the same dtype.
    """
    for axis in (1, 2):
        places = offsets[:, axis - 1, tf.newaxis] + tf.range(side)
        images = tf.gather(images, places, axis=axis, batch_dims=1)
    return images


def rotate_and_scale(images: tf.Tensor, degrees: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Turns and enlarges each image about its centre, sampled once, by bilinear interpolation.

    Args:
        images: float32 [n, height, width] or [n, height, width, channels].
        degrees: float32 [n], clockwise.
        factors: float32 [n], above 0.

    Returns:
        Same shape and dtype as `images`; zeros where there was no image.
    """
    shape = tf.shape(images)
    y, x = (tf.cast(shape[axis] - 1, tf.float32) / 2 for axis in (1, 2))
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle) / factors, tf.sin(angle) / factors
    zero = tf.zeros_like(cos)
    # The pixel at (column, row) of the result comes from (a column + b row + c, ...) of the image.
    sources = [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y, zero, zero]
    sampled = tf.raw_ops.ImageProjectiveTransformV3(
        images=images if len(images.shape) == 4 else images[..., tf.newaxis],
        transforms=tf.stack(sources, axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation='BILINEAR',
        fill_mode='CONSTANT',
    )
    return tf.reshape(sampled, shape)


def widen(images: tf.Tensor, pixels: tf.Tensor, most: float) -> tf.Tensor:
    """Makes the strokes of each image thicker or thinner.

    Grey-scale dilation by a cross of 3 x 3 pixels moves the edges of strokes by one pixel; a part
    of a pixel is a mixture with the image as it was. Erosion is the dilation of the negative. It
    moves edges by half as much, so that a stroke of one pixel keeps half of its light.

    Args:
        images: float32 [n, height, width] or [n, height, width, channels].
        pixels: float32 [n], how far the edges of strokes move outwards; below 0 inwards.
        most: The largest absolute value in `pixels`.

    Returns:
        Same shape and dtype as `images`.
    """
    sign = _for_each(tf.where(pixels < 0, -1.0, 1.0), images)
    distance = _for_each(tf.where(pixels < 0, -pixels / 2, pixels), images)
    images = sign * images
    for done in range(math.ceil(most)):
        share = tf.clip_by_value(distance - done, 0, 1)
        images += share * (_dilated(images) - images)
    return sign * images


def _dilated(images: tf.Tensor) -> tf.Tensor:
    """Each pixel's maximum with its four neighbours; float32, the shape stays."""
    channels = images if len(images.shape) == 4 else images[..., tf.newaxis]
    column, row = (tf.nn.max_pool2d(channels, size, 1, 'SAME') for size in ((3, 1), (1, 3)))
    dilated = tf.maximum(column, row)
    return dilated if len(images.shape) == 4 else dilated[..., 0]
