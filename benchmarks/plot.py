"""Plots images/s over the batch size from the rows of `benchmarks.train_step --batches`.

`python -m benchmarks.plot ROWS.json docs/train_step.png` runs in any Python with matplotlib and
needs no other package of this project.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

# The color-blind safe palette of Okabe and Ito, its yellow left out.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')


def series(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """For each step, the fastest first, its batch sizes in ascending order and their images/s."""
    of_name: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row['kind'] == 'step':
            of_name.setdefault(row['name'], []).append((row['batch'], row['images_per_s']))
    ordered = sorted(of_name.items(), key=lambda item: -max(rate for _, rate in item[1]))
    return {name: sorted(points) for name, points in ordered}


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Writes the picture to `path`, as PNG or SVG depending on its ending."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout='constrained')
    batches = sorted({row['batch'] for row in rows})
    steps = [row for row in rows if row['kind'] == 'step']
    for (name, points), color in zip(series(rows).items(), _COLORS * len(steps)):  # noqa: B905
        axes.plot(*zip(*points, strict=True), color=color, marker='o', label=name, clip_on=False)
    axes.set_xscale('log', base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel('images a step')
    axes.set_ylabel('images/s')
    modes = ' or '.join(sorted({row['gradient_mode'] for row in steps}))
    axes.set_title(
        f'Training steps of the CapsNet of {steps[0]["parameters"] / 1e6:.1f} million parameters '
        f'on MNIST\n{steps[0]["dtype"]}, {steps[0]["threads"]} CPU threads, gradient mode: {modes}',
        loc='left',
        fontsize='medium',
    )
    axes.grid(axis='y', color='#dddddd')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside right upper', frameon=False)
    root, kind = os.path.splitext(path)
    unfinished = f'{root}.unfinished{kind}'
    figure.savefig(unfinished, dpi=150, facecolor='white')
    os.replace(unfinished, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with its arguments, or those of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('rows', help='what benchmarks.train_step --json wrote')
    parser.add_argument('picture', help='where the picture goes, .png or .svg')
    options = parser.parse_args(arguments)
    try:
        with open(options.rows, encoding='utf-8') as file:
            rows = json.load(file)
    except (OSError, ValueError) as error:
        parser.error(f'{options.rows} cannot be read: {error}')
    if not series(rows):
        parser.error(f'{options.rows} has no rows of training steps')
    try:
        draw(rows, options.picture)
    except (ImportError, OSError, ValueError) as error:
        parser.error(f'{options.picture} cannot be drawn: {error}')


if __name__ == '__main__':
    main()
