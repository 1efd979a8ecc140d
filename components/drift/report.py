"""What a check has found, as values and as lines for the terminal."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from components.drift import sampling
from components.drift.distances import FEWEST_IMAGES, Distance
from components.drift.quantities import NAMES, NUMERIC, OF_IMAGE, Quantities


@dataclasses.dataclass(frozen=True)
class Report:
    """A check.

    Attributes:
        model: The name of the model.
        version: The version that was asked.
        time: When, in seconds since 1970.
        asked: The number of images that the version was asked about since the check before.
        others: The same of the other versions, which were not compared.
        distances: By quantity; a quantity that could not be compared is missing.
        reference: Of the data that the version was trained with.
        requests: Of the images that were compared, which may be a sample.
    """

    model: str
    version: str
    time: float
    asked: int
    others: Mapping[str, int]
    distances: Mapping[str, Distance]
    reference: Quantities
    requests: Quantities

    @property
    def moved(self) -> list[str]:
        """The quantities that are above their thresholds."""
        return [name for name, distance in self.distances.items() if distance.moved]

    @property
    def at(self) -> str:
        """When, for people."""
        return datetime.datetime.fromtimestamp(self.time).isoformat(' ', 'seconds')

    @property
    def compared(self) -> int:
        """The number of images that were compared."""
        return len(self.requests['score'])


def verdict(report: Report) -> str:
    """One sentence: what moved, or that nothing did."""
    if not report.moved:
        return f'What {report.model} is asked is like the data that it was trained with.'
    return (
        f'What {report.model} is asked is not like the data that it was trained with: '
        f'{", ".join(report.moved)} moved.'
    )


def notes(report: Report) -> list[str]:
    """Sentences that say which images were compared, and what could not be."""
    sample = f'{report.compared:,} of them, chosen at random,' if _is_sample(report) else 'they'
    said = [
        f'Version {report.version} was asked about {report.asked:,} images since the check before; '
        f'{sample} are compared with {len(report.reference["score"]):,} images of its own data.'
    ]
    if report.others:
        listed = ', '.join(f'{count:,} of version {each}' for each, count in report.others.items())
        said.append(f'Images that another version was asked about are not compared: {listed}.')
    missing = [name for name in NAMES if name not in report.distances]
    if missing:
        reason = (
            'the pictures are not kept'
            if {*OF_IMAGE} <= {*missing}
            else f'fewer than {FEWEST_IMAGES} images have it'
        )
        said.append(f'Not compared: {", ".join(missing)}: {reason}.')
    return said


def lines(report: Report) -> list[str]:
    """The table for the terminal, with the notes and the verdict."""
    table = [['', 'own data', 'asked', 'distance', 'threshold', '']]
    for name, distance in report.distances.items():
        table.append(
            [
                f'{name} {distance.category}'.strip(),
                number(name, distance.before),
                number(name, distance.after),
                f'{distance.value:.3f}',
                f'{distance.threshold:g}',
                'moved' if distance.moved else '',
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = [
        f'  {row[0]:{widths[0]}}'
        + ''.join(f'  {cell:>{width}}' for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        + f'  {row[-1]}'
        for row in table
    ]
    return [*notes(report), *(row.rstrip() for row in rows), verdict(report)]


def number(name: str, value: float) -> str:
    """A mean of a number, or the share of a category."""
    return f'{value:.3g}' if name in NUMERIC else f'{value:.1%}'


def values(report: Report) -> dict[str, Any]:
    """What report.json holds."""
    return {
        'model': report.model,
        'version': report.version,
        'time': report.at,
        'images_asked': report.asked,
        'images_compared': report.compared,
        'images_of_other_versions': dict(report.others),
        'reference_images': len(report.reference['score']),
        'moved': report.moved,
        'quantities': {
            name: {**dataclasses.asdict(distance), 'moved': distance.moved}
            for name, distance in report.distances.items()
        },
    }


def _is_sample(report: Report) -> bool:
    return report.asked > sampling.MOST_IMAGES
