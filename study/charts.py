"""Draws the charts of the study by matplotlib."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from study.plan import Chart
from study.statistics import Estimate

# The color-blind safe palette of Okabe and Ito.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')

_APART = 0.01  # of the axis, between the whiskers of two series


def draw(chart: Chart, path: pathlib.Path) -> None:
    """Writes a chart as PNG. Whiskers are the intervals of the estimates.

    Args:
        chart: What to draw.
        path: The file; it is whole when it is there.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout='constrained')
    places = [place for series in chart.series for place, _ in series.points]
    if all(isinstance(place, str) for place in places):
        _bars(axes, chart, list(dict.fromkeys(places)))
    else:
        _lines(axes, chart, sorted({float(place) for place in places}))
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.set_title(chart.title, loc='left', fontsize='medium')
    axes.grid(axis='y', color='#dddddd')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if len(chart.series) > 1:
        figure.legend(loc='outside right upper', frameon=False)
    unfinished = path.with_name(f'{path.stem}.{os.getpid()}{path.suffix}')
    # Without the version of matplotlib, the same results are the same file.
    figure.savefig(unfinished, dpi=120, facecolor='white', metadata={'Software': None})
    pyplot.close(figure)
    unfinished.replace(path)


def _lines(axes: Any, chart: Chart, places: list[float]) -> None:
    for number, (series, color) in enumerate(
        zip(chart.series, _COLORS * len(chart.series))  # noqa: B905
    ):
        xs = _aside(chart, places, number)
        means = [estimate.mean for _, estimate in series.points]
        whiskers = [_whisker(estimate) for _, estimate in series.points]
        axes.errorbar(
            xs,
            means,
            yerr=list(zip(*whiskers, strict=True)),
            color=color,
            marker='o',
            capsize=3,
            label=series.name,
        )
    if chart.is_logarithmic:
        from matplotlib import ticker

        axes.set_xscale('log')
        axes.set_yscale('log')
        for axis in (axes.xaxis, axes.yaxis):
            # An axis may have less than one power of ten.
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(ticker.FormatStrFormatter('%g'))
            axis.set_minor_formatter(ticker.NullFormatter())
    if all(place == int(place) for place in places):
        axes.set_xticks(places, [f'{int(place):,}' for place in places])


def _aside(chart: Chart, places: list[float], number: int) -> list[float]:
    """Where the points of a series are drawn, so that whiskers stand beside those of others.

    Series that share no place stay where they are: their places were measured.
    """
    xs = [float(place) for place, _ in chart.series[number].points]
    if len(places) == sum(len(series.points) for series in chart.series):
        return xs
    steps = (number - (len(chart.series) - 1) / 2) * _APART
    if chart.is_logarithmic:
        return [x * (places[-1] / places[0]) ** steps for x in xs]
    return [x + (places[-1] - places[0]) * steps for x in xs]


def _bars(axes: Any, chart: Chart, places: list[Any]) -> None:
    width = 0.8 / len(chart.series)
    for number, (series, color) in enumerate(
        zip(chart.series, _COLORS * len(chart.series))  # noqa: B905
    ):
        xs = [places.index(place) + (number + 0.5) * width - 0.4 for place, _ in series.points]
        axes.bar(
            xs,
            [estimate.mean for _, estimate in series.points],
            width * 0.9,
            yerr=list(zip(*(_whisker(estimate) for _, estimate in series.points), strict=True)),
            color=color,
            capsize=2,
            label=series.name,
        )
    axes.set_xticks(range(len(places)), places)


def _whisker(estimate: Estimate) -> tuple[float, float]:
    """How far the interval goes down and up from the mean.

    NaN for a single value, which matplotlib draws without a whisker.
    """
    return estimate.mean - estimate.low, estimate.high - estimate.mean
