"""Defaults and rules for slices of a TFDS dataset: to train, to pick the best epoch, and to test.

A slice is written as in TFDS: 'train[:55000]'. Its name is its purpose: 'train', 'eval' or 'test',
which come from the settings TRAIN_SPLIT, EVAL_SPLIT and TEST_SPLIT.
"""

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any

from components.datasets.errors import DatasetError, first_line


def default_slices(
    sizes: Mapping[str, int], most: Mapping[str, int] | None = None
) -> dict[str, str]:
    """The slices of a dataset that are used unless settings name others.

    If the dataset has splits `validation` and `test`, the first picks the epoch and the second
    tests. If it has one of them, that one tests, and the last twelfth of `train` picks the epoch:
    for MNIST, 5,000 images of 60,000. If it has neither, the last sixth of `train` is divided: its
    first half picks the epoch, and its second half tests.

    Args:
        sizes: The number of images of each split.
        most: The most images of a slice, by purpose; it gets its first images.

    Returns:
        The slices 'train', 'eval' and 'test'; an empty dictionary if there is no split `train`.
    """
    sizes = {name: size for name, size in sizes.items() if size}
    if 'train' not in sizes:
        return {}
    size, twelfth = sizes['train'], math.ceil(sizes['train'] / 12)
    held_out = [name for name in ('test', 'validation') if name in sizes]
    rest = size if held_out else max(size - 2 * twelfth, 0)  # images of `train` that do not test
    learned = rest if len(held_out) == 2 else max(rest - twelfth, 0)
    most = most or {}
    learned = min(learned, most.get('train', learned))
    pieces = {
        'train': ('train', 0, learned),
        'eval': ('train', learned, rest),
        'test': (held_out[0], 0, sizes[held_out[0]]) if held_out else ('train', rest, size),
    }
    if len(held_out) == 2:
        pieces['eval'] = ('validation', 0, sizes['validation'])
    return {
        purpose: _slice(split, start, min(stop, start + most.get(purpose, stop)), sizes[split])
        for purpose, (split, start, stop) in pieces.items()
    }


def _slice(split: str, start: int, stop: int, size: int) -> str:
    if (start, stop) == (0, size):
        return split
    return f'{split}[{start or ""}:{"" if stop == size else stop}]'


def check_slices(
    builder: Any,
    slices: Mapping[str, str],
    min_test_images: int = 0,
    may_share: Collection[str] = (),
) -> None:
    """Refuses all slices of a prepared dataset that cannot be used, in one message.

    Args:
        builder: TFDS's builder of the dataset.
        slices: The slices by purpose.
        min_test_images: The fewest images of 'test'.
        may_share: The purposes of two slices that may share images.

    Raises:
        DatasetError: A slice is misspelled, is of a split that the dataset does not have, reaches
            beyond its end, or is empty; two of them, or two parts of one, share images; or there
            are too few test images. The message names the setting of each.
    """
    problems = {name: _problem(builder, pattern) for name, pattern in slices.items()}
    found = [f'{_setting(name)} {problem}' for name, problem in problems.items() if problem]
    sound = {name: pattern for name, pattern in slices.items() if not problems[name]}
    found += _shared(builder, sound, may_share)
    if 'test' in sound and (count := number_of_images(builder, sound['test'])) < min_test_images:
        found.append(
            f'TEST_SPLIT ({sound["test"]!r}) has {count:,} images, and MIN_TEST_IMAGES asks for at '
            f'least {min_test_images:,}: choose a larger slice or a lower bound'
        )
    if found:
        raise DatasetError(
            f'{builder.name} cannot be sliced like this: {"; ".join(found)}. '
            f'Its splits are {_splits(builder)}.'
        )


def number_of_images(builder: Any, pattern: str) -> int:
    """The number of images of a valid slice."""
    return builder.info.splits[pattern].num_examples


def _splits(builder: Any) -> str:
    """The splits of a prepared dataset, for a person: 'train (60,000 images), ...'."""
    splits = builder.info.splits.items()
    return ', '.join(f'{name} ({split.num_examples:,} images)' for name, split in splits)


def _setting(name: str) -> str:
    return f'{name.upper()}_SPLIT'


def _problem(builder: Any, pattern: str) -> str:
    """Why a slice is wrong, apart from the others; '' if it can be used."""
    if not pattern:
        return "is not set, and there is no split 'train' to choose images from"
    try:
        # One by one, since one part of a sum may be empty, or even have a negative count.
        counts = [number_of_images(builder, part.strip()) for part in pattern.split('+')]
    except NotImplementedError:
        reason = "'all' can only be taken as a whole"
    except (KeyError, ValueError, AssertionError) as error:
        # If TFDS cannot parse a slice, the reason is the last line.
        reason = (str(error).strip().splitlines() or [first_line(error)])[-1].rstrip('.')
    else:
        return '' if min(counts) > 0 else f'({pattern!r}) is empty'
    return f'({pattern!r}) is not a slice of {builder.name} ({reason})'


def _shared(builder: Any, slices: Mapping[str, str], may_share: Collection[str]) -> list[str]:
    """A sentence for each pair of slices that share images, and each slice that has one twice."""
    pieces = sorted(
        (part.filename, part.skip, part.skip + part.take, name)
        for name, pattern in slices.items()
        for part in builder.info.splits[pattern].file_instructions
    )
    names = list(slices)
    pairs = {
        tuple(sorted((name, other), key=names.index))
        for _, of_file in itertools.groupby(pieces, key=lambda piece: piece[0])
        for (_, _, end, name), (_, start, _, other) in itertools.combinations(of_file, 2)
        if start < end and {name, other} != set(may_share)
    }
    return [
        f'{_setting(name)} ({slices[name]!r}) has images more than once'
        if name == other
        else f'{_setting(name)} ({slices[name]!r}) and {_setting(other)} ({slices[other]!r}) share '
        'images: what was learned from says nothing of a model'
        for name, other in sorted(pairs, key=lambda pair: [names.index(name) for name in pair])
    ]
