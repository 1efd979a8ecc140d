"""Digits as people draw them: strokes through points, in shares of the drawing area's side."""

import itertools
import math


def _arc(x, y, across, down, start, end, points=20):
    """Part of an ellipse; angles in turns, 0 on the right, a quarter at the bottom."""
    angles = [math.tau * (start + (end - start) * i / (points - 1)) for i in range(points)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def _line(*corners, points=5):
    return [
        (x0 + (x1 - x0) * i / points, y0 + (y1 - y0) * i / points)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners)
        for i in range(points + 1)
    ]


DIGITS = {
    0: [_arc(0.5, 0.5, 0.2, 0.32, -0.25, 0.75, 40)],
    1: [_line((0.56, 0.18), (0.46, 0.82))],
    2: [_arc(0.5, 0.35, 0.19, 0.17, 0.45, 1.1) + _line((0.6, 0.48), (0.3, 0.8), (0.74, 0.78))],
    3: [_arc(0.48, 0.34, 0.18, 0.15, 0.55, 1.25) + _arc(0.48, 0.65, 0.21, 0.17, 0.75, 1.42)],
    4: [
        _line((0.36, 0.2), (0.3, 0.52), (0.7, 0.5)),
        _line((0.66, 0.2), (0.6, 0.84)),
    ],
    5: [
        _line((0.36, 0.2), (0.34, 0.47)) + _arc(0.46, 0.63, 0.22, 0.19, 0.65, 1.42),
        _line((0.36, 0.2), (0.7, 0.18)),
    ],
    6: [_line((0.6, 0.18), (0.42, 0.4)) + _arc(0.49, 0.64, 0.17, 0.17, 0.5, 1.55, 40)],
    7: [_line((0.28, 0.22), (0.72, 0.22), (0.44, 0.82))],
    8: [_arc(0.5, 0.33, 0.15, 0.14, 0.25, -0.75) + _arc(0.5, 0.65, 0.19, 0.18, -0.25, 0.75, 32)],
    9: [_arc(0.48, 0.36, 0.17, 0.17, 0.0, -1.0) + _line((0.65, 0.36), (0.6, 0.84))],
}
