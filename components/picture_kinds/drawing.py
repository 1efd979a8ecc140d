"""Operations on strokes, sheets and light, of which the kinds of pictures are made."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

Levels = float | np.ndarray

# Grey level from which an image's pixel is ink, as a fraction of white: MNIST's thinnest strokes
# are little more than half white.
_INK_LEVEL = 0.4


def enlarged(image: np.ndarray, longer: int) -> np.ndarray:
    """Crops an image to its strokes and enlarges them.

    Args:
        image: uint8 [height, width], light on black.
        longer: The longer side of the result in pixels.

    Returns:
        float [h, w] from 0 to 1, where 1 is ink. Edges of strokes are about two pixels wide.
    """
    ys, xs = (np.flatnonzero((image > 255 * _INK_LEVEL).any(axis)) for axis in (1, 0))
    if ys.size:
        image = image[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    # A ring of background, so that strokes have an edge where the image ends.
    image = np.pad(image, 2)
    scale = longer / (max(image.shape) - 4)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    smooth = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) / np.float32(
        255
    )
    ink = np.clip((smooth - _INK_LEVEL) * max(1.0, 0.7 * scale) + 0.5, 0, 1)
    ys, xs = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    return ink[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] if ys.size else ink


def placed(ink: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Lays ink on a random place of a sheet, at least 4% of its side from the edges if it fits."""
    free = np.array([height, width]) - ink.shape
    margin = np.minimum(np.ceil(0.04 * min(height, width)), free // 2)
    top, left = (margin + random.uniform(0, 1, 2) * (free - 2 * margin)).astype(int)
    return laid(ink, height, width, top, left)


def laid(ink: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    """Lays ink on an empty sheet: float32 [height, width]."""
    sheet = np.zeros((height, width), np.float32)
    sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return sheet


def mixed(ground: Levels, ink: np.ndarray, colour: Levels) -> np.ndarray:
    """Paints a ground with a colour, in one channel or three, where ink, [h, w], is."""
    in_colour = np.ndim(ground) in {1, 3} or np.ndim(colour) == 1
    share = ink[..., np.newaxis] if in_colour else ink
    return ground + (colour - ground) * share


def light(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """float [height, width]: light that falls by 25% to 55% across a picture, and a dark border."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    y = y[:, np.newaxis]
    across = (np.cos(angle) * x + np.sin(angle) * y) / (abs(np.cos(angle)) + abs(np.sin(angle)))
    fall, border = random.uniform(0.25, 0.55), random.uniform(0, 0.15)
    return (1 - fall * (across + 1) / 2) * (1 - border * (x**2 + y**2) / 2)


def smears(side: int, random: np.random.Generator) -> np.ndarray:
    """float [side, side]: spots of noise, each a sixth of the side."""
    spots = Image.fromarray(noise((6, 6), random))
    return np.asarray(spots.resize((side, side), Image.Resampling.BICUBIC))


def noise(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """float32 of a standard normal distribution."""
    return random.standard_normal(shape, np.float32)


def smooth(values: np.ndarray, deviation: float) -> np.ndarray:
    """A Gaussian blur of [h, w]; the deviation is in pixels."""
    radius = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    padded = np.pad(values, radius, mode='edge')
    height, width = values.shape
    rows = sum(weight * padded[i : i + height] for i, weight in enumerate(kernel))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(kernel))


def skeleton(ink: np.ndarray) -> np.ndarray:
    """Thins strokes to lines of one pixel.

    Zhang and Suen, A Fast Parallel Algorithm for Thinning Digital Patterns (1984).

    Args:
        ink: bool [h, w].

    Returns:
        bool [h, w].
    """
    ink = np.pad(ink, 1)
    # Clockwise from the pixel above, P2 to P9 of the paper.
    around = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    changed = True
    while changed:
        changed = False
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            near = np.stack([np.roll(ink, (-y, -x), (0, 1)) for y, x in around])
            count = near.sum(0)
            rises = (~near & np.roll(near, -1, 0)).sum(0)
            gone = ink & (count >= 2) & (count <= 6) & (rises == 1)
            gone &= ~near[list(first)].all(0) & ~near[list(second)].all(0)
            changed |= bool(gone.any())
            ink &= ~gone
    return ink[1:-1, 1:-1]


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Levels from 0 to 255, rounded and cut off, as uint8."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """The contents of a PNG file with levels [h, w] or [h, w, channels], from 0 to 255."""
    file = io.BytesIO()
    Image.fromarray(as_bytes(picture)).save(file, 'PNG', compress_level=1)
    return file.getvalue()


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """The contents of a JPEG file with levels [h, w] or [h, w, 3], from 0 to 255."""
    file = io.BytesIO()
    Image.fromarray(as_bytes(picture)).save(file, 'JPEG', quality=quality)
    return file.getvalue()
