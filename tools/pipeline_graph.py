"""Draws the graph of the pipeline as docs/pipeline.svg, from what TFX makes of the pipeline:

make data && .venv/bin/python -W ignore tools/pipeline_graph.py
"""

from __future__ import annotations

import os
import pathlib
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from pipeline import configs, run_node

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / 'docs' / 'pipeline.svg'

_WIDTH, _HEIGHT, _COLUMN, _ROW = 156, 32, 180, 58
_COLOURS = {True: ('#eef1f4', '#8a949e'), False: ('#dfe6ff', '#4051b5')}


class Node(NamedTuple):
    """A node of the pipeline.

    Attributes:
        is_of_tfx: Whether TFX has it; the others are this project's own.
        needs: The nodes that end before it starts.
    """

    is_of_tfx: bool
    needs: frozenset[str]


def nodes_of(config: configs.Config) -> dict[str, Node]:
    """The nodes in the intermediate representation of the pipeline, in their order."""
    found = [node.pipeline_node for node in run_node.compiled(config, 'graph').nodes]
    return {
        node.node_info.id: Node(
            node.node_info.type.name.startswith('tfx.'), frozenset(node.upstream_nodes)
        )
        for node in found
    }


def drawing(nodes: Mapping[str, Node]) -> str:
    """The graph as SVG, from top to bottom.

    Args:
        nodes: By name, each after those that it needs.
    """
    edges = _direct(nodes)
    rows: dict[str, int] = {}
    for name, needs in edges.items():
        rows[name] = 1 + max((rows[other] for other in needs), default=-1)
    columns = _columns(edges, rows)
    parts = [
        _arrow(columns[a], rows[a], columns[b], rows[b])
        for b, needs in edges.items()
        for a in needs
    ]
    parts += [_box(name, columns[name], rows[name], nodes[name].is_of_tfx) for name in nodes]
    # The legend has a column of its own.
    legend = max(columns.values()) + 1
    parts.append(_box('a node of TFX', legend, 0, True))
    parts.append(_box('a node of this project', legend, 1, False))
    width = (legend + 1) * _COLUMN
    height = (max(rows.values()) + 1) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        'font-family="sans-serif" font-size="13">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + '\n'.join(parts)
        + '\n</svg>\n'
    )


def _direct(nodes: Mapping[str, Node]) -> dict[str, list[str]]:
    """What each node needs, without what it needs through another one."""
    all_needed: dict[str, set[str]] = {}
    for name, node in nodes.items():
        all_needed[name] = set(node.needs).union(*(all_needed[other] for other in node.needs))
    return {
        name: sorted(
            other
            for other in node.needs
            if not any(other in all_needed[between] for between in node.needs)
        )
        for name, node in nodes.items()
    }


def _columns(edges: Mapping[str, list[str]], rows: Mapping[str, int]) -> dict[str, int]:
    """A column for each node, near those that it needs, where neither node nor arrow is."""
    last = {
        name: max([rows[b] for b in edges if name in edges[b]] or [rows[name]]) for name in edges
    }
    columns: dict[str, int] = {}
    for name in sorted(edges, key=lambda name: rows[name]):
        wanted = statistics.mean([columns[other] for other in edges[name]] or [0])
        taken = {
            columns[other]
            for other in columns
            if rows[other] == rows[name] or rows[other] < rows[name] < last[other]
        }
        free = set(range(len(edges))) - taken
        columns[name] = min(free, key=lambda column: (abs(column - wanted), column))
    return columns


def _centre(column: int, row: int) -> tuple[int, int]:
    return column * _COLUMN + _COLUMN // 2, row * _ROW + _ROW // 2


def _box(text: str, column: int, row: int, is_of_tfx: bool) -> str:
    x, y = _centre(column, row)
    fill, line = _COLOURS[is_of_tfx]
    return (
        f'<rect x="{x - _WIDTH // 2}" y="{y - _HEIGHT // 2}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'rx="6" fill="{fill}" stroke="{line}"/>'
        f'<text x="{x}" y="{y + 4}" text-anchor="middle">{text}</text>'
    )


def _arrow(column: int, row: int, to_column: int, to_row: int) -> str:
    """A line down the column to the row before the last one, and from there to its end."""
    x, y = _centre(column, row)
    to_x, to_y = _centre(to_column, to_row)
    y, to_y = y + _HEIGHT // 2, to_y - _HEIGHT // 2
    bend = to_y - (_ROW - _HEIGHT)
    middle = (bend + to_y) // 2
    return (
        f'<path d="M{x} {y}V{bend}C{x} {middle} {to_x} {middle} {to_x} {to_y}" fill="none" '
        f'stroke="#68727c"/><path d="M{to_x} {to_y}l-4 -7h8z" fill="#68727c"/>'
    )


def main() -> None:
    config = configs.from_environment({'VAR': str(ROOT / 'var')})
    unfinished = PICTURE.with_name(f'{PICTURE.name}.unfinished')
    unfinished.write_text(drawing(nodes_of(config)))
    os.replace(unfinished, PICTURE)


if __name__ == '__main__':
    main()
