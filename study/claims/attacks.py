"""Capsule networks withstand adversarial attacks."""

from __future__ import annotations

from collections.abc import Sequence

from study import statistics
from study.claims import networks
from study.claims.networks import CONVOLUTIONAL, NETWORKS, compared, recipe_of
from study.plan import Chart, Claim, Series, Training, Verdict, errors
from study.results import Row

_AUGMENTATION = (('AUGMENTATION', 'shift:2'),)
TESTS = (
    'clean',
    'noise, epsilon 0.3',
    'FGSM, epsilon 0.1',
    'FGSM, epsilon 0.3',
    'PGD, epsilon 0.1',
    'PGD, epsilon 0.3',
)
_JUDGED = 'PGD, epsilon 0.1'


def _trainings(seeds: int) -> list[Training]:
    return [
        training
        for seed in range(1, seeds + 1)
        for training in networks.trainings(seed, settings=_AUGMENTATION, tests=TESTS)
    ]


def _errors(rows: Sequence[Row], network: str, test: str) -> dict[int, float]:
    return errors(rows, network, recipe_of(network), f'MNIST: {test}')


def _judge(rows: Sequence[Row]) -> Verdict:
    signs, clauses = compared(
        [
            ('capsnet', _errors(rows, 'capsnet', _JUDGED), network, _errors(rows, network, _JUDGED))
            for network in CONVOLUTIONAL
        ]
    )
    return networks.verdict(signs, clauses)


def _charts(rows: Sequence[Row]) -> list[Chart]:
    names = {
        'attacks': ('Errors on attacked images', 'error, %'),
        'attacks-guard': ('What the guard refuses', 'refused images, %'),
    }

    def values(network: str, test: str, is_error: bool) -> list[float]:
        return [
            value
            for row in rows
            if row.network == network and row.condition == f'MNIST: {test}'
            for value in [row.test_error_percent if is_error else row.refused_percent]
            if value is not None
        ]

    return [
        Chart(
            name,
            title,
            '',
            y,
            [
                Series(
                    network,
                    [
                        (test.replace(', ', ',\n'), statistics.percentage(found))
                        for test in TESTS
                        if (found := values(network, test, name == 'attacks'))
                    ],
                )
                for network in NETWORKS
            ],
        )
        for name, (title, y) in names.items()
    ]


CLAIM = Claim(
    name='attacks',
    title='Adversarial attacks',
    statement='Capsule networks withstand adversarial attacks better than convolutional networks.',
    sources=(
        'Hinton, Sabour, Frosst 2018 (matrix capsules) report more resistance to white-box attacks '
        'with the fast gradient sign method; Michels et al. 2019 (arXiv:1906.03612) find capsule '
        'networks as easy to fool by stronger attacks.'
    ),
    method=(
        'Four networks, each by its own preset `quick` with shifts of up to 2 pixels. The first '
        '1,000 test images are changed by at most 0.1 or 0.3 of the range of a pixel: by the fast '
        'gradient sign method (FGSM; Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572), by '
        'projected gradient descent (PGD; Madry et al. 2018, arXiv:1706.06083), and by random '
        'signs as a control. The attacks know the network, and raise its own loss; '
        'where that is 0 and has no gradient, they lower the loss of the class with the second '
        'highest score. Changed images are rounded to whole grey values. The guard '
        '(`known` in answers) is asked about each: what it refuses need not be answered.'
    ),
    rule=(
        'The claim holds if, under PGD with 0.1, `capsnet` errs less than both convolutional '
        "networks, each with p < 0.05 in Student's paired test over the seeds after Holm's "
        'correction for the two tests. It does not hold if it errs more than one of them, with '
        'p < 0.05. Otherwise it remains undecided.'
    ),
    trainings=_trainings,
    seeds=3,
    judge=_judge,
    charts=_charts,
)
