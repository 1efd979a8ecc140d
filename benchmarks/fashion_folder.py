"""Writes Fashion-MNIST as a folder of 70,000 PNGs, for `make run IMAGES=...` at full size.

python -m benchmarks.fashion_folder OUT [--source FOLDER]

The folder is as the pipeline reads it: OUT/train/Sandal/00000.png, OUT/test/Sandal/00000.png and so
on. The four gzipped IDX files come from Debian's package dataset-fashion-mnist, or are downloaded
by hand from https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

DEBIAN_FOLDER = '/usr/share/datasets/fashion-mnist'

# The names in the dataset's README, in the order of its labels.
CLASS_NAMES = (
    'T-shirt', 'Trouser', 'Pullover', 'Dress', 'Coat',
    'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip
_SPLITS = {'train': 'train', 'test': 't10k'}


def write(out: str | os.PathLike, source: str | os.PathLike = DEBIAN_FOLDER) -> dict[str, int]:
    """Writes one grey PNG for each image.

    Args:
        out: The folder to write. Files that are there already are written again.
        source: The folder with the four files `*-ubyte.gz`.

    Returns:
        The number of pictures by split.

    Raises:
        OSError: A file cannot be read or written.
    """
    counts = {}
    for split, prefix in _SPLITS.items():
        images = _read(pathlib.Path(source, f'{prefix}-images-idx3-ubyte.gz'))
        labels = _read(pathlib.Path(source, f'{prefix}-labels-idx1-ubyte.gz'))
        for name in CLASS_NAMES:
            pathlib.Path(out, split, name).mkdir(parents=True, exist_ok=True)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = pathlib.Path(out, split, CLASS_NAMES[label], f'{index:05}.png')
            Image.fromarray(image).save(path)
        counts[split] = len(images)
    return counts


def _read(path: pathlib.Path) -> np.ndarray:
    """The uint8 array in a gzipped IDX file, whose header has the number and sizes of its axes."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, '>i4', axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with these arguments, or those of the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='the folder to write')
    parser.add_argument('--source', default=DEBIAN_FOLDER, help='folder with the four IDX files')
    options = parser.parse_args(arguments)
    try:
        counts = write(options.out, options.source)
    except OSError as error:
        sys.exit(f'{error.filename or options.out}: {error.strerror}')
    print(f'{options.out}: ' + ', '.join(f'{count:,} in {name}' for name, count in counts.items()))


if __name__ == '__main__':
    main()
