"""A picture of pairs and of what a network makes of them: figure 5 of Sabour, Frosst, Hinton 2017.

Each column is a pair: the image that the network sees; the two single digits in two colours; what
the network reconstructs from two capsules, each by itself, in the same colours and alone.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from capsmodel.networks.network import Network
from capsmodel.summaries.writing import FAINT, GROUND, font, write
from study.overlap.pairs import Pairs
from study.overlap.training import reconstructions, scores, two_highest

# Light of the first and of the second digit; where both are, it is white.
_COLORS = np.array([(255, 145, 0), (0, 110, 255)])
_TEXT_COLORS = ('#b35c00', '#0057d9')  # the same, dark enough to be read on white

_LOOKED_AT = 1000
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
    """Writes a PNG with the groups that `groups` makes of some pairs.

    Args:
        model: A network with a decoder.
        pairs: Arrays, at least one pair.
        path: The file; one of this name is replaced.
        each: The most columns of a group.

    Raises:
        ValueError: The network has no decoder.
    """
    target = pathlib.Path(path)
    beside = target.with_name(f'{target.name}.{os.getpid()}')
    figure(groups(model, pairs, each)).save(beside, 'PNG')
    beside.replace(target)


def groups(model: Network, pairs: Pairs, each: int) -> list[Group]:
    """Up to three groups of pairs; one without pairs is left out.

    The first pairs of which the network names both digits; the first ones of which it misses at
    least one; and the first ones of all, reconstructed from the capsules of their first digit and
    of a class that is not in the image, where there should be nothing.

    Args:
        model: A network with a decoder.
        pairs: Arrays; the first 1,000 of them are looked at.
        each: The most pairs of a group.

    Raises:
        ValueError: The network has no decoder.
    """
    if not model.config.has_decoder:
        raise ValueError('The picture shows reconstructions, and this network has no decoder')
    pairs = Pairs(*(values[:_LOOKED_AT] for values in pairs))
    labels, classes = pairs.labels, model.config.num_classes
    answers = _like_labels(two_highest(scores(model, pairs.images)), labels)
    is_right = (answers == labels).all(axis=1)
    asked = np.array([(first, _absent(first, second, classes)) for first, second in labels])
    chosen = [
        ('both right', np.flatnonzero(is_right), answers),
        ('at least one missed', np.flatnonzero(~is_right), answers),
        ('the second class is not there', np.arange(len(labels)), asked),
    ]
    made = []
    for title, rows, of_capsules in chosen:
        some = rows[:each]
        if len(some):
            shown = Pairs(*(values[some] for values in pairs))
            capsules = model.capsules(model(shown.images))
            drawn = reconstructions(model, capsules, of_capsules[some])
            made.append(Group(title, shown, of_capsules[some], drawn.numpy()))
    return made


def _like_labels(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The two answers of each pair in such an order that a right one stands where its label does.

    So its reconstruction has the colour of the digit.
    """
    is_crossed = (answers[:, 0] == labels[:, 1]) | (answers[:, 1] == labels[:, 0])
    return np.where(is_crossed[:, np.newaxis], answers[:, ::-1], answers)


def _absent(first: int, second: int, classes: int) -> int:
    """The next class after the first one that is not the second one."""
    following = (first + 1) % classes
    return following if following != second else (first + 2) % classes


def figure(shown: Sequence[Group]) -> Image.Image:
    """Draws groups side by side, each with its title, its classes and its rows of images."""
    height, width = (_SCALE * size for size in shown[0].pairs.images.shape[1:])
    left = int(max(font(13).getlength(row) for row in _ROWS)) + 12
    spans = [
        max(len(group.classes) * (width + _GAP), int(font(15).getlength(group.title)) + _GAP)
        for group in shown
    ]
    head = 4 * _LINE
    size = (
        2 * _MARGIN + left + sum(spans) + (len(shown) - 1) * _BETWEEN_GROUPS,
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
    for group, span in zip(shown, spans, strict=True):
        write(draw, (x, _MARGIN), group.title, 15)
        for column, classes in enumerate(group.classes):
            place = x + column * (width + _GAP)
            for number, named in enumerate((group.pairs.labels[column], classes)):
                for each, (label, color) in enumerate(zip(named, _TEXT_COLORS, strict=True)):
                    at = (place + (1 + each) * width / 3, _MARGIN + (1.5 + number) * _LINE)
                    write(draw, at, f'{label}', 15, color, 'ma')
            for row, tile in enumerate(_tiles(group, column)):
                y = _MARGIN + head + row * (height + _GAP)
                enlarged = Image.fromarray(tile).resize((width, height), Image.Resampling.NEAREST)
                sheet.paste(enlarged, (place, y))
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
