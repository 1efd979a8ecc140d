"""Facts about pictures that TFX can compare: between splits, and with an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from capsmodel.data import images, png_chunks

# Decimal places: the decoders of two machines may differ by one of 255 levels in some pixels.
_PLACES = 4
# Markers of a JPEG. The first three begin a frame header, the others have no length behind them.
_FRAMES = (0xC0, 0xC1, 0xC2)
_ALONE = (0x01, *range(0xD0, 0xD9))


def check(
    encoded: Sequence[bytes], custom_config: Mapping[str, int]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Finds pictures that cannot be decoded, and facts about the others.

    Args:
        encoded: The contents of n files.
        custom_config: See `images.decoded_or_not`.

    Returns:
        For each picture its problem, such as 'is empty', or ''. And the facts: those of `facts`,
        and `width` and `height`, int64 [n], the pixels of the file; 0 if it has a problem.
    """
    pixels, problems = images.decoded_or_not(encoded, custom_config)
    sizes = [
        (0, 0) if problem else size(file) for file, problem in zip(encoded, problems, strict=True)
    ]
    width, height = np.array(sizes, np.int64).reshape([-1, 2]).T
    return problems, {**facts(pixels), 'width': width, 'height': height}


def facts(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """How bright, rich in contrast and colourful images are, as float64 [n], rounded.

    All sums are of whole numbers, so the results do not depend on the order of the summands.

    Args:
        pixels: uint8 [n, height, width] or [n, height, width, 3].

    Returns:
        `brightness`: the mean of all values, from 0 to 1.
        `contrast`: the standard deviation of the pixels, from 0 to 0.5. Of colours, it is the root
            of the mean variance of red, green and blue: pixels that differ only in hue do differ.
        `colourfulness`: sigma + 0.3 mu of red - green and (red + green) / 2 - blue, equations 2 to
            6 and M(3) of Hasler and Suesstrunk, "Measuring colourfulness in natural images",
            Proceedings of SPIE 5007, 2003, of values from 0 to 1. 0 without colours, 0.3 to 0.6 in
            colourful photographs.
    """
    values = pixels.reshape([*pixels.shape[:1], -1, pixels.shape[3] if pixels.ndim == 4 else 1])
    values = values.astype(np.int64)
    mean, variance = _moments(values)
    colourfulness = np.zeros(len(values))
    if values.shape[-1] == 3:
        red, green, blue = np.moveaxis(values, -1, 0)
        # Twice the opponent colours, which are whole numbers.
        means, variances = _moments(np.stack([2 * (red - green), red + green - 2 * blue], -1))
        spread, centre = np.sqrt(variances.sum(-1)), np.sqrt((means**2).sum(-1))
        colourfulness = (spread + 0.3 * centre) / 2
    return {
        'brightness': np.round(mean.mean(-1) / 255, _PLACES),
        'contrast': np.round(np.sqrt(variance.mean(-1)) / 255, _PLACES),
        'colourfulness': np.round(colourfulness / 255, _PLACES),
    }


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n, pixels, channels] to mean and variance over the pixels, float64 [n, channels]."""
    count = values.shape[1]
    total, squares = values.sum(1), (values**2).sum(1)
    return total / count, (count * squares - total**2) / count**2


def size(file: bytes) -> tuple[int, int]:
    """Width and height in the header of a PNG or a JPEG that can be decoded."""
    if file.startswith(png_chunks.START):
        return int.from_bytes(file[16:20], 'big'), int.from_bytes(file[20:24], 'big')
    place = 2
    while True:
        # 0xFF may be repeated before a marker.
        while file[place] == 0xFF:
            place += 1
        marker = file[place]
        if marker in _FRAMES:
            height, width = (
                int.from_bytes(file[place + at : place + at + 2], 'big') for at in (4, 6)
            )
            return width, height
        place += 1
        if marker not in _ALONE:
            place += int.from_bytes(file[place : place + 2], 'big')
