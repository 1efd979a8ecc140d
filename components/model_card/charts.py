"""Charts as SVG inside a page, in the colours of its style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34


def lines(curves: Mapping[str, Points], label: str, below: str) -> str:
    """Curves over one pair of axes.

    Args:
        curves: By CSS class, one or more points of x >= 0 and y.
        label: What the chart shows, for those who do not see it.
        below: What the horizontal axis is.
    """
    points = [point for curve in curves.values() for point in curve]
    right = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(point: tuple[float, float]) -> str:
        x, y = point
        return f'{_x(x / right):.1f},{_y((y - low) / (high - low)):.1f}'

    parts = _grid(lambda share: f'{low + share * (high - low):.3g}')
    for name, curve in curves.items():
        if len(curve) == 1:
            left, top = place(curve[0]).split(',')
            parts.append(f'<circle class="dot-{name}" cx="{left}" cy="{top}" r="3"/>')
        parts.append(f'<polyline class="{name}" points="{" ".join(map(place, curve))}"/>')
    parts += _below(f'0 to {right:,.0f} {below}')
    return _svg(parts, label)


def reliability(bins: Sequence[Mapping[str, Any]], label: str) -> str:
    """The accuracy of the answers in each bin of scores, beside the line where both are equal."""
    parts = _grid('{:.0%}'.format)
    for each in bins:
        left, right = _x(each['from']) + 1, _x(each['to']) - 1
        top = _y(each['accuracy'])
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{_y(0) - top:.1f}"><title>{each["images"]:,} images</title></rect>'
        )
    parts.append(f'<path class="other" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>')
    parts += _below('highest score, 0 to 1')
    return _svg(parts, label)


def whiskers(value: float, interval: Sequence[float], low: float) -> str:
    """A fraction and its interval on an axis from `low` to 1."""
    scale = 140 / (1 - low) if low < 1 else 140
    start, dot, end = (
        5 + max(0.0, each - low) * scale for each in (interval[0], value, interval[1])
    )
    return (
        '<svg class="whiskers" viewBox="0 0 150 14" aria-hidden="true">'
        '<path class="axis" d="M5 7H145"/>'
        f'<path class="first" d="M{start:.1f} 7H{end:.1f}"/>'
        f'<circle class="dot-first" cx="{dot:.1f}" cy="7" r="4"/></svg>'
    )


def lowest_for_whiskers(intervals: Sequence[Sequence[float]]) -> float:
    """Where an axis begins that has room for these intervals: a multiple of 0.05 below 1."""
    lowest = min((low for low, _ in intervals), default=0.0)
    return min(0.95, math.floor(lowest * 20) / 20)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(text: Callable[[float], str]) -> list[str]:
    """Horizontal lines at the bottom, in the middle and at the top, each with its text."""
    parts = []
    for share in (0, 0.5, 1):
        y = _y(share)
        parts += [
            f'<path class="axis" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(share)}</text>',
        ]
    return parts


def _below(text: str) -> list[str]:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(text)}</text>']


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        f'{"".join(parts)}</svg>'
    )
