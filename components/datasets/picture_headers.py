"""What pictures are like: their size and colours, and whether they are damaged."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

# The medians of 200 pictures hardly differ from those of all, and take a second to find.
_LOOKED_AT = 200
# The colours of a grey JPEG may differ by a few of 255 levels.
_GREY = 8
# Exif's tag of the orientation, and those of its values that turn a picture by a quarter.
_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


class TypicalPicture(NamedTuple):
    """The medians of the sizes, in pixels, and the channels: 1 if all pictures are grey, else 3."""

    height: int
    width: int
    channels: int


def look_at(paths: Sequence[str], opened: Callable[[str], IO[bytes]]) -> TypicalPicture | None:
    """Looks at some of the pictures, the same ones each time.

    Args:
        paths: Of all pictures; not empty.
        opened: Opens one of them for reading.

    Returns:
        None if none of those looked at can be read.

    Raises:
        OSError: A file cannot be opened.
    """
    sizes = []
    in_colour = False
    for path in random.Random(0).sample(paths, min(len(paths), _LOOKED_AT)):
        with opened(path) as file:
            try:
                with Image.open(file) as image:
                    turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
                    sizes.append(image.size if turned else image.size[::-1])
                    in_colour = in_colour or _is_in_colour(image)
            except Exception:  # damaged pictures make Pillow raise anything
                continue
    if not sizes:
        return None
    height, width = (statistics.median_low(side) for side in zip(*sizes, strict=True))
    return TypicalPicture(height, width, 3 if in_colour else 1)


def can_be_decoded(path: str) -> bool:
    """Whether a file is a picture that can be read to its end."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # damaged pictures make Pillow raise anything
        return False
    return True


def _is_in_colour(image: Image.Image) -> bool:
    """Whether a picture shows colours: grey ones may be stored with three channels, too."""
    if image.mode in ('1', 'L', 'LA', 'I', 'I;16'):
        return False
    image.thumbnail((64, 64))  # a large JPEG is then decoded at an eighth of its size
    return bool(np.ptp(np.asarray(image.convert('RGB'), np.int16), axis=2).max() > _GREY)
