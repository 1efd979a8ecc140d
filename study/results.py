"""The results of trainings: a row of results.csv for each."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import os
import pathlib
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

RESULTS = pathlib.Path(__file__).with_name('results.csv')
# Where the report and the tables are; pictures are in the folder `study` there.
DOCS = pathlib.Path(__file__).parents[1] / 'docs'

# What tells a training from others.
KEY = ('claim', 'network', 'recipe', 'condition', 'seed')
_FORMS = {
    'claim': (r'[a-z0-9_-]+', 'a name of small letters, digits, - and _'),
    'commit': (r'([0-9a-f]{7,40})?', '7 to 40 hexadecimal digits, or empty'),
}
_LINE = (r'\S(.*\S)?', 'a text of one line, without blanks at its ends')


class ResultError(ValueError):
    """Results are wrong: the message says where, and what would be right."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A training and its results.

    Attributes:
        claim: What it is evidence for, as a name: `accuracy`. A table in a document has one claim.
        network: NETWORK, or the name of a network outside this project.
        recipe: How it was trained, in a few words. Seeds with the same recipe differ in nothing.
        condition: What it was trained and tested on; it says so if only on evaluation images.
        seed: SEED.
        epochs: Passes over the training images.
        steps: Updates of the weights in all epochs together.
        test_error_percent: Wrong answers to the test images, per 100 images; None: not looked at.
        seconds: Seconds from the start of the training to its end; None: not measured.
        commit: The commit of this project that trained; empty: not noted.
        command: What to type to train it again.
        eval_error_percent: Wrong answers to the evaluation images, per 100 images, with the
            weights that were exported; None: not measured.
        eval_loss: The mean classification loss of the evaluation images, with the same weights; it
            has no unit. None: not measured.
        refused_percent: Test images that the guard refused, per 100; None: not asked.
        coupling_entropy: The mean entropy of the coupling coefficients, in bits; None: not asked.
        cpu_seconds: Seconds of all processor cores together; None: not measured.

    Raises:
        ResultError: A value cannot be right.
    """

    claim: str
    network: str
    recipe: str
    condition: str
    seed: int
    epochs: int
    steps: int
    test_error_percent: float | None
    seconds: float | None
    commit: str
    command: str
    eval_error_percent: float | None = None
    eval_loss: float | None = None
    refused_percent: float | None = None
    coupling_entropy: float | None = None
    cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, kind in COLUMNS.items():
            value = getattr(self, name)
            if kind == 'str':
                form, expected = _FORMS.get(name, _LINE)
                right = re.fullmatch(form, value) is not None
            elif kind == 'int':
                right, expected = isinstance(value, int) and value >= 0, 'a whole number from 0'
            else:
                is_share = name.endswith('_percent')
                most = 100 if is_share else sys.float_info.max
                right = value is None or (isinstance(value, int | float) and 0 <= value <= most)
                expected = f'a number from 0{" to 100" if is_share else ""}, or empty'
            if not right:
                raise ResultError(f'column {name}: {value!r} must be {expected}')


# The types, as texts, by name.
COLUMNS = {field.name: str(field.type) for field in dataclasses.fields(Row)}


def read(path: pathlib.Path = RESULTS) -> list[Row]:
    """The rows of a file.

    Raises:
        ResultError: The file cannot be read, or a line of it is wrong.
    """
    rows: list[Row] = []
    try:
        with open(path, encoding='utf-8', newline='') as file:
            lines = csv.reader(file, strict=True)
            if next(lines, []) != list(COLUMNS):
                raise ResultError(f'{path}, line 1: the columns must be {",".join(COLUMNS)}')
            for texts in lines:
                try:
                    rows.append(_another(_parsed(texts), rows))
                except ResultError as error:
                    raise ResultError(f'{path}, line {lines.line_num}: {error}') from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultError(f'{path} cannot be read: {error}') from error
    return rows


def create(path: pathlib.Path) -> None:
    """Writes a file without rows."""
    path.write_text(','.join(COLUMNS) + '\n', encoding='utf-8')


def append(rows: Sequence[Row], path: pathlib.Path = RESULTS) -> None:
    """Adds rows at the end of a file: all of them, or none if that fails.

    Raises:
        OSError: There is no room, or the folder cannot be written to.
        ResultError: The file cannot be read, a line of it is wrong, or it has such a training.
    """
    beside = path.with_name(f'{path.name}.{os.getpid()}')
    with _alone(path.parent):
        there = read(path)
        for row in rows:
            there.append(_another(row, there))
        try:
            with open(beside, 'w', encoding='utf-8', newline='') as file:
                file.write(path.read_text(encoding='utf-8').rstrip('\n') + '\n')
                csv.writer(file, lineterminator='\n').writerows(map(dataclasses.astuple, rows))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process is writing results in a folder."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of one or more values, and their sample standard deviation; None for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _another(row: Row, rows: Sequence[Row]) -> Row:
    """The row, if none of the others is of the same training."""
    if any(all(getattr(row, name) == getattr(other, name) for name in KEY) for other in rows):
        raise ResultError(f'there is a row of the same {", ".join(KEY)} already: keep one of them')
    return row


def _parsed(texts: Sequence[str]) -> Row:
    """The row that a line has as texts."""
    if len(texts) != len(COLUMNS):
        raise ResultError(f'it has {len(texts)} values for {len(COLUMNS)} columns')
    values: dict[str, Any] = dict(zip(COLUMNS, texts, strict=True))
    for name, kind in COLUMNS.items():
        with contextlib.suppress(ValueError):  # Row says what is wrong with a text
            if kind == 'int':
                values[name] = int(values[name])
            elif kind != 'str':
                values[name] = float(values[name]) if values[name] else None
    return Row(**values)
