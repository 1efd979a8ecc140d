"""How many images of each class the splits have, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

# The most columns of a table of counts; with more there are only the extremes.
_WIDTH = 120
# The most classes that a sentence names.
_MOST_NAMED = 10


def count(labels: Mapping[str, np.ndarray], num_classes: int) -> dict[str, np.ndarray]:
    """The number of images of each label from 0 to num_classes - 1, int64 [num_classes], by split.

    Args:
        labels: int64 [n] by split; others than these labels are not counted.
        num_classes: The number of labels.
    """
    return {
        split: np.bincount(each[(each >= 0) & (each < num_classes)], minlength=num_classes)
        for split, each in labels.items()
    }


def table(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """A line for each split, with its number of images and those of each class.

    Args:
        counts: See `count`.
        names: The classes' names by label.
    """
    rows = [['', 'images', *names]]
    rows += [[split, *(f'{n:,}' for n in (each.sum(), *each))] for split, each in counts.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= _WIDTH:
        return '\n'.join(
            f'  {row[0]:{widths[0]}}'
            + ''.join(f'  {cell:>{width}}' for cell, width in zip(row[1:], widths[1:], strict=True))
            for row in rows
        )
    lines = []
    for split, each in counts.items():
        fewest, most = int(each.argmin()), int(each.argmax())
        lines.append(
            f'  {split:{widths[0]}}  {each.sum():,} images of {len(names):,} classes, '
            f'from {each[fewest]:,} ({names[fewest]}) to {each[most]:,} ({names[most]})'
        )
    return '\n'.join(lines)


def refusals(
    counts: Mapping[str, np.ndarray],
    names: Sequence[str],
    min_test_images: int,
    min_class_images: int,
) -> Iterator[str]:
    """A sentence for each reason why these are too few images.

    Args:
        counts: See `count`, with a split `test`.
        names: The classes' names by label.
        min_test_images: The number of test images that are enough.
        min_class_images: The number of images of a class that are enough in a split. A class
            without images is never enough.
    """
    total = counts['test'].sum()
    if total < min_test_images:
        yield (
            f'No model can be judged by the test images: there are {total:,}, and MIN_TEST_IMAGES '
            f'asks for at least {min_test_images:,}. Give more of them, or set a lower bound.'
        )
    nowhere = np.sum(list(counts.values()), 0) == 0
    if nowhere.any():
        yield (
            f'The labels have a gap: no split has an image of class {_named(nowhere, names)}. A '
            'model can neither learn such a class nor be judged by it, so leave the class out of '
            'the dataset, or add images.'
        )
    missing = {split: (each == 0) & ~nowhere for split, each in counts.items()}
    if any(each.any() for each in missing.values()):
        where = '; '.join(
            f'{split} has none of class {_named(each, names)}'
            for split, each in missing.items()
            if each.any()
        )
        yield (
            f'A class has no images in a split: {where}. Each split needs images of every class: '
            'train to learn from, eval to pick the best epoch, and test to judge the model.'
        )
    few = {split: (each > 0) & (each < min_class_images) for split, each in counts.items()}
    if any(each.any() for each in few.values()):
        where = '; '.join(
            f'{split} has {_named(each, names, counts[split])}'
            for split, each in few.items()
            if each.any()
        )
        yield (
            f'A class has too few images in a split: {where}; and MIN_CLASS_IMAGES asks for at '
            f'least {min_class_images:,}. Add images of these classes, or set a lower bound.'
        )


def _named(chosen: np.ndarray, names: Sequence[str], counts: np.ndarray | None = None) -> str:
    """Names the first of the chosen classes, bool [num_classes], with their counts if given."""
    labels = np.flatnonzero(chosen)
    texts = [
        names[label] if counts is None else f'{counts[label]:,} of class {names[label]}'
        for label in labels[:_MOST_NAMED]
    ]
    more = f' and {len(labels) - _MOST_NAMED:,} more' if len(labels) > _MOST_NAMED else ''
    return ', '.join(texts) + more
