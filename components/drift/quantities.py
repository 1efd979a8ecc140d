"""What is compared of each image: how it looks to the network, and what the network answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

# Each with what it means for one image; these are the texts of the report.
NUMERIC = {
    'brightness': 'mean of the framed image, from 0 (black) to 1 (white)',
    'ink': 'share of its pixels that are brighter than one half',
    'score': 'highest score',
    'margin': 'highest score minus the second one',
    'reconstruction_error': 'sum of squared differences from the reconstruction',
}
CATEGORICAL = {
    'known': 'whether the guard takes it for one of the classes',
    'label': 'the class that was answered',
}
NAMES = {**NUMERIC, **CATEGORICAL}
# What is measured on the framed image itself.
OF_IMAGE = ('brightness', 'ink')

# By name, one value an image: a float, or a text. An image that lacks one has NaN, or ''.
Row: TypeAlias = dict[str, Any]
Quantities: TypeAlias = dict[str, np.ndarray]

_HALF = 127.5
_DIGITS = 6


def of_image(image: np.ndarray) -> Row:
    """The quantities of a framed image.

    Args:
        image: uint8 [height, width], or [height, width, 3] in colour.
    """
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    return {'brightness': float(grey.mean() / 255), 'ink': float((grey > _HALF).mean())}


def of_answer(answer: Mapping[str, Any]) -> Row:
    """The quantities that an answer for one image holds.

    Args:
        answer: The model's outputs by name, without the axis of images. `scores` has one number for
            each class. Outputs that are missing give no quantity.
    """
    row: Row = {}
    if 'scores' in answer:
        scores = np.asarray(answer['scores'], np.float32)
        second, highest = np.sort(np.append(scores, 0.0))[-2:]
        row |= {'score': float(highest), 'margin': float(highest - second)}
    if 'class_name' in answer:
        row['label'] = _text(answer['class_name'])
    elif 'label' in answer:
        row['label'] = str(int(answer['label']))
    if 'known' in answer:
        row['known'] = 'yes' if answer['known'] else 'no'
    if 'reconstruction_error' in answer:
        row['reconstruction_error'] = float(answer['reconstruction_error'])
    return row


def joined(rows: Sequence[Row]) -> Quantities:
    """One array for each quantity, float64 [n] or text [n]."""
    numbers = {
        name: np.array([round(row.get(name, math.nan), _DIGITS) for row in rows], np.float64)
        for name in NUMERIC
    }
    texts = {name: np.array([row.get(name, '') for row in rows], str) for name in CATEGORICAL}
    return {**numbers, **texts}


def present(values: np.ndarray) -> np.ndarray:
    """The values of the images that have one."""
    return values[~np.isnan(values)] if values.dtype.kind == 'f' else values[values != '']


def _text(value: Any) -> str:
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)
