"""What an exported model reads of people's pictures, and what it refuses of others.

`python -m benchmarks.pictures MODEL_FOLDER` draws test digits of MNIST as each kind of picture that
the pipeline knows, and asks the model's `serving_default`. Then it asks for pictures that are no
digits: blank sheets, noise, scribbles, two digits side by side and, where the files are, those of
Fashion-MNIST. It prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

import start_tensorflow
from benchmarks.train_step import read_mnist
from components.picture_kinds import kinds, previews

# The seed differs from the pipeline's, and so do the pictures that the gate has seen.
SEED = 'benchmark'
# Where Debian's package dataset-fashion-mnist has its files.
FASHION = '/usr/share/datasets/fashion-mnist'
_FASHION_FILE = 't10k-images-idx3-ubyte.gz'
_IDX_HEADER = 16
_BATCH_SIZE = 32

Answer = Callable[[Sequence[bytes]], Mapping[str, np.ndarray]]


class Rates(NamedTuple):
    """Percentages of some pictures.

    Attributes:
        correct: With the right class; None if none is right.
        refused: With `known` false; None for a model without that output.
    """

    correct: float | None
    refused: float | None


def rates(answer: Answer, pictures: Sequence[bytes], labels: np.ndarray | None = None) -> Rates:
    """Asks for pictures, a few at a time.

    Args:
        answer: The model: encoded pictures to its outputs.
        pictures: PNG or JPEG.
        labels: int [n], the classes; None if the pictures have none.
    """
    correct, refused = [], []
    for start in range(0, len(pictures), _BATCH_SIZE):
        answered = answer(pictures[start : start + _BATCH_SIZE])
        if labels is not None:
            correct.append(answered['label'] == labels[start : start + _BATCH_SIZE])
        if 'known' in answered:
            refused.append(~answered['known'])
    return Rates(_percentage(correct), _percentage(refused))


def _percentage(parts: Sequence[np.ndarray]) -> float | None:
    return 100 * float(np.mean(np.concatenate(parts))) if parts else None


def digits(images: np.ndarray) -> Iterator[tuple[str, list[bytes]]]:
    """Pictures of digits by kind: the files as MNIST has them, then each kind of the pipeline.

    Args:
        images: uint8 [n, height, width], light on black.
    """
    yield kinds.PLAIN, [_png(image) for image in images]
    for kind in kinds.KINDS:
        yield (
            kind,
            [kinds.draw(image, kind, f'{SEED}/{number}') for number, image in enumerate(images)],
        )


def no_digits(images: np.ndarray, fashion: str) -> Iterator[tuple[str, list[bytes]]]:
    """Pictures that do not show one digit, by what they are; as many of each as there are images.

    Args:
        images: uint8 [n, height, width], digits.
        fashion: Folder of Fashion-MNIST's files; without them, these pictures are left out.
    """
    for name, draw in _DRAWN.items():
        random = np.random.default_rng(0)
        yield name, [_png(draw(random)) for _ in images]
    random = np.random.default_rng(0)
    pairs = zip(images, images[random.permutation(len(images))], strict=True)
    yield (
        'two digits side by side',
        [
            kinds.draw(
                np.hstack(pair), ('large on a sheet', 'photograph')[number % 2], f'{SEED}/{number}'
            )
            for number, pair in enumerate(pairs)
        ],
    )
    path = os.path.join(fashion, _FASHION_FILE)
    if os.path.exists(path):
        with gzip.open(path) as file:
            clothes = np.frombuffer(file.read()[_IDX_HEADER:], np.uint8).reshape(-1, 28, 28)
        yield 'Fashion-MNIST', [_png(image) for image in clothes[: len(images)]]
    else:
        print(f'Fashion-MNIST is left out: there is no {path}.', file=sys.stderr)


def _blank(random: np.random.Generator) -> np.ndarray:
    """A sheet of one level: white, black or grey."""
    level = random.choice([0, 255, random.integers(256)])
    return np.full(random.integers(28, 300, 2), level, np.uint8)


def _uneven(random: np.random.Generator) -> np.ndarray:
    """A blank sheet under uneven light, with the slight noise of a camera."""
    height, width = random.integers(28, 300, 2)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slopes = random.uniform(-80, 80, 2)
    light = random.uniform(60, 220) + slopes[0] * y + slopes[1] * x
    return light + random.normal(0, random.uniform(0.5, 4), light.shape)


def _noise(random: np.random.Generator) -> np.ndarray:
    """Noise of any strength, grey or coloured."""
    shape = [*random.integers(28, 300, 2), *([3] if random.integers(2) else [])]
    return 128 + random.uniform(20, 100) * random.standard_normal(shape)


def _spots(random: np.random.Generator) -> np.ndarray:
    """Smooth noise: spots of a tenth to a third of the picture."""
    spots = Image.fromarray(_noise(random)[: random.integers(3, 10), :10].astype(np.uint8))
    return np.asarray(spots.resize(tuple(random.integers(60, 300, 2)), Image.Resampling.BICUBIC))


def _scribble(random: np.random.Generator) -> np.ndarray:
    """Two to four curved strokes of a pen, anywhere on a sheet."""
    side = int(random.integers(100, 200))
    sheet = Image.new('L', (side, side), 255)
    pen = ImageDraw.Draw(sheet)
    width = max(2, round(side * random.uniform(0.03, 0.07)))
    for _ in range(random.integers(2, 5)):
        bends = random.uniform(0.1, 0.9, (4, 2)) * side
        share = np.linspace(0, 1, 30)[:, np.newaxis]
        # A cubic Bezier curve.
        weights = np.hstack(
            [(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3]
        )
        points = [tuple(point) for point in weights @ bends]
        pen.line(points, fill=20, width=width, joint='curve')
    return np.asarray(sheet)


_DRAWN: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    'blank sheet': _blank,
    'blank sheet, uneven light': _uneven,
    'noise': _noise,
    'spots': _spots,
    'scribbles': _scribble,
}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(file, 'PNG', compress_level=1)
    return file.getvalue()


def load(folder: str, signature: str = 'serving_default') -> Answer:
    """A signature of the SavedModel in a folder that takes encoded pictures."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)

    def answer(pictures: Sequence[bytes]) -> dict[str, np.ndarray]:
        outputs = model.signatures[signature](image_bytes=tf.constant(list(pictures)))
        return {name: output.numpy() for name, output in outputs.items()}

    return answer


