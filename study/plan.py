"""A claim, and the trainings that test it.

This module and `claims` import no TensorFlow: whoever reads the plan or makes the report needs it
in no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from study import statistics
from study.results import Row

BATCH_SIZE = 64
# The steps of a pass over the 55,000 images that MNIST has for training.
EPOCH = 859

# How the time of a step is measured: TURNS times STEPS_OF_A_TURN steps.
TURNS, STEPS_OF_A_TURN = 5, 20
TIME_OF_STEPS = f'time of {STEPS_OF_A_TURN} steps'

# About how many images a second are trained, by network and side of the images, on two cores of an
# Intel Xeon: 64 images a step by half of the `cpu_seconds` of results.csv. They are good for an
# estimate of how long a claim takes and for nothing else.
_IMAGES_PER_SECOND = {
    ('capsnet', 28): 590,
    ('capsnet', 36): 200,
    ('capsnet', 40): 145,
    ('efficient_capsnet', 28): 1370,
    ('efficient_capsnet', 40): 480,
    ('cnn', 28): 380,
    ('cnn', 36): 210,
    ('cnn', 40): 185,
    ('cnn_large_kernels', 28): 570,
    ('cnn_large_kernels', 40): 190,
}
# Seconds that a training takes besides: the process starts, graphs are traced, tests are run.
_SECONDS_BESIDES = 25
# The attacks on 1,000 images take longer than the training.
_SECONDS_OF_ATTACKS = 300

# Network, recipe, condition and seed.
Key = tuple[str, str, str, int]


def key_of(row: Row) -> Key:
    """What tells a row from the others of its claim."""
    return row.network, row.recipe, row.condition, row.seed


@dataclasses.dataclass(frozen=True)
class Training:
    """A training of the study, and what the network is tested on.

    Attributes:
        network: NETWORK.
        recipe: How it is trained, in a few words: what differs from the preset `quick`.
        dataset: Of TensorFlow Datasets.
        seed: Of the weights, of the order of the images, and of which are taken.
        steps: Steps of BATCH_SIZE images.
        settings: What differs from the preset `quick`, by names in capitals.
        images: How many images of each training are learned from; 0: all.
        digits: Digits in an image: 1, or 2 on top of each other.
        side: Pixels of a side of the images: 28 as they are, or more, with room to shift them.
        shift: Pixels by which the digits of images with room are shifted at most, each way.
        tests: Names of what it is tested on, see `study.tests`.
    """

    network: str
    recipe: str
    dataset: str
    seed: int
    steps: int = EPOCH
    settings: tuple[tuple[str, str], ...] = ()
    images: int = 0
    digits: int = 1
    side: int = 28
    shift: int = 0
    tests: tuple[str, ...] = ('plain',)

    @property
    def condition(self) -> str:
        """The images, in words."""
        words = {'mnist': 'MNIST', 'fashion_mnist': 'Fashion-MNIST'}[self.dataset]
        if self.digits == 2:
            words = f'MultiMNIST shifted by {self.shift}'
        elif self.shift:
            words += f' shifted by {self.shift}'
        return f'{words}, {self.images:,} images' if self.images else words

    @property
    def estimated_seconds(self) -> float:
        """How long it takes, about."""
        rate = _IMAGES_PER_SECOND[self.network, self.side]
        attacks = any('PGD' in test for test in self.tests)
        besides = _SECONDS_BESIDES + (_SECONDS_OF_ATTACKS if attacks else 0)
        return besides + self.steps * BATCH_SIZE / rate

    def row_condition(self, test: str) -> str:
        """The condition of a row of results.csv."""
        return f'{self.condition}: {test}'

    @property
    def keys(self) -> list[Key]:
        """The `key_of` of its rows, one for each test."""
        return [
            (self.network, self.recipe, self.row_condition(test), self.seed) for test in self.tests
        ]


class Verdict(NamedTuple):
    """What was found about a claim.

    Attributes:
        holds: True, False, or None where it remains undecided.
        clauses: What speaks for that, with figures.
    """

    holds: bool | None
    clauses: Sequence[str]


class Series(NamedTuple):
    """A line or a group of bars in a chart: estimates over what varies."""

    name: str
    points: Sequence[tuple[float | str, statistics.Estimate]]


class Chart(NamedTuple):
    """A picture of the results.

    Attributes:
        name: Of its file, without the ending.
        title: What it shows.
        x: What varies.
        y: What is measured, with its unit.
        series: What is drawn; numbers as places are lines, texts are groups of bars.
        is_logarithmic: Whether both axes are.
    """

    name: str
    title: str
    x: str
    y: str
    series: Sequence[Series]
    is_logarithmic: bool = False


class Picture(NamedTuple):
    """What the first training of a claim draws, for people to look at.

    Attributes:
        file: Its name.
        title: What it shows.
    """

    file: str
    title: str


class Control(NamedTuple):
    """Trainings that ask whether something else explains what was found; they decide nothing.

    Attributes:
        method: What else is compared, and why.
        trainings: See `Claim.trainings`.
        seeds: How many seeds there are.
        found: From the rows of the claim to clauses with figures; all trainings are there.
    """

    method: str
    trainings: Callable[[int], list[Training]]
    seeds: int
    found: Callable[[Sequence[Row]], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about capsule networks, and the rule that decides it.

    Attributes:
        name: CLAIM.
        title: A heading.
        statement: The claim, in one sentence.
        sources: Who claims it, and what others published.
        method: What is compared, and how.
        rule: When the claim holds, when it does not; otherwise it remains undecided.
        trainings: The trainings, for a number of seeds.
        seeds: How many seeds there are by default, the first ones from 1.
        judge: From the rows of this claim to what was found; all trainings are there.
        charts: The pictures of such rows; rows may be missing.
        timed: Trainings of which the time of a step is measured, in turns.
        picture: What its first training draws besides.
        control: What is compared besides.
    """

    name: str
    title: str
    statement: str
    sources: str
    method: str
    rule: str
    trainings: Callable[[int], list[Training]]
    seeds: int
    judge: Callable[[Sequence[Row]], Verdict]
    charts: Callable[[Sequence[Row]], list[Chart]]
    timed: tuple[Training, ...] = ()
    picture: Picture | None = None
    control: Control | None = None

    def all_trainings(self, seeds: int) -> list[Training]:
        """The trainings for a number of seeds, and those of the control, which may have fewer."""
        if not self.control:
            return self.trainings(seeds)
        return self.trainings(seeds) + self.control.trainings(min(seeds, self.control.seeds))


def errors(rows: Sequence[Row], network: str, recipe: str, condition: str) -> dict[int, float]:
    """The test errors in per cent of a group of trainings, by seed."""
    return {
        row.seed: row.test_error_percent
        for row in rows
        if (row.network, row.recipe, row.condition) == (network, recipe, condition)
        and row.test_error_percent is not None
    }


def described(name: str, other: str, found: statistics.Difference, p: float) -> str:
    """A difference in errors as a clause.

    It reads 'a errs 0.12 points less than b (0.09 to 0.15, p = 0.003)'.
    """
    points, low, high, _ = found.estimate
    p_text = 'p < 0.001' if p < 0.001 else f'p = {p:.3f}'
    if points < 0:
        points, low, high, word = -points, -high, -low, 'less'
    else:
        word = 'more'
    return (
        f'{name} errs {points:.2f} points {word} than {other} ({low:.2f} to {high:.2f}, {p_text})'
    )
