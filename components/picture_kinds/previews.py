"""Shows in TensorBoard what framing makes of pictures of each kind."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from components.picture_kinds.drawn_examples import Framing

# Pixels each way for a picture, or what was framed of it; and between two of them.
_SIDE = 160
_GAP = 4
# Transparent pictures are laid on this; it is unlike their strokes.
_GROUND = (128, 160, 128)


def write(pictures: Mapping[str, Sequence[bytes]], framing: Framing, folder: str) -> None:
    """Writes an image for each kind: above the pictures, below what the network gets of them.

    Args:
        pictures: The contents of PNG or JPEG files by kind.
        framing: See `drawn_examples.write`.
        folder: The folder of a TensorBoard run; its earlier event files are removed.
    """
    for path in tf.io.gfile.glob(os.path.join(folder, '*tfevents*')):
        tf.io.gfile.remove(path)
    framed = iter(framing([each for of_kind in pictures.values() for each in of_kind]))
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step=0):
        for kind, of_kind in pictures.items():
            tf.summary.image(
                f'pictures/{kind}',
                before_and_after(of_kind, [next(framed) for _ in of_kind])[np.newaxis],
                description='Above as a person takes it, below as the network sees it',
            )
    writer.close()


def before_and_after(pictures: Sequence[bytes], framed: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in a row over what framing made of them.

    Args:
        pictures: The contents of PNG or JPEG files.
        framed: uint8 [height, width], one for each.

    Returns:
        uint8 [height, width, 3].
    """
    step = _SIDE + _GAP
    sheet = Image.new('RGB', (step * len(pictures) - _GAP, 2 * step - _GAP), 'white')
    for number, (encoded, result) in enumerate(zip(pictures, framed, strict=True)):
        picture = Image.open(io.BytesIO(encoded)).convert('RGBA')
        laid = Image.alpha_composite(Image.new('RGBA', picture.size, _GROUND), picture)
        for row, image in enumerate((laid, Image.fromarray(result))):
            scale = _SIDE / max(image.size)
            size = [max(1, round(side * scale)) for side in image.size]
            # The network's own pixels stay visible.
            method = Image.Resampling.NEAREST if row else Image.Resampling.BICUBIC
            place = (number * step, row * step)
            sheet.paste(image.resize(size, method).convert('RGB'), place)
    return np.asarray(sheet)
