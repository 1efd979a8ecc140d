"""Draws a reliability diagram for TensorBoard."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from capsmodel.calibration import BINS, Reliability
from capsmodel.summaries.writing import BAR, FAINT, GROUND, mixed, write, write_upwards

_ACCURACY = (26, 115, 232)
_SIDE = 30 * BINS  # pixels of the diagram
_LEFT, _TOP, _BELOW = 64, 64, 52


def diagram(reliability: Reliability) -> np.ndarray:
    """A bar for each bin of scores, as high as the accuracy of its images.

    A line is where the bars of a perfectly calibrated network end. A bar is the paler, the fewer
    images it stands for.

    Args:
        reliability: At least one image.

    Returns:
        uint8 [height, width, 3].
    """
    figure = Image.new('RGB', (_LEFT + _SIDE + 24, _TOP + _SIDE + _BELOW), GROUND)
    draw = ImageDraw.Draw(figure)
    count = reliability.images.sum()
    error = f'expected calibration error: {reliability.expected_error:.2%} on {count:,} images'
    write(draw, (_LEFT, 16), error, 19)
    bottom, right = _TOP + _SIDE, _LEFT + _SIDE
    for tenth in range(0, 11, 2):
        x, y = _LEFT + _SIDE * tenth // 10, bottom - _SIDE * tenth // 10
        draw.line((_LEFT, y, right, y), fill=BAR)
        write(draw, (_LEFT - 8, y), f'{tenth / 10:g}', 14, FAINT, 'rm')
        write(draw, (x, bottom + 6), f'{tenth / 10:g}', 14, FAINT, 'ma')
    width = _SIDE // BINS
    for number, images in enumerate(reliability.images):
        if images:
            shade = 0.25 + 0.75 * min(1.0, BINS * images / count)
            x, height = _LEFT + number * width, _SIDE * reliability.hits[number] / images
            draw.rectangle(
                (x + 1, bottom - round(height), x + width - 2, bottom), fill=mixed(_ACCURACY, shade)
            )
    draw.line((_LEFT, bottom, right, _TOP), fill=FAINT, width=2)
    write(draw, (_LEFT + _SIDE / 2, bottom + 28), 'highest score', 17, FAINT, 'ma')
    write_upwards(figure, (8, _TOP + _SIDE // 2), 'accuracy', 17, FAINT)
    return np.asarray(figure)
