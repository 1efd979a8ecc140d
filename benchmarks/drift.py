"""How far ordinary and other pictures are from a model's own data: the tables of docs/drift.md.

`python -m benchmarks.drift var` takes the newest version in the folder VAR of a run on MNIST, and
about two minutes. The thresholds in components/drift/distances.py come from its first table, which
compares random sets of test images with the eval images, 300 times each; the second one compares
pictures of other kinds.
"""

from __future__ import annotations

import argparse
import glob
import os
import statistics
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import start_tensorflow
from benchmarks.train_step import read_mnist

if TYPE_CHECKING:
    from components.drift.asked_model import AskedModel
    from components.drift.quantities import Quantities

_SIZES = (100, 300, 1000)  # images in a set
_SETS = 300
_TEST_IMAGES = 3000
_ASKED = 300  # pictures of a kind
_ROLLS = ((0, 0), (1, 0), (0, 1), (1, 1))


def kinds(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures by kind, uint8 [n, 28, 28] each.

    Args:
        images: Test images, uint8 [n, 28, 28].
        labels: int64 [n].
    """
    rng = np.random.default_rng(0)
    some = images[rng.choice(len(images), _ASKED, replace=False)]
    noisy = some + rng.normal(0, 60, some.shape)
    thick = np.max([np.roll(some, roll, axis=(1, 2)) for roll in _ROLLS], axis=0)
    return {
        'inverted': 255 - some,
        'half as bright': some // 2,
        'strokes one pixel thicker': thick,
        'with noise, standard deviation 60 of 255': np.clip(noisy, 0, 255).astype(np.uint8),
        'upside down': some[:, ::-1],
        'turned by 90 degrees': np.rot90(some, axes=(1, 2)),
        'ones only': images[labels == 1][:_ASKED],
        'nothing but noise': rng.integers(0, 256, some.shape, dtype=np.uint8),
    }


def asked(model: AskedModel, images: np.ndarray) -> Quantities:
    """The quantities of images, uint8 [n, 28, 28], that a model is asked about as PNGs."""
    import tensorflow as tf

    from components.drift import quantities

    pictures = (tf.io.encode_png(image[..., np.newaxis]).numpy() for image in images)
    return quantities.joined(
        [
            {**quantities.of_answer(answer), **quantities.of_image(answer['image'])}
            for answer in model.answers(pictures)
            if answer is not None
        ]
    )


def by_chance(reference: Quantities, test: Quantities) -> Iterator[str]:
    """The lines of the first table."""
    from components.drift import distances
    from components.drift.quantities import CATEGORICAL, NUMERIC

    yield '| images in a set | median, numbers | largest, numbers | known | label |'
    yield '| --- | --- | --- | --- | --- |'
    rng = np.random.default_rng(0)
    for size in _SIZES:
        found: dict[str, list[float]] = {}
        for _ in range(_SETS):
            rows = rng.choice(len(test['score']), size, replace=False)
            of_set = {name: values[rows] for name, values in test.items()}
            for name, each in distances.compare(reference, of_set).items():
                found.setdefault(name, []).append(each.value)
        medians = [statistics.median(found[name]) for name in NUMERIC]
        largest = max(max(found[name]) for name in NUMERIC)
        of_categories = ' | '.join(
            f'{statistics.median(found[name]):.3f}, at most {max(found[name]):.3f}'
            for name in CATEGORICAL
        )
        numbers = f'{min(medians):.3f} to {max(medians):.3f} | {largest:.3f}'
        yield f'| {size:,} | {numbers} | {of_categories} |'


def of_kinds(
    reference: Quantities, model: AskedModel, pictures_of: dict[str, np.ndarray]
) -> Iterator[str]:
    """The lines of the second table, from what `kinds` returns."""
    from components.drift import distances

    shown = ('brightness', 'score', 'reconstruction_error', 'known', 'label')
    yield f'| pictures | {" | ".join(name.replace("_", " ") for name in shown)} |'
    yield f'| --- {"| --- " * len(shown)}|'
    for name, pictures in pictures_of.items():
        measured = distances.compare(reference, asked(model, pictures))
        cells = [
            f'**{each.value:.3f}**' if each.moved else f'{each.value:.3f}'
            for each in (measured[quantity] for quantity in shown)
        ]
        yield f'| {name} | {" | ".join(cells)} |'


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('var', help='the folder VAR of a run on MNIST')
    parser.add_argument('--pipeline_name', default='capsnet')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    arguments = parser.parse_args()
    versions = glob.glob(f'{arguments.var}/serving_model/{arguments.pipeline_name}/[0-9]*')
    runs = f'{arguments.var}/pipeline_root/{arguments.pipeline_name}'
    examples = glob.glob(f'{runs}/TfdsExampleGen/examples/[0-9]*')
    if not versions or not examples:
        sys.exit(f'{arguments.var} has no pushed version of {arguments.pipeline_name}')
    start_tensorflow.load()
    from components.drift import reference
    from components.drift.asked_model import AskedModel

    model = AskedModel(max(versions, key=os.path.getmtime))
    newest = max(examples, key=os.path.getmtime)
    own = reference.measure(model, f'{newest}/Split-eval/*')
    images, labels = read_mnist('test', arguments.data_dir)
    print(*by_chance(own, asked(model, images[:_TEST_IMAGES])), sep='\n', end='\n\n')
    print(*of_kinds(own, model, kinds(images, labels)), sep='\n')


if __name__ == '__main__':
    _main()
