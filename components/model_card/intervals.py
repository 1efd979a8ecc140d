"""How exact a fraction is that was counted on some images."""

from __future__ import annotations

import math

# The quantile of the normal distribution for an interval of 95%.
_Z = 1.959963984540054


def wilson(hits: int, images: int) -> tuple[float, float]:
    """The 95% interval of a fraction.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". Unlike the
    interval of the normal distribution it never leaves [0, 1], and it has a width where all or none
    of the images are hits.

    Args:
        hits: From 0 to `images`.
        images: At least 1.

    Returns:
        The lower and the upper end.
    """
    fraction = hits / images
    scale = 1 + _Z**2 / images
    middle = (fraction + _Z**2 / (2 * images)) / scale
    half = _Z / scale * math.sqrt(fraction * (1 - fraction) / images + _Z**2 / (4 * images**2))
    return max(0.0, middle - half), min(1.0, middle + half)
