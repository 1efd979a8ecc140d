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
from typing import NamedTuple

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
    Control,
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
    'and in the rules. Intervals are not corrected.',
    'A claim is judged once, when the trainings of all of its seeds are there, and by no other '
    'seeds. What fewer seeds show decides nothing. An earlier version of this page judged three '
    'iterations of routing by three of the five seeds, as refuted; that claims are judged once was '
    'decided after that.',
    'Each network has its own preset `quick`. That of `capsnet` was picked among 16 recipes '
    '([results.md](results.md#which-recipe-for-one-epoch)), while the others have the default '
    'schedule, and at most another learning rate. [Few examples](#few-examples) and [overlapping '
    'digits](#overlapping-digits) have controls for that.',
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


def _wrapped(paragraph: str, then: str = '') -> str:
    """In lines of _COLUMNS, of which all but the first begin with `then`."""
    return textwrap.fill(
        paragraph,
        _COLUMNS,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lengths() -> str:
    """How long the trainings are, in a sentence."""
    steps = {each.steps for claim in CLAIMS.values() for each in claim.all_trainings(1)}
    return (
        f'The networks are trained for {min(steps):,} to {max(steps):,} steps of {BATCH_SIZE} '
        f'images; a pass over MNIST has {EPOCH}. Longer trainings may differ.'
    )


class Found(NamedTuple):
    """What was found about a claim.

    Attributes:
        holds: See `Verdict`; None as long as seeds are missing.
        clauses: See `Verdict`; none if there is nothing yet that could be compared.
        seeds: By which seeds, in words.
    """

    holds: bool | None
    clauses: Sequence[str]
    seeds: str


def judged(claim: Claim, rows: Sequence[Row]) -> Found:
    """What was found about a claim, by the seeds that all have."""
    complete = min(_complete_seeds(claim, rows), claim.seeds)
    seeds = _seeds(claim, complete)
    if complete < 2:  # a difference has no interval
        return Found(None, [], seeds)
    holds, clauses = claim.judge([row for row in rows if row.seed <= complete])
    return Found(holds if complete == claim.seeds else None, clauses, seeds)


def _complete_seeds(of: Claim | Control, rows: Sequence[Row]) -> int:
    """How many seeds, from 1 on, have all of their rows."""
    there = {key_of(row) for row in rows}
    complete = 0
    while all(there.issuperset(each.keys) for each in of.trainings(complete + 1)):
        complete += 1
    return complete


def _seeds(of: Claim | Control, complete: int) -> str:
    if complete < of.seeds:
        return f'{complete} of {of.seeds} seeds'
    return f'{complete} seeds'


def _summary(rows: Sequence[Row]) -> str:
    lines = ['| claim | found | by |', '| --- | --- | --- |']
    for claim in CLAIMS.values():
        of_claim = [row for row in rows if row.claim == claim.name]
        found, seeds = judged(claim, of_claim), _complete_seeds(claim, of_claim)
        anchor = claim.title.lower().replace(' ', '-')
        link = f'[{claim.statement.rstrip(".")}](#{anchor})'
        word = f'{_WORDS[found.holds]}{"; see its control" if claim.control else ""}'
        lines.append(f'| {link} | {word} | {_seeds(claim, seeds)} |')
    return '\n'.join(lines)


def _section(claim: Claim, rows: Sequence[Row]) -> str:
    found = judged(claim, rows)
    parts = [
        f'## {claim.title}',
        _wrapped(f'**Claim.** {claim.statement} {claim.sources}'),
        _wrapped(f'**Method.** {claim.method}'),
        _wrapped(f'**Rule.** {claim.rule}'),
        *_listed(f'**Found.** {_WORDS[found.holds]}, by {found.seeds}', found.clauses),
        *_control(claim, rows),
    ]
    if rows:
        parts += [_table(claim, rows), _wrapped(_effort(claim, rows)), *_times(claim, rows)]
        parts += [f'![{chart.title}](study/{chart.name}.png)' for chart in _charts(claim, rows)]
        if claim.picture:
            parts.append(f'![{claim.picture.title}](study/{claim.picture.file})')
    return '\n\n'.join(parts)


def _listed(head: str, clauses: Sequence[str]) -> list[str]:
    """A paragraph and a list of clauses below it, if there are any."""
    if not clauses:
        return [_wrapped(f'{head}.')]
    lines = [_wrapped(f'- {clause}', then='  ') for clause in clauses]
    return [_wrapped(f'{head}:'), '\n'.join(lines)]


def _control(claim: Claim, rows: Sequence[Row]) -> list[str]:
    """A paragraph and a list; an empty list if the claim has no control."""
    control = claim.control
    if not control:
        return []
    complete = min(_complete_seeds(control, rows), control.seeds)
    head, seeds = f'**Control.** {control.method}', _seeds(control, complete)
    if complete < control.seeds:
        return _listed(f'{head} So far there are {seeds}', [])
    clauses = control.found([row for row in rows if row.seed <= complete])
    return _listed(f'{head} Found, by {seeds}', clauses)


def _table(claim: Claim, rows: Sequence[Row]) -> str:
    found = {key_of(row): row for row in rows}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for training in claim.all_trainings(max(row.seed for row in rows)):
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
    first: dict[int, float] = {}
    for training in claim.timed:
        key = (training.network, training.recipe, training.row_condition(TIME_OF_STEPS))
        # By turn, which has the place of the seed.
        times = {
            row.seed: 1000 * row.seconds / row.steps
            for row in rows
            if (row.network, row.recipe, row.condition) == key and row.seconds is not None
        }
        if times:
            first = first or times
            ratios = [times[turn] / first[turn] for turn in times.keys() & first.keys()]
            cells = [f'`{training.network}`', training.recipe]
            cells += [f'{np.median(list(times.values())):.1f}', statistics.mean(ratios).text(2)]
            lines.append(f'| {" | ".join(cells)} |')
    if not first:
        return []
    text = (
        f'Time of a step of {BATCH_SIZE} images, the median of {TURNS} turns of '
        f'{STEPS_OF_A_TURN} steps. The ratio is that of the same turn to the first line, a mean '
        'over the turns:'
    )
    return [_wrapped(text), '\n'.join(lines)]


def _charts(claim: Claim, rows: Sequence[Row]) -> list[Chart]:
    """The charts of a claim that have something to show."""
    return [chart for chart in claim.charts(rows) if any(s.points for s in chart.series)]


def _effort(claim: Claim, rows: Sequence[Row]) -> str:
    # A training has a row for each of its tests, and its time in the first of them.
    trainings = {
        (row.network, row.recipe, row.condition.partition(': ')[0], row.seed)
        for row in rows
        if row.test_error_percent is not None
    }
    hours = sum(row.cpu_seconds or 0 for row in rows) / 3600
    measured = sum(row.cpu_seconds is not None for row in rows)
    commits = sorted({row.commit for row in rows if row.commit})
    # See `study.train`.
    has_pairs = any(training.digits == 2 for training in claim.trainings(1))
    tests = 'with the tests' if has_pairs else 'without the tests'
    text = (
        f'{measured} training{"" if measured == 1 else "s"} took {hours:.1f} hours of processor '
        f'cores in all, {tests}, at commit{"s" if len(commits) > 1 else ""} {", ".join(commits)}'
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
