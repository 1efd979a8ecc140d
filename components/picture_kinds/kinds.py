"""Draws an image of MNIST again as a picture that a person would take, of one of several kinds.

A picture is a function of the image, the kind and a random generator. Its sides have at most
MAX_SIDE pixels, so that thousands are drawn and read in seconds.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

MAX_SIDE = 300
Levels = float | np.ndarray
# The kind of the test images as they are.
PLAIN = 'plain'

# Grey level from which an image's pixel is ink, as a fraction of white: MNIST's thinnest strokes
# are little more than half white.
_INK_LEVEL = 0.4

# The longer side of an image, in pixels, when its strokes are thinned.
_THINNED_SIDE = 64

_BICUBIC = Image.Resampling.BICUBIC

# Colours as people have them, red, green and blue from 0 to 255.
_INKS = [(25, 45, 150), (170, 25, 30), (20, 100, 50), (90, 30, 120), (60, 35, 20)]
_PAPERS = [(252, 244, 220), (255, 235, 200), (250, 225, 225), (225, 240, 250), (230, 245, 220)]
_BOARDS = [(30, 75, 55), (25, 60, 45), (40, 44, 48), (30, 35, 60)]


def draw(image: np.ndarray, kind: str, seed: str) -> bytes:
    """Draws an image again.

    Args:
        image: uint8 [height, width], light strokes on black.
        kind: A key of KINDS.
        seed: Equal arguments give equal pictures.

    Returns:
        The contents of a PNG or a JPEG file.
    """
    digest = hashlib.sha256(f'{seed}/{kind}'.encode()).digest()
    return KINDS[kind](image, np.random.default_rng(int.from_bytes(digest[:8], 'big')))


def _large(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; the strokes fill 65% to 75% of a square sheet."""
    return _on_paper(image, random, share=(0.65, 0.75))


