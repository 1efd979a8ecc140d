"""What the figures for TensorBoard share: colors, and how they are written on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

Color: TypeAlias = str | tuple[int, ...]

GROUND = '#ffffff'
TEXT = '#202124'
FAINT = '#80868b'
BAR = '#c4c7cc'


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    color: Color = TEXT,
    anchor: str = 'la',
) -> None:
    """Writes a line; Pillow's `anchor` says which point of it is at the place."""
    draw.text(place, text, fill=color, font=font(size), anchor=anchor)


def write_upwards(
    figure: Image.Image, middle: tuple[int, int], text: str, size: int, color: Color
) -> None:
    """Writes upwards; `middle` is the middle of the left edge."""
    length = int(font(size).getlength(text)) + 4
    line = Image.new('RGB', (length, size + 4), GROUND)
    write(ImageDraw.Draw(line), (2, 0), text, size, color)
    figure.paste(line.rotate(90, expand=True), (middle[0], middle[1] - length // 2))


def write_parts(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    parts: Sequence[tuple[str, Color]],
    size: int,
) -> None:
    """Writes texts of different colors side by side."""
    x, y = place
    for text, color in parts:
        write(draw, (x, y), text, size, color)
        x += draw.textlength(text, font(size)) + size / 2


def mixed(color: tuple[int, int, int], share: float) -> tuple[int, ...]:
    """Mixes a color with white; a share of 1 is the color alone."""
    return tuple(round(255 - share * (255 - part)) for part in color)


@functools.cache
def font(size: int) -> Any:
    """The font of all figures, in pixels."""
    return ImageFont.load_default(size)
