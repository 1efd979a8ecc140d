"""Writes the tables of results in docs/ from results.csv.

.venv/bin/python -m study.tables

A document has a table where it has these two lines, with a claim of results.csv:

    <!-- results of accuracy: `python -m study.tables` writes this table -->
    <!-- end of results -->
"""

from __future__ import annotations

import os
import pathlib
import re
import statistics
import sys
from collections.abc import Iterator, Sequence

from study.results import DOCS, KEY, ResultError, Row, mean_and_deviation, read

_GROUP = KEY[:-1]  # seeds of the same training share a line
_BEGIN = '<!-- results of '
_BLOCK = re.compile(
    rf'^({_BEGIN}(\S+): `python -m study\.tables` writes this table -->\n)'
    r'(?:(?!<!--).)*^(<!-- end of results -->)$',
    re.DOTALL | re.MULTILINE,
)


def write(docs: pathlib.Path = DOCS) -> None:
    """Writes all tables again in the Markdown documents of a folder; others stay untouched.

    Raises:
        ResultError: results.csv is wrong, or a document has half a block or an unknown claim.
    """
    rows = read()
    changed = {}
    for page in sorted(docs.rglob('*.md')):
        text = page.read_text(encoding='utf-8')
        try:
            new = with_tables(text, rows)
        except ResultError as error:
            raise ResultError(f'{page}: {error}') from None
        if new != text:
            changed[page] = new
    for page, new in changed.items():
        beside = page.with_name(f'{page.name}.{os.getpid()}')
        beside.write_text(new, encoding='utf-8')
        beside.replace(page)


def with_tables(text: str, rows: Sequence[Row]) -> str:
    """The text of a document with its tables as the rows have them now.

    Raises:
        ResultError: A block has no end, or the rows have nothing of its claim.
    """

    def block(match: re.Match[str]) -> str:
        return f'{match[1]}\n{table(match[2], rows)}\n{match[3]}'

    new, found = _BLOCK.subn(block, text)
    if found != text.count(_BEGIN):
        raise ResultError('a table of results has a wrong first line, or no last line')
    return new


def table(claim: str, rows: Sequence[Row]) -> str:
    """A Markdown table with a line for each network, recipe and condition of a claim.

    Raises:
        ResultError: No row is of this claim.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.claim == claim:
            groups.setdefault(tuple(getattr(row, name) for name in _GROUP), []).append(row)
    if not groups:
        raise ResultError(f'results.csv has no row of the claim {claim}')
    lines = [dict(_cells(group)) for group in groups.values()]
    # A column that is empty in all lines is left out.
    head = [name for name in lines[0] if any(line[name] for line in lines)]
    cells = [head, ['---'] * len(head), *([line[name] for name in head] for line in lines)]
    return ''.join(f'| {" | ".join(line)} |\n' for line in cells)


def _cells(group: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """The heading and the text of each cell of a line."""
    for name in ('network', 'recipe', 'condition'):
        yield name, getattr(group[0], name).replace('|', '\\|')
    yield 'seeds', ', '.join(map(str, sorted(row.seed for row in group)))
    for name in ('epochs', 'steps'):
        numbers = sorted({getattr(row, name) for row in group})
        yield name, ' to '.join(f'{number:,}' for number in sorted({numbers[0], numbers[-1]}))
    yield 'test error, %', _mean(group, 'test_error_percent', 2)
    yield 'evaluation error, %', _mean(group, 'eval_error_percent', 2)
    yield 'evaluation loss', _mean(group, 'eval_loss', 4)
    seconds = [row.seconds for row in group if row.seconds is not None]
    yield 'minutes', _minutes(statistics.fmean(seconds)) if seconds else ''


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f'{minutes:,.0f}' if minutes >= 10 else f'{minutes:.1f}'


def _mean(group: Sequence[Row], name: str, decimals: int) -> str:
    """The mean of a column, its deviation and, if it is not of all rows, of how many it is."""
    values = [getattr(row, name) for row in group if getattr(row, name) is not None]
    if not values:
        return ''
    mean, deviation = mean_and_deviation(values)
    text = f'{mean:.{decimals}f}'
    if deviation is not None:
        text += f' ± {deviation:.{decimals}f}'
    return text if len(values) == len(group) else f'{text} ({len(values)} of {len(group)} seeds)'


if __name__ == '__main__':
    try:
        write()
    except ResultError as wrong:
        sys.exit(str(wrong))
