"""A picture of pairs and of what a network makes of them: figure 5 of Sabour, Frosst, Hinton 2017.

Each column is a pair: the image that the network sees; the two single digits in two colours; what
the network reconstructs from two capsules, each by itself, in the same colours and alone.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from capsmodel.networks.network import Network
from capsmodel.summaries.writing import FAINT, GROUND, TEXT, font, write
from study.overlap.pairs import Pairs
from study.overlap.training import reconstructions, scores, two_highest

# Light of the first and of the second digit; where both are, it is white.
_COLORS = np.array([(255, 145, 0), (0, 110, 255)])

_SCALE = 2
_GAP, _MARGIN, _LINE = 6, 16, 20
_BETWEEN_GROUPS = 22
_ROWS = (
    'the image',
    'its two digits',
    'reconstructed',
    'the first alone',
    'the second alone',
)


class Group(NamedTuple):
    """Columns of the picture.

    Attributes:
        title: What the pairs have in common.
        pairs: Arrays.
        classes: integers [n, 2], the classes whose capsules are reconstructed.
        drawn: float32 [n, 2, height, width], from 0 to 1: what is reconstructed from each.
    """

    title: str
    pairs: Pairs
    classes: np.ndarray
    drawn: np.ndarray


def write_picture(model: Network, pairs: Pairs, path: str | os.PathLike, each: int = 6) -> None:
    """Writes a PNG with some of the pairs, in three groups.

    The first pairs of which the network names both digits; the first ones of which it misses one;
    and the first ones again, reconstructed from the capsules of their first digit and of a class
    that is not in the image, where there should be nothing.

    Args:
        model: A network with a decoder.
        pairs: Arrays.
        path: The file; one of this name is replaced.
        each: The most columns of a group.

    Raises:
        ValueError: The network has no decoder, or there is no pair.
    """
    answers = _like_labels(two_highest(scores(model, pairs.images)), pairs.labels)
    is_right = (answers == pairs.labels).all(axis=1)
    first = np.arange(min(each, len(answers)))
    # The next class that is in neither digit.
    absent = (pairs.labels[:, :1] + np.arange(model.config.num_classes)) % model.config.num_classes
    is_absent = (absent != pairs.labels[:, :1]) & (absent != pairs.labels[:, 1:])
    absent = absent[np.arange(len(absent)), np.argmax(is_absent, axis=1)]
    asked = np.stack([pairs.labels[:, 0], absent], axis=1)
    chosen = [
        ('both right', np.flatnonzero(is_right)[:each], answers),
        ('one missed', np.flatnonzero(~is_right)[:each], answers),
        ('the second class is not there', first, asked),
    ]
    groups = [
        _group(model, title, pairs, rows, classes) for title, rows, classes in chosen if len(rows)
    ]
    target = pathlib.Path(path)
    beside = target.with_name(f'{target.name}.{os.getpid()}')
    figure(groups).save(beside, 'PNG')
    beside.replace(target)


def _group(
    model: Network, title: str, pairs: Pairs, rows: np.ndarray, classes: np.ndarray
) -> Group:
    chosen = Pairs(*(values[rows] for values in pairs))
    capsules = model.capsules(model(chosen.images))
    drawn = reconstructions(model, capsules, classes[rows]).numpy()
    return Group(title, chosen, classes[rows], drawn)


def _like_labels(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The two answers of each pair in such an order that a right one stands where its label does.

    So its reconstruction has the colour of the digit.
    """
    is_crossed = (answers[:, 0] == labels[:, 1]) | (answers[:, 1] == labels[:, 0])
    return np.where(is_crossed[:, np.newaxis], answers[:, ::-1], answers)


def figure(groups: list[Group]) -> Image.Image:
    """Draws groups side by side, each with its title, its classes and its rows of images."""
    height, width = (_SCALE * size for size in groups[0].pairs.images.shape[1:])
    left = int(max(font(13).getlength(row) for row in _ROWS)) + 12
    spans = [
        max(len(group.classes) * (width + _GAP), int(font(15).getlength(group.title)) + _GAP)
        for group in groups
    ]
    head = 4 * _LINE
    size = (
        2 * _MARGIN + left + sum(spans) + (len(groups) - 1) * _BETWEEN_GROUPS,
        2 * _MARGIN + head + len(_ROWS) * (height + _GAP) - _GAP,
    )
    sheet = Image.new('RGB', size, GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(('digits', 'capsules')):
        write(draw, (_MARGIN, _MARGIN + (1.5 + number) * _LINE), name, 13, FAINT)
    for row, name in enumerate(_ROWS):
        middle = _MARGIN + head + row * (height + _GAP) + height / 2
        write(draw, (_MARGIN, middle), name, 13, FAINT, 'lm')
    x = _MARGIN + left
    for group, span in zip(groups, spans, strict=True):
        write(draw, (x, _MARGIN), group.title, 15)
        for column, classes in enumerate(group.classes):
            place = x + column * (width + _GAP)
            for number, named in enumerate((group.pairs.labels[column], classes)):
                text = f'{named[0]}, {named[1]}'
                at = (place + width / 2, _MARGIN + (1.5 + number) * _LINE)
                write(draw, at, text, 14, TEXT, 'ma')
            for row, tile in enumerate(_tiles(group, column)):
                y = _MARGIN + head + row * (height + _GAP)
                sheet.paste(Image.fromarray(tile).resize((width, height), 0), (place, y))
        x += span + _BETWEEN_GROUPS
    return sheet


def _tiles(group: Group, column: int) -> list[np.ndarray]:
    """The images of a column from top to bottom: uint8 [height, width, 3] each."""
    drawn = group.drawn[column]
    nothing = np.zeros_like(drawn[0])
    return [
        np.repeat(group.pairs.images[column][..., np.newaxis], 3, axis=2),
        _colored(group.pairs.singles[column] / 255),
        _colored(drawn),
        _colored(np.stack([drawn[0], nothing])),
        _colored(np.stack([nothing, drawn[1]])),
    ]


def _colored(light: np.ndarray) -> np.ndarray:
    """The light of two digits, [2, height, width] from 0 to 1, in two colours that add up."""
    mixed = np.tensordot(light, _COLORS, axes=(0, 0))
    return np.round(np.clip(mixed, 0, 255)).astype(np.uint8)
