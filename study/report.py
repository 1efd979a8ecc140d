"""Writes the report of the study, docs/study.md and its pictures, from results.csv alone.

`python -m study.report` is what `make study-report` runs, in an environment with matplotlib.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import textwrap
from collections.abc import Sequence

import numpy as np

from study import statistics
from study.claims import CLAIMS
from study.plan import (
    BATCH_SIZE,
    EPOCH,
    STEPS_OF_A_TURN,
    TIME_OF_STEPS,
    TURNS,
    Chart,
    Claim,
    Verdict,
    key_of,
)
from study.results import DOCS, RESULTS, ResultError, Row, read

_COLUMNS = 120
_TITLE = '# What capsules can do: five claims, tested'
_INTRODUCTION = (
    'Capsule networks are said to need three iterations of routing, to learn from few examples, to '
    'recognize new viewpoints, to tell overlapping digits apart, and to withstand attacks. The '
    'literature disagrees. This page has what was measured with this project, by rules that were '
    'written down before the trainings (see the history of `study/claims/`).',
    '`make study CLAIM=iterations` trains what a claim still lacks, and `make study-report` writes '
    'this page and its charts from [`study/results.csv`](../study/results.csv). Errors are means '
    "over seeds in per cent, with 95% intervals by Student's distribution, cut at 0 and at 100. "
    '`p` says how likely so large a difference would be, in either direction, if there were none: '
    "by Student's test, paired by seed, with Holm's correction for all tests of the claim, here "
    'and in the rules.',
    'A claim is judged once, when it has all of its seeds, and by these. What fewer seeds say is '
    'shown, and decides nothing.',
)
_WORDS = {True: 'The claim holds', False: 'The claim does not hold', None: 'It remains undecided'}


def text(rows: Sequence[Row]) -> str:
    """The report as Markdown.

    Args:
        rows: Of results.csv; claims that are not of the study are left out.
    """
    parts = [_TITLE, *map(_wrapped, (*_INTRODUCTION, _lengths())), _summary(rows)]
    parts += [
        _section(claim, [row for row in rows if row.claim == claim.name])
        for claim in CLAIMS.values()
    ]
    return '\n\n'.join(parts) + '\n'


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _lengths() -> str:
    """How long the trainings are, in a sentence."""
    steps = {each.steps for claim in CLAIMS.values() for each in claim.trainings(1)}
    return (
        f'The networks are trained for {min(steps):,} to {max(steps):,} steps of {BATCH_SIZE} '
        f'images, of which `make run` makes {EPOCH}, a pass over MNIST: longer trainings may '
        'differ.'
    )


def judged(claim: Claim, rows: Sequence[Row]) -> Verdict:
    """What was found about a claim; undecided as long as seeds are missing."""
    complete = min(_complete_seeds(claim, rows), claim.seeds)
    if complete < 2:  # a difference has no interval
        return Verdict(None, f'so far there are {_seeds(claim, complete)}.')
    verdict = claim.judge([row for row in rows if row.seed <= complete])
    if complete == claim.seeds:
        return Verdict(verdict.holds, f'{verdict.sentence}; by {complete} seeds.')
    return Verdict(None, f'by {_seeds(claim, complete)}, {verdict.sentence}.')


def _complete_seeds(claim: Claim, rows: Sequence[Row]) -> int:
    """How many seeds, from 1 on, have all of their rows."""
    there = {key_of(row) for row in rows}
    complete = 0
    while all(there.issuperset(each.keys) for each in claim.trainings(complete + 1)):
        complete += 1
    return complete


def _seeds(claim: Claim, complete: int) -> str:
    if complete < claim.seeds:
        return f'{complete} of {claim.seeds} seeds'
    return f'{complete} seeds'


def _summary(rows: Sequence[Row]) -> str:
    lines = ['| claim | found | by |', '| --- | --- | --- |']
    for claim in CLAIMS.values():
        of_claim = [row for row in rows if row.claim == claim.name]
        verdict, seeds = judged(claim, of_claim), _complete_seeds(claim, of_claim)
        anchor = claim.title.lower().replace(' ', '-')
        link = f'[{claim.statement.rstrip(".")}](#{anchor})'
        lines.append(f'| {link} | {_WORDS[verdict.holds]} | {_seeds(claim, seeds)} |')
    return '\n'.join(lines)


def _section(claim: Claim, rows: Sequence[Row]) -> str:
    verdict = judged(claim, rows)
    parts = [
        f'## {claim.title}',
        *map(
            _wrapped,
            (
                f'**Claim.** {claim.statement} {claim.sources}',
                f'**Method.** {claim.method}',
                f'**Rule.** {claim.rule}',
                f'**Found.** {_WORDS[verdict.holds]}: {verdict.sentence}',
            ),
        ),
    ]
    if rows:
        parts += [_table(claim, rows), _wrapped(_effort(rows)), *_times(claim, rows)]
        parts += [f'![{chart.title}](study/{chart.name}.png)' for chart in _charts(claim, rows)]
        if claim.picture:
            parts.append(f'![{claim.picture.title}](study/{claim.picture.file})')
    return '\n\n'.join(parts)


def _table(claim: Claim, rows: Sequence[Row]) -> str:
    found = {key_of(row): row for row in rows}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for training in claim.trainings(max(row.seed for row in rows)):
        for key in training.keys:
            if key in found:
                groups.setdefault(key[:3], []).append(found[key])
    columns = {
        'error, %': ('test_error_percent', 2, statistics.percentage),
        'refused, %': ('refused_percent', 2, statistics.percentage),
        'entropy, bits': ('coupling_entropy', 4, statistics.mean),
    }
    shown = {
        title: column
        for title, column in columns.items()
        if any(getattr(row, column[0]) is not None for row in rows)
    }
    head = ['network', 'recipe', 'condition', 'seeds', *shown]
    lines = [head, ['---'] * len(head)]
    for (network, recipe, condition), group in groups.items():
        cells = [f'`{network}`', recipe, condition, f'{len(group)}']
        for name, decimals, estimated in shown.values():
            values = [value for row in group for value in [getattr(row, name)] if value is not None]
            cells.append(estimated(values).text(decimals) if values else '')
        lines.append(cells)
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _times(claim: Claim, rows: Sequence[Row]) -> list[str]:
    """A paragraph and a table of the times of a step; an empty list if they were not measured."""
    lines = ['| network | recipe | milliseconds a step | ratio |', '| --- | --- | --- | --- |']
    first = None
    for training in claim.timed:
        key = (training.network, training.recipe, training.row_condition(TIME_OF_STEPS))
        times = [
            1000 * row.seconds / row.steps
            for row in rows
            if (row.network, row.recipe, row.condition) == key and row.seconds is not None
        ]
        if times:
            median = float(np.median(times))
            first = first or median
            cells = [f'`{training.network}`', training.recipe]
            cells += [f'{median:.1f}', f'{median / first:.2f}']
            lines.append(f'| {" | ".join(cells)} |')
    if first is None:
        return []
    text = (
        f'Time of a step of {BATCH_SIZE} images, the median of {TURNS} turns of '
        f'{STEPS_OF_A_TURN} steps:'
    )
    return [text, '\n'.join(lines)]


def _charts(claim: Claim, rows: Sequence[Row]) -> list[Chart]:
    """The charts of a claim that have something to show."""
    return [chart for chart in claim.charts(rows) if any(s.points for s in chart.series)]


def _effort(rows: Sequence[Row]) -> str:
    # A training has a row for each of its tests, and its time in the first of them.
    trainings = {
        (row.network, row.recipe, row.condition.partition(': ')[0], row.seed)
        for row in rows
        if row.test_error_percent is not None
    }
    hours = sum(row.cpu_seconds or 0 for row in rows) / 3600
    measured = sum(row.cpu_seconds is not None for row in rows)
    commits = sorted({row.commit for row in rows if row.commit})
    text = (
        f'{measured} training{"" if measured == 1 else "s"} took {hours:.1f} hours of processor '
        f'cores in all, at commit{"s" if len(commits) > 1 else ""} {", ".join(commits)}'
    )
    resumed = len(trainings) - measured
    if resumed:
        they = 'more was resumed: its' if resumed == 1 else 'more were resumed: their'
        text += f'. {resumed} {they} time is not known'
    return f'{text}.'


def write(rows: Sequence[Row], docs: pathlib.Path = DOCS) -> None:
    """Writes study.md and its pictures into a folder.

    Raises:
        ImportError: There is no matplotlib.
    """
    from study import charts

    pictures = docs / 'study'
    pictures.mkdir(parents=True, exist_ok=True)
    for claim in CLAIMS.values():
        of_claim = [row for row in rows if row.claim == claim.name]
        for chart in _charts(claim, of_claim):
            charts.draw(chart, pictures / f'{chart.name}.png')
    page = docs / 'study.md'
    beside = page.with_name(f'{page.name}.{os.getpid()}')
    beside.write_text(text(rows), encoding='utf-8')
    beside.replace(page)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with these arguments, or those of the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
    parser.add_argument('--docs', type=pathlib.Path, default=DOCS, help='the folder to write to')
    options = parser.parse_args(arguments)
    try:
        write(read(options.results), options.docs)
    except ResultError as error:
        sys.exit(str(error))
    print(f'Written: {options.docs / "study.md"}')


if __name__ == '__main__':
    main()