def table(answer: Answer, images: np.ndarray, labels: np.ndarray, fashion: str) -> Iterator[str]:
    """The lines of the table.

    Args:
        answer: The model.
        images: uint8 [n, height, width], digits.
        labels: int [n], their classes.
        fashion: Folder of Fashion-MNIST's files.
    """
    yield f'| {len(images):,} pictures each | correct | refused |'
    yield '| --- | --- | --- |'
    for name, pictures in digits(images):
        yield _row(name, rates(answer, pictures, labels))
    for name, pictures in no_digits(images, fashion):
        yield _row(name, rates(answer, pictures))


def _row(name: str, found: Rates) -> str:
    cells = ['' if value is None else f'{value:.1f}%' for value in found]
    return f'| {name} | {cells[0]} | {cells[1]} |'


def main() -> None:
    """Prints the table for the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='folder of a SavedModel')
    parser.add_argument('--count', type=int, default=300, help='pictures of each kind')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder with MNIST")
    parser.add_argument('--fashion', default=FASHION, help="folder of Fashion-MNIST's files")
    parser.add_argument(
        '--sheet', help='PNG to write, with a picture of each kind over its framing'
    )
    arguments = parser.parse_args()
    start_tensorflow.hide_gpus()
    start_tensorflow.load()
    images, labels = read_mnist(f'test[:{arguments.count}]', arguments.data_dir)
    if arguments.sheet:
        pictures = [of_kind[number] for number, (_, of_kind) in enumerate(digits(images[:20]))]
        framed = load(arguments.model, 'explain')(pictures)['image']
        Image.fromarray(previews.before_and_after(pictures, list(framed))).save(arguments.sheet)
    for line in table(load(arguments.model), images, labels, arguments.fashion):
        print(line, flush=True)


if __name__ == '__main__':
    main()
