"""Capsule networks recognize new viewpoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study import statistics
from study.claims import networks
from study.claims.networks import CONVOLUTIONAL, NETWORKS, compared, recipe_of
from study.plan import Chart, Claim, Series, Training, Verdict, errors
from study.results import Row

_STEPS = (200, 400, 800, 1600)
_SHIFTED, _AFFINE = 'shifted test images', 'affNIST-like test images'
_COMPARED = ('capsnet', *CONVOLUTIONAL)
_SETTINGS = (('AUGMENTATION', 'shift:6'),)


def _length(steps: int) -> str:
    return f', {steps:,} steps'


def _trainings(seeds: int) -> list[Training]:
    return [
        training
        for seed in range(1, seeds + 1)
        for steps in _STEPS
        for training in networks.trainings(
            seed,
            settings=_SETTINGS,
            and_so=_length(steps),
            steps=steps,
            side=40,
            shift=6,
            tests=(_SHIFTED, _AFFINE),
        )
    ]


def _errors(rows: Sequence[Row], network: str, steps: int, test: str) -> dict[int, float]:
    condition = f'MNIST shifted by 6: {test}'
    return errors(rows, network, f'{recipe_of(network)}{_length(steps)}', condition)


def _curves(rows: Sequence[Row], network: str) -> dict[int, list[tuple[float, float]]]:
    """For each seed, the errors on the two sets of each length, by that on the shifted one.

    Where two lengths came to the same error on shifted images, the longer one counts.
    """
    pairs: dict[int, dict[float, float]] = {}
    for steps in _STEPS:
        affine = _errors(rows, network, steps, _AFFINE)
        for seed, error in _errors(rows, network, steps, _SHIFTED).items():
            if seed in affine:
                pairs.setdefault(seed, {})[error] = affine[seed]
    return {seed: sorted(points.items()) for seed, points in pairs.items()}


def _judge(rows: Sequence[Row]) -> Verdict:
    curves = {network: _curves(rows, network) for network in _COMPARED}
    ends = [(points[0][0], points[-1][0]) for of in curves.values() for points in of.values()]
    # The lowest error on shifted images that each training of each seed came down to.
    level = max(lowest for lowest, _ in ends)
    if level > min(highest for _, highest in ends):
        clause = (
            'no error on shifted images is common to all: with the longest training one of them '
            f'still has {level:.2f}%, which another one is below with the shortest'
        )
        return Verdict(None, [clause])
    equal = {
        network: {
            seed: float(np.interp(level, *np.transpose(points))) for seed, points in of.items()
        }
        for network, of in curves.items()
    }
    best = {network: _errors(rows, network, _STEPS[-1], _AFFINE) for network in _COMPARED}
    pairs = [
        (f'{words} capsnet', of['capsnet'], network, of[network])
        for words, of in ((f'at {level:.2f}% on shifted images', equal), ('at its best', best))
        for network in CONVOLUTIONAL
    ]
    signs, clauses = compared(pairs)
    at_equal = signs[: len(CONVOLUTIONAL)]
    if all(sign < 0 for sign in at_equal) and all(sign <= 0 for sign in signs):
        return Verdict(True, clauses)
    return Verdict(False if any(sign > 0 for sign in at_equal) else None, clauses)


def _charts(rows: Sequence[Row]) -> list[Chart]:
    series = []
    for network in NETWORKS:
        points = []
        for steps in _STEPS:
            shifted = _errors(rows, network, steps, _SHIFTED)
            affine = _errors(rows, network, steps, _AFFINE)
            if shifted and affine:
                x = statistics.percentage(shifted.values()).mean
                points.append((x, statistics.percentage(affine.values())))
        series.append(Series(network, points))
    return [
        Chart(
            'viewpoint',
            'Digits from new viewpoints, as the trainings get longer from right to left',
            'error on shifted test images, %',
            'error on affNIST-like test images, %',
            series,
            is_logarithmic=True,
        )
    ]


CLAIM = Claim(
    name='viewpoint',
    title='New viewpoints',
    statement=(
        'Capsule networks that have seen shifted digits recognize turned, sheared and scaled ones '
        'better than convolutional networks do.'
    ),
    sources=(
        'Sabour, Frosst, Hinton 2017, section 5.2: 79% of affNIST right against 66% of a '
        'convolutional network, both stopped at 99.23% on shifted MNIST. Gu, Tresp 2020 '
        '(arXiv:1911.07968) reach 93.2% without routing, and Gu, Tresp, Hu 2021 '
        '(arXiv:2103.15459) find that a plain network with large kernels is more robust.'
    ),
    method=(
        'Four networks, each by its own preset `quick`, learn MNIST shifted by up to 6 pixels '
        'each way in images of 40x40, for 200, 400, 800 and 1,600 steps of 64 images. They are '
        'tested on the 10,000 test images shifted in the same way, and on the same images turned '
        'by up to 20 degrees, sheared by up to 0.2, scaled by 0.8 to 1.2 each way, and put '
        'wherever no pixel of the digit is cut off: the ranges of affNIST, whose files are not '
        'used; the set is affNIST-like. More than half of its digits lie further from the middle '
        'than any that the networks learned from, as in the protocol of the paper: so it asks for '
        'new places as well as for new views. No epoch is picked. `capsnet` and the two '
        'convolutional networks are compared at equal error on shifted images, by linear '
        'interpolation between the lengths: at the lowest error that each of them came down to '
        'with each seed. They are also compared after 1,600 steps, each at its best. '
        '`matrix_capsnet` is left out: a step takes it 5.6 times as long as `capsnet`, so that its '
        'trainings would take longer than all the others.'
    ),
    rule=(
        'The claim holds if, at equal error on shifted images, `capsnet` errs less on affNIST-like '
        "images than both convolutional networks, each with p < 0.05 in Student's paired test over "
        "the seeds after Holm's correction for the four tests, and at its best no more than either "
        'of them, in the same sense. It does not hold if, at equal error, `capsnet` errs more than '
        'one of them with p < 0.05. Otherwise it remains undecided, also where there is no error '
        'on shifted images that all three had at some length.'
    ),
    trainings=_trainings,
    seeds=3,
    judge=_judge,
    charts=_charts,
)