def _small(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; the strokes fill 35% to 45% of a square sheet."""
    return _on_paper(image, random, share=(0.35, 0.45))


def _wide(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; a sheet about three times as wide as high, the strokes anywhere on it."""
    height = int(random.integers(64, 92))
    width = min(MAX_SIDE, round(height * random.uniform(2.6, 3.4)))
    ink = _enlarged(image, round(height * random.uniform(0.6, 0.8)))
    return _sheet(_placed(ink, height, width, random), random)


def _off_centre(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; strokes that fill 30% to 45% of a square sheet lie in one of its corners."""
    side = int(random.integers(110, 200))
    ink = _enlarged(image, round(side * random.uniform(0.3, 0.45)))
    margin = random.integers(round(0.03 * side), round(0.12 * side), 2)
    far = np.array([side, side]) - ink.shape - margin
    top, left = np.where(random.integers(0, 2, 2) == 1, far, margin)
    return _sheet(_laid(ink, side, side, top, left), random)


def _at_the_edge(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; the strokes touch one edge of the sheet or two."""
    side = int(random.integers(90, 180))
    ink = _enlarged(image, round(side * random.uniform(0.5, 0.75)))
    free = np.array([side, side]) - ink.shape
    place = (free * random.uniform(0, 1, 2)).astype(int)
    edge = random.integers(0, 2, 2) * free
    touched = [(True, False), (False, True), (True, True)][random.integers(0, 3)]
    top, left = np.where(touched, edge, place)
    return _sheet(_laid(ink, side, side, top, left), random)


def _pencil(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Pencil on grey paper: 45 to 90 levels darker than the paper, both with a grain."""
    side = int(random.integers(100, 200))
    ink = _enlarged(image, round(side * random.uniform(0.4, 0.7)))
    # The paper's grain takes some of the pencil, in grains of about two pixels.
    grain = _smooth(0.4 + 0.6 * random.random(ink.shape, np.float32), 0.8)
    level = random.uniform(160, 215)
    paper = level + _smooth(6 * _noise((side, side), random), 0.7)
    picture = paper - random.uniform(45, 90) * _placed(ink * grain, side, side, random)
    return _png(picture + 1.5 * _noise(picture.shape, random))


def _photograph(image: np.ndarray, random: np.random.Generator) -> bytes:
    """A photograph of a sheet: uneven light, blur, noise, and JPEG."""
    height, width = random.integers(110, 220, 2)
    ink = _enlarged(image, round(min(height, width) * random.uniform(0.35, 0.7)))
    sheet = random.uniform([220, 215, 190], [255, 240, 230]).astype(np.float32)
    sharp = _mixed(sheet, _placed(ink, height, width, random), random.uniform(15, 60))
    blurred = Image.fromarray(_as_bytes(sharp)).filter(
        ImageFilter.GaussianBlur(random.uniform(0.5, 1.3))
    )
    picture = np.asarray(blurred) * _light(height, width, random)[..., np.newaxis]
    picture += random.uniform(2, 7) * _noise((height, width, 1), random)
    return _jpeg(picture, int(random.integers(45, 85)))


def _coloured(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Coloured ink on coloured paper."""
    side = int(random.integers(100, 200))
    ink = _enlarged(image, round(side * random.uniform(0.4, 0.75)))
    paper = np.array(_PAPERS[random.integers(len(_PAPERS))], np.float32) + 2 * _noise(
        (side, side, 3), random
    )
    colour = np.array(_INKS[random.integers(len(_INKS))], np.float32)
    picture = _mixed(paper, _placed(ink, side, side, random), colour)
    return _jpeg(picture, 92)


def _chalk(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Chalk on a board with smears of what was wiped off."""
    side = int(random.integers(110, 200))
    ink = _enlarged(image, round(side * random.uniform(0.4, 0.7)))
    grain = np.clip(0.85 + 0.2 * _noise(ink.shape, random), 0.3, 1)
    board = (
        np.array(_BOARDS[random.integers(len(_BOARDS))], np.float32)
        + 8 * _smears(side, random)[..., np.newaxis]
    )
    chalk = np.array([1, 1, random.uniform(0.8, 1)], np.float32) * random.uniform(200, 245)
    picture = _mixed(board, _placed(ink * grain, side, side, random), chalk)
    return _jpeg(picture + 3 * _noise(picture.shape, random), 80)


def _transparent(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Strokes of some colour on a transparent ground, as a drawing program saves them."""
    side = int(random.integers(100, 200))
    ink = _enlarged(image, round(side * random.uniform(0.4, 0.75)))
    colours = [(0, 0, 0), (255, 255, 255), *_INKS]
    picture = np.zeros((side, side, 4), np.uint8)
    picture[..., :3] = colours[random.integers(len(colours))]
    picture[..., 3] = _as_bytes(255 * _placed(ink, side, side, random))
    return _png(picture)


def _thin_pen(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; strokes as wide as 3% to 6% of the longer side, half of MNIST's."""
    side = int(random.integers(110, 200))
    longer = round(side * random.uniform(0.5, 0.75))
    width = _THINNED_SIDE * random.uniform(0.03, 0.06)
    lines = np.pad(_skeleton(_enlarged(image, _THINNED_SIDE) > 0.5), round(width) + 1)
    # Blurred by this much, a line has sunk to exp(-2) of its peak at the border of the stroke.
    deviation = width / 4
    profile = _smooth(lines.astype(np.float32), deviation) * np.sqrt(2 * np.pi) * deviation
    scale = longer / _THINNED_SIDE
    size = (round(lines.shape[1] * scale), round(lines.shape[0] * scale))
    larger = Image.fromarray(profile.astype(np.float32)).resize(size, _BICUBIC)
    ink = np.clip(4 * (np.asarray(larger) - np.exp(-2)) + 0.5, 0, 1).astype(np.float32)
    return _sheet(_placed(ink, side, side, random), random)


# By the name that people read.
KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], bytes]] = {
    'large on a sheet': _large,
    'small on a sheet': _small,
    'wide sheet': _wide,
    'off centre': _off_centre,
    'at the edge': _at_the_edge,
    'pencil': _pencil,
    'photograph': _photograph,
    'coloured': _coloured,
    'chalk': _chalk,
    'transparent': _transparent,
    'thin pen': _thin_pen,
}


def _on_paper(image: np.ndarray, random: np.random.Generator, share: tuple[float, float]) -> bytes:
    """Black on a square white sheet, within 5% of its middle; `share` of it is filled."""
    side = int(random.integers(90, 200))
    ink = _enlarged(image, round(side * random.uniform(*share)))
    middle = (np.array([side, side]) - ink.shape) / 2 + random.uniform(-0.05, 0.05, 2) * side
    top, left = middle.astype(int)
    return _sheet(_laid(ink, side, side, top, left), random)


def _sheet(ink: np.ndarray, random: np.random.Generator) -> bytes:
    """A PNG of black ink, [h, w], on a white sheet."""
    return _png(_mixed(random.uniform(235, 255), ink, 20))


def _enlarged(image: np.ndarray, longer: int) -> np.ndarray:
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
    smooth = np.asarray(Image.fromarray(image).resize(size, _BICUBIC)) / np.float32(255)
    ink = np.clip((smooth - _INK_LEVEL) * max(1.0, 0.7 * scale) + 0.5, 0, 1)
    ys, xs = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    return ink[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] if ys.size else ink


def _placed(ink: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Lays ink on a random place of a sheet, at least 4% of its side from the edges if it fits."""
    free = np.array([height, width]) - ink.shape
    margin = np.minimum(np.ceil(0.04 * min(height, width)), free // 2)
    top, left = (margin + random.uniform(0, 1, 2) * (free - 2 * margin)).astype(int)
    return _laid(ink, height, width, top, left)


def _laid(ink: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    sheet = np.zeros((height, width), np.float32)
    sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return sheet


def _mixed(ground: Levels, ink: np.ndarray, colour: Levels) -> np.ndarray:
    """Paints a ground with a colour, in one channel or three, where ink, [h, w], is."""
    in_colour = np.ndim(ground) in {1, 3} or np.ndim(colour) == 1
    share = ink[..., np.newaxis] if in_colour else ink
    return ground + (colour - ground) * share


def _light(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """float [height, width]: light that falls by 25% to 55% across a picture, and a dark border."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    y = y[:, np.newaxis]
    across = (np.cos(angle) * x + np.sin(angle) * y) / (abs(np.cos(angle)) + abs(np.sin(angle)))
    fall, border = random.uniform(0.25, 0.55), random.uniform(0, 0.15)
    return (1 - fall * (across + 1) / 2) * (1 - border * (x**2 + y**2) / 2)


def _smears(side: int, random: np.random.Generator) -> np.ndarray:
    """float [side, side]: spots of noise, each a sixth of the side."""
    spots = Image.fromarray(_noise((6, 6), random))
    return np.asarray(spots.resize((side, side), _BICUBIC))


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """float32 of a standard normal distribution."""
    return random.standard_normal(shape, np.float32)


def _smooth(values: np.ndarray, deviation: float) -> np.ndarray:
    """A Gaussian blur of [h, w]; the deviation is in pixels."""
    radius = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    padded = np.pad(values, radius, mode='edge')
    height, width = values.shape
    rows = sum(weight * padded[i : i + height] for i, weight in enumerate(kernel))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(kernel))


def _skeleton(ink: np.ndarray) -> np.ndarray:
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


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_as_bytes(picture)).save(file, 'PNG', compress_level=1)
    return file.getvalue()


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_as_bytes(picture)).save(file, 'JPEG', quality=quality)
    return file.getvalue()
