"""Images on a larger sheet, at any place of it: what networks learn before they see other views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from study.sets import draws

# As the authors of CapsNet trained for affNIST: 28x28 pixels in 40x40.
PAD = 6


def shifted(
    image: np.ndarray, label: int, identifier: str, settings: Mapping[str, Any]
) -> np.ndarray:
    """Adds PAD black pixels at each side, and moves the image by whole pixels in both directions.

    Args:
        image: uint8 [height, width].
        label: Not used.
        identifier: The image's id.
        settings: `seed`; `shift`, the most pixels that the image is moved, PAD if it is not there;
            0 leaves it in the middle.

    Returns:
        uint8 [height + 2 PAD, width + 2 PAD]. The image is never cut.

    Raises:
        ValueError: `shift` is not from 0 to PAD.
    """
    most = settings.get('shift', PAD)
    if not 0 <= most <= PAD:
        raise ValueError(f'The shift must be from 0 to {PAD} pixels, not {most}.')
    random = draws.generator('shifted', settings['seed'], identifier)
    top, left = PAD + random.integers(-most, most, 2, endpoint=True)
    height, width = image.shape
    sheet = np.zeros((height + 2 * PAD, width + 2 * PAD), np.uint8)
    sheet[top : top + height, left : left + width] = image
    return sheet
