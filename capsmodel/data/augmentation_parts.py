"""The parts that AUGMENTATION may have: their names, units and bounds.

This module imports no TensorFlow: whoever checks settings reads the names here in no time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

NONE = 'none'


class Part(NamedTuple):
    """A way to change training images.

    Attributes:
        unit: What its amount counts; empty: it has none, and counts as 1.
        most: The largest amount.
        is_whole: Whether the amount is a whole number.
    """

    unit: str = ''
    most: float = 1.0
    is_whole: bool = False


# Append new ones: the place of a part decides which random numbers it draws.
PARTS = {
    'shift': Part('PIXELS', math.inf, is_whole=True),
    'rotate': Part('DEGREES', 180),
    'scale': Part('SHARE', 0.5),
    'stroke': Part('PIXELS', 3),
    'contrast': Part('SHARE', 1),
    'flip': Part(),
    'crop': Part('PIXELS', math.inf, is_whole=True),
    'brightness': Part('LEVELS', 255),
}


def parse(text: str) -> dict[str, float]:
    """The amounts by part, in the order of PARTS, of a text such as 'shift:2,rotate:15,flip'.

    Args:
        text: Parts with commas between them, in any order; 'none' or empty: no augmentation.

    Returns:
        Parts with an amount above 0.

    Raises:
        ValueError: A part is unknown, is there twice, or has an amount that it may not have. The
            message follows 'it' in a sentence.
    """
    amounts: dict[str, float] = {}
    for piece in [] if text.strip() in ('', NONE) else text.split(','):
        name, colon, number = piece.strip().partition(':')
        part = PARTS.get(name)
        if part is None or name in amounts or bool(colon) != bool(part.unit):
            raise ValueError(_refusal(piece))
        amounts[name] = _amount(number, part) if colon else 1.0
        if math.isnan(amounts[name]):
            raise ValueError(_refusal(piece))
    return {name: amounts[name] for name in PARTS if amounts.get(name)}


def normalized(text: str) -> str:
    """The text that all texts with the same meaning share; raises as `parse` does."""
    amounts = parse(text).items()
    return ','.join(f'{name}:{a:g}' if PARTS[name].unit else name for name, a in amounts) or NONE


def _amount(number: str, part: Part) -> float:
    """The number in a text; NaN if the text is not a number, or the number is out of bounds."""
    try:
        amount = float(number)
    except ValueError:
        return math.nan
    fits = 0 <= amount <= part.most and (amount.is_integer() or not part.is_whole)
    return amount if fits else math.nan


def _refusal(piece: str) -> str:
    return (
        f'must be {NONE}, or some of {", ".join(map(_spelled, PARTS))}, each once and with commas '
        f'between them; {piece.strip()!r} does not fit'
    )


def _spelled(name: str) -> str:
    part = PARTS[name]
    bound = 'whole' if part.is_whole else f'up to {part.most:g}'
    return f'{name}:{part.unit} ({bound})' if part.unit else name
