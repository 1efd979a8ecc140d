"""Draws an image of MNIST again as a picture that a person would take, of one of several kinds.

A picture is a function of the image, the kind and a random generator. Its sides have at most
MAX_SIDE pixels, so that thousands are drawn and read in seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from components.picture_kinds import drawing

MAX_SIDE = 300
# The kind of the test images as they are.
PLAIN = 'plain'

# The longer side of an image, in pixels, when its strokes are thinned.
_THINNED_SIDE = 64

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
    ink = drawing.enlarged(image, round(height * random.uniform(0.6, 0.8)))
    return _sheet(drawing.placed(ink, height, width, random), random)


def _off_centre(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; strokes that fill 30% to 45% of a square sheet lie in one of its corners."""
    side = int(random.integers(110, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(0.3, 0.45)))
    margin = random.integers(round(0.03 * side), round(0.12 * side), 2)
    far = np.array([side, side]) - ink.shape - margin
    top, left = np.where(random.integers(0, 2, 2) == 1, far, margin)
    return _sheet(drawing.laid(ink, side, side, top, left), random)


def _at_the_edge(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; the strokes touch one edge of the sheet or two."""
    side = int(random.integers(90, 180))
    ink = drawing.enlarged(image, round(side * random.uniform(0.5, 0.75)))
    free = np.array([side, side]) - ink.shape
    place = (free * random.uniform(0, 1, 2)).astype(int)
    edge = random.integers(0, 2, 2) * free
    touched = [(True, False), (False, True), (True, True)][random.integers(0, 3)]
    top, left = np.where(touched, edge, place)
    return _sheet(drawing.laid(ink, side, side, top, left), random)


def _pencil(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Pencil on grey paper: 45 to 90 levels darker than the paper, both with a grain."""
    side = int(random.integers(100, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(0.4, 0.7)))
    # The paper's grain takes some of the pencil, in grains of about two pixels.
    grain = drawing.smooth(0.4 + 0.6 * random.random(ink.shape, np.float32), 0.8)
    level = random.uniform(160, 215)
    paper = level + drawing.smooth(6 * drawing.noise((side, side), random), 0.7)
    picture = paper - random.uniform(45, 90) * drawing.placed(ink * grain, side, side, random)
    return drawing.png(picture + 1.5 * drawing.noise(picture.shape, random))


def _photograph(image: np.ndarray, random: np.random.Generator) -> bytes:
    """A photograph of a sheet: uneven light, blur, noise, and JPEG."""
    height, width = random.integers(110, 220, 2)
    ink = drawing.enlarged(image, round(min(height, width) * random.uniform(0.35, 0.7)))
    sheet = random.uniform([220, 215, 190], [255, 240, 230]).astype(np.float32)
    sharp = drawing.mixed(sheet, drawing.placed(ink, height, width, random), random.uniform(15, 60))
    blurred = Image.fromarray(drawing.as_bytes(sharp)).filter(
        ImageFilter.GaussianBlur(random.uniform(0.5, 1.3))
    )
    picture = np.asarray(blurred) * drawing.light(height, width, random)[..., np.newaxis]
    picture += random.uniform(2, 7) * drawing.noise((height, width, 1), random)
    return drawing.jpeg(picture, int(random.integers(45, 85)))


def _on_a_table(image: np.ndarray, random: np.random.Generator) -> bytes:
    """A photograph of a white sheet that lies on a darker table, turned by up to 8 degrees."""
    height, width = random.integers(150, 240, 2)
    table = random.uniform(30, 140) + 8 * drawing.noise((height, width), random)
    margins = min(height, width) * random.uniform(0.1, 0.2, 4)
    top, bottom, left, right = margins.astype(int)
    sheet, drawn = np.zeros((2, height, width), np.float32)
    rows, columns = slice(top, height - bottom), slice(left, width - right)
    sheet[rows, columns] = 1
    inner = height - bottom - top, width - right - left
    ink = drawing.enlarged(image, round(min(inner) * random.uniform(0.4, 0.65)))
    drawn[rows, columns] = drawing.placed(ink, inner[0], inner[1], random)
    angle = random.uniform(-8, 8)
    sheet, drawn = (
        np.asarray(Image.fromarray(layer).rotate(angle, Image.Resampling.BILINEAR))
        for layer in (sheet, drawn)
    )
    picture = drawing.mixed(drawing.mixed(table, sheet, random.uniform(205, 245)), drawn, 40)
    picture = drawing.smooth(picture * drawing.light(height, width, random), 0.7)
    return drawing.png(picture + 3 * drawing.noise(picture.shape, random))


def _coloured(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Coloured ink on coloured paper."""
    side = int(random.integers(100, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(0.4, 0.75)))
    paper = np.array(_PAPERS[random.integers(len(_PAPERS))], np.float32) + 2 * drawing.noise(
        (side, side, 3), random
    )
    colour = np.array(_INKS[random.integers(len(_INKS))], np.float32)
    picture = drawing.mixed(paper, drawing.placed(ink, side, side, random), colour)
    return drawing.jpeg(picture, 92)


def _chalk(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Chalk on a board with smears of what was wiped off."""
    side = int(random.integers(110, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(0.4, 0.7)))
    grain = np.clip(0.85 + 0.2 * drawing.noise(ink.shape, random), 0.3, 1)
    board = (
        np.array(_BOARDS[random.integers(len(_BOARDS))], np.float32)
        + 8 * drawing.smears(side, random)[..., np.newaxis]
    )
    chalk = np.array([1, 1, random.uniform(0.8, 1)], np.float32) * random.uniform(200, 245)
    picture = drawing.mixed(board, drawing.placed(ink * grain, side, side, random), chalk)
    return drawing.jpeg(picture + 3 * drawing.noise(picture.shape, random), 80)


def _transparent(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Strokes of some colour on a transparent ground, as a drawing program saves them."""
    side = int(random.integers(100, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(0.4, 0.75)))
    colours = [(0, 0, 0), (255, 255, 255), *_INKS]
    picture = np.zeros((side, side, 4), np.uint8)
    picture[..., :3] = colours[random.integers(len(colours))]
    picture[..., 3] = drawing.as_bytes(255 * drawing.placed(ink, side, side, random))
    return drawing.png(picture)


def _thin_pen(image: np.ndarray, random: np.random.Generator) -> bytes:
    """Black on white; strokes as wide as 3% to 6% of the longer side, half of MNIST's."""
    side = int(random.integers(110, 200))
    longer = round(side * random.uniform(0.5, 0.75))
    width = _THINNED_SIDE * random.uniform(0.03, 0.06)
    lines = np.pad(drawing.skeleton(drawing.enlarged(image, _THINNED_SIDE) > 0.5), round(width) + 1)
    # Blurred by this much, a line has sunk to exp(-2) of its peak at the border of the stroke.
    deviation = width / 4
    profile = drawing.smooth(lines.astype(np.float32), deviation) * np.sqrt(2 * np.pi) * deviation
    scale = longer / _THINNED_SIDE
    size = (round(lines.shape[1] * scale), round(lines.shape[0] * scale))
    larger = Image.fromarray(profile.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    ink = np.clip(4 * (np.asarray(larger) - np.exp(-2)) + 0.5, 0, 1).astype(np.float32)
    return _sheet(drawing.placed(ink, side, side, random), random)


# By the name that people read.
KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], bytes]] = {
    'large on a sheet': _large,
    'small on a sheet': _small,
    'wide sheet': _wide,
    'off centre': _off_centre,
    'at the edge': _at_the_edge,
    'pencil': _pencil,
    'photograph': _photograph,
    'on a table': _on_a_table,
    'coloured': _coloured,
    'chalk': _chalk,
    'transparent': _transparent,
    'thin pen': _thin_pen,
}


def _on_paper(image: np.ndarray, random: np.random.Generator, share: tuple[float, float]) -> bytes:
    """Black on a square white sheet, within 5% of its middle; `share` of it is filled."""
    side = int(random.integers(90, 200))
    ink = drawing.enlarged(image, round(side * random.uniform(*share)))
    middle = (np.array([side, side]) - ink.shape) / 2 + random.uniform(-0.05, 0.05, 2) * side
    top, left = middle.astype(int)
    return _sheet(drawing.laid(ink, side, side, top, left), random)


def _sheet(ink: np.ndarray, random: np.random.Generator) -> bytes:
    """A PNG of black ink, [h, w], on a white sheet."""
    return drawing.png(drawing.mixed(random.uniform(235, 255), ink, 20))
