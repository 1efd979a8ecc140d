"""The networks that claims compare, and how their differences are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from study import statistics
from study.plan import Training, Verdict, described

# Each by its own preset `quick`, but with the same changes of the images.
NETWORKS: dict[str, tuple[tuple[str, str], ...]] = {
    'capsnet': (),
    'efficient_capsnet': (),
    # At its full width it takes ten times the arithmetic of capsnet.
    'cnn': (('CNN_WIDTH', '0.25'),),
    'cnn_large_kernels': (),
}
CONVOLUTIONAL = ('cnn', 'cnn_large_kernels')

# For controls: the kind of schedule that the preset of a network does not have, its rate, and its
# warm-up in steps.
_OTHER_SCHEDULES = {
    'capsnet': ('exponential', '0.001', '0'),
    'cnn': ('flat_linear', '0.0009', '100'),
    'cnn_large_kernels': ('flat_linear', '0.003', '100'),
}


def recipe_of(network: str, *, by_other_schedule: bool = False) -> str:
    """How a network of NETWORKS is trained, in a few words."""
    settings = ''.join(f', {name}={value}' for name, value in NETWORKS[network])
    if not by_other_schedule:
        return f'quick{settings}'
    schedule, rate, _ = _OTHER_SCHEDULES[network]
    return f'quick{settings}, {schedule}, rate {rate}'


def _schedule_of(network: str, *, by_other_schedule: bool) -> tuple[tuple[str, str], ...]:
    """Settings; none where the network has its preset's."""
    if not by_other_schedule:
        return ()
    names = ('LEARNING_RATE_SCHEDULE', 'LEARNING_RATE', 'LEARNING_RATE_WARMUP')
    return tuple(zip(names, _OTHER_SCHEDULES[network], strict=True))


def trainings(
    seed: int,
    networks: Iterable[str] = NETWORKS,
    settings: tuple[tuple[str, str], ...] = (),
    and_so: str = '',
    by_other_schedule: bool = False,
    **others: Any,
) -> list[Training]:
    """A training of MNIST for each network.

    Args:
        seed: Of the trainings.
        networks: Keys of NETWORKS.
        settings: What all of them have besides their own.
        and_so: The end of their recipe.
        by_other_schedule: Whether each has the kind of schedule that its preset does not have.
        **others: Other attributes of Training.
    """
    return [
        Training(
            network=network,
            recipe=f'{recipe_of(network, by_other_schedule=by_other_schedule)}{and_so}',
            dataset='mnist',
            seed=seed,
            settings=NETWORKS[network]
            + settings
            + _schedule_of(network, by_other_schedule=by_other_schedule),
            **others,
        )
        for network in networks
    ]


def by_other_schedule(networks: Sequence[str], **others: Any) -> Callable[[int], list[Training]]:
    """The trainings of a control, for a number of seeds; arguments as those of `trainings`."""
    return lambda seeds: [
        training
        for seed in range(1, seeds + 1)
        for training in trainings(seed, networks, by_other_schedule=True, **others)
    ]


def verdict(signs: Sequence[int], clauses: Sequence[str]) -> Verdict:
    """The claim holds if all signs of `compared` are -1, and does not if one is 1."""
    if all(sign < 0 for sign in signs):
        return Verdict(True, clauses)
    return Verdict(False if any(sign > 0 for sign in signs) else None, clauses)


def compared(
    pairs: Sequence[tuple[str, Mapping[int, float], str, Mapping[int, float]]],
) -> tuple[list[int], list[str]]:
    """Compares errors by Student's paired test, with Holm's correction for all of the pairs.

    Args:
        pairs: The name of one and its errors by seed, the name of another and its errors.

    Returns:
        For each pair -1 if the first errs less, 1 if it errs more, and 0 if that is not sure; and a
        clause for each of them, the surest first.
    """
    found = [statistics.difference(first, second) for _, first, _, second in pairs]
    p_values = statistics.holm([difference.p for difference in found])
    signs = [
        0 if p >= 1 - statistics.LEVEL else 1 if difference.estimate.mean > 0 else -1
        for difference, p in zip(found, p_values, strict=True)
    ]
    clauses = [
        described(name, other, difference, p)
        for (name, _, other, _), difference, p in zip(pairs, found, p_values, strict=True)
    ]
    return signs, [clauses[place] for place in np.argsort(p_values, kind='stable')]


def compared_by_schedule(
    errors: Callable[[str, bool], Mapping[int, float]], others: Sequence[str]
) -> list[str]:
    """Compares capsnet with others where both learned by the same kind of schedule.

    Args:
        errors: From a network, and whether it learned by the schedule that its preset does not
            have, to its errors by seed.
        others: Networks whose presets have `exponential`; that of capsnet has `flat_linear`.

    Returns:
        Clauses, the surest first.
    """
    _, clauses = compared(
        [
            (
                f'by {schedule} capsnet',
                errors('capsnet', is_other),
                other,
                errors(other, not is_other),
            )
            for schedule, is_other in (('flat_linear', False), ('exponential', True))
            for other in others
        ]
    )
    return clauses
