"""Trains what a claim still lacks, and adds what came out to results.csv.

`python -m study.run --claim iterations` is what `make study CLAIM=iterations` runs. You can stop it
at any time: the same command trains only what has no results yet, and resumes a training that was
stopped. `--small` trains small networks on few images, into VAR, to see that all works.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components import locks
from pipeline import configs, console
from study import results
from study.claims import CLAIMS
from study.plan import STEPS_OF_A_TURN, TIME_OF_STEPS, TURNS, Claim, Training, key_of
from study.results import Row

if TYPE_CHECKING:
    from study.data import Sets

_MOST_SEEDS = 100
_SMALLER_BY, _SMALL_IMAGES = 20, 500
_ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The trainings of a claim, and where they and their results are kept.

    Attributes:
        claim: The claim.
        trainings: All of them, in the order in which they are done.
        preset: Of the networks, see `train.settings_of`.
        folder: For images and checkpoints.
        results: The file of results.
        pictures: The folder of pictures.
        commit: That of the code; empty outside of a repository.
        command: What trains this.
    """

    claim: Claim
    trainings: Sequence[Training]
    preset: str
    folder: pathlib.Path
    results: pathlib.Path
    pictures: pathlib.Path
    commit: str
    command: str

    @classmethod
    def of(cls, claim: Claim, seeds: int, var: str, *, is_small: bool) -> Plan:
        """The plan of a claim.

        Args:
            claim: The claim.
            seeds: How many seeds.
            var: The folder VAR.
            is_small: Whether to train small networks on MNIST alone, with one seed.
        """
        folder = pathlib.Path(var, 'study')
        command = f'make study CLAIM={claim.name}'
        if not is_small:
            trainings, kept = claim.all_trainings(seeds), (results.RESULTS, results.DOCS / 'study')
            command += '' if seeds == claim.seeds else f' SEEDS={seeds}'
            return cls(claim, trainings, 'quick', folder, *kept, _commit(), command)
        folder /= 'small'
        trainings = [
            dataclasses.replace(
                training,
                steps=training.steps // _SMALLER_BY,
                settings=tuple(pair for pair in training.settings if pair[0] != 'CNN_WIDTH'),
            )
            for training in claim.trainings(1)
            if training.dataset == 'mnist' and training.images <= _SMALL_IMAGES
        ]
        kept = folder / 'results.csv', folder
        return cls(claim, trainings, 'tiny', folder, *kept, _commit(), f'{command} SMALL=yes')

    def missing(self) -> list[Training]:
        """The trainings that have not all of their results yet."""
        keys = {key_of(row) for row in self.rows()}
        return [training for training in self.trainings if not keys.issuperset(training.keys)]

    def untimed(self) -> list[Training]:
        """The trainings whose time of a step is to be measured; none if that has been done."""
        has_times = any(row.condition.endswith(TIME_OF_STEPS) for row in self.rows())
        return [] if has_times else list(self.claim.timed)

    def rows(self) -> list[Row]:
        """The results of the claim that are there."""
        if not self.results.exists():
            return []
        return [row for row in results.read(self.results) if row.claim == self.claim.name]


def run(plan: Plan, var: str) -> None:
    """Trains what is missing, and writes the results of each training when it is there.

    Args:
        plan: What is to be done.
        var: The folder VAR.

    Raises:
        TrainingError: A training failed.
        DatasetError: A dataset cannot be prepared or used.
        ResultError: The file of results cannot be used.
    """
    from components.datasets.prepare import prepare
    from study import data

    missing = plan.missing()
    if not plan.results.exists():
        plan.results.parent.mkdir(parents=True, exist_ok=True)
        results.create(plan.results)
    datasets = {
        dataset: data.config_of(dataset, var, is_small=plan.preset == 'tiny')
        for dataset in dict.fromkeys(training.dataset for training in missing)
    }
    # All of them first: you hear at once if one cannot be had.
    for config in datasets.values():
        prepare(config.dataset, config.data_dir)
    sets = {}
    for dataset, config in datasets.items():
        print(f'Images of {dataset}:', flush=True)
        sets[dataset] = data.make(config, [each for each in missing if each.dataset == dataset])
    started, estimated = time.monotonic(), sum(each.estimated_seconds for each in missing)
    done = 0.0
    for number, training in enumerate(missing, start=1):
        print(f'[{number}/{len(missing)}] {_described(training)}', flush=True)
        rows = _rows(plan, training, sets[training.dataset])
        done += training.estimated_seconds
        left = (time.monotonic() - started) / done * (estimated - done)
        errors = ', '.join(
            f'{row.test_error_percent:.2f}% ({row.condition.partition(": ")[2]})' for row in rows
        )
        print(f'  error {errors}; about {console.duration(left)} left', flush=True)


def time_steps(plan: Plan) -> None:
    """Measures the time of a step where the claim asks for it; a row for each turn."""
    from study import step_times

    trainings = plan.untimed()
    if not trainings:
        return
    print(f'Steps in turns: {TURNS} times {STEPS_OF_A_TURN} steps of each', flush=True)
    measured = step_times.measured(trainings, plan.preset)
    rows = [
        _row(
            plan, training, TIME_OF_STEPS,
            seed=turn, steps=STEPS_OF_A_TURN, seconds=round(each, 4),
        )
        for training, seconds in zip(trainings, measured, strict=True)
        for turn, each in enumerate(seconds, start=1)
    ]  # fmt: skip
    results.append(rows, plan.results)


def _row(plan: Plan, training: Training, test: str, **others: Any) -> Row:
    """A row without results."""
    return Row(
        **{
            'claim': plan.claim.name,
            'network': training.network,
            'recipe': training.recipe,
            'condition': training.row_condition(test),
            'seed': training.seed,
            'epochs': 1,
            'steps': training.steps,
            'test_error_percent': None,
            'seconds': None,
            'commit': plan.commit,
            'command': plan.command,
            **others,
        }
    )


def _rows(plan: Plan, training: Training, sets: Sets) -> list[Row]:
    """Trains, tests, and writes the rows of a training."""
    from study import tested, train

    if training.digits == 2:
        picture = plan.claim.picture
        file = plan.pictures / picture.file if picture else None
        trained, measures = train.train_on_pairs(training, sets, plan.folder, plan.preset, file)
    else:
        trained = train.train(training, sets, plan.folder, plan.preset)
        measures = tested.measures(trained.network, training, sets)
    rows = [
        _row(
            plan,
            training,
            measure.condition,
            test_error_percent=round(measure.error_percent, 4),
            refused_percent=_rounded(measure.refused_percent),
            coupling_entropy=_rounded(measure.coupling_entropy),
            # A training has one time, whatever it is tested on.
            seconds=_rounded(trained.seconds, 1) if number == 0 else None,
            cpu_seconds=_rounded(trained.cpu_seconds, 1) if number == 0 else None,
        )
        for number, measure in enumerate(measures)
    ]
    has = {key_of(row) for row in plan.rows()}
    results.append([row for row in rows if key_of(row) not in has], plan.results)
    train.remove_checkpoints(trained)
    return rows


def _rounded(value: float | None, decimals: int = 4) -> float | None:
    if value is None:
        return None
    return round(value, decimals)


def _described(training: Training) -> str:
    return (
        f'{training.network}, {training.recipe}, {training.condition}, {training.steps:,} steps, '
        f'seed {training.seed}'
    )


def _commit() -> str:
    """The commit of the code; empty outside of a repository."""
    command = ['git', '-C', os.fspath(_ROOT), 'rev-parse', '--short', 'HEAD']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with these arguments, or those of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--claim', required=True, help=f'one of {", ".join(CLAIMS)}')
    parser.add_argument('--seeds', default='', help='how many, instead of those of the claim')
    parser.add_argument('--small', default='', help='yes: small networks, few images, one seed')
    options = parser.parse_args(arguments)
    if options.claim not in CLAIMS:
        sys.exit(f"CLAIM is '{options.claim}': it must be one of {', '.join(CLAIMS)}")
    if options.small not in ('', 'yes', 'no'):
        sys.exit(f"SMALL is '{options.small}': it must be yes or no")
    if options.seeds and not (
        re.fullmatch('[1-9][0-9]{0,2}', options.seeds) and int(options.seeds) <= _MOST_SEEDS
    ):
        sys.exit(f"SEEDS is '{options.seeds}': it must be a whole number from 1 to {_MOST_SEEDS}")
    if options.seeds and options.small == 'yes':
        sys.exit('SMALL=yes trains one seed: leave out SEEDS')
    var = _var(os.environ)
    claim = CLAIMS[options.claim]
    try:
        seeds = int(options.seeds or claim.seeds)
        plan = Plan.of(claim, seeds, var, is_small=options.small == 'yes')
        missing = plan.missing()
    except results.ResultError as error:
        sys.exit(str(error))
    hours = sum(training.estimated_seconds for training in missing) / 3600
    print(
        f'{claim.title}: {len(plan.trainings)} trainings, of which '
        f'{len(plan.trainings) - len(missing)} have results.'
    )
    if not missing and not plan.untimed():
        print('Nothing is left to train. The report: make study-report')
        return
    if plan.preset != 'tiny':
        print(
            f'Those that are left take about {hours:.1f} hours on two cores of a Xeon without '
            'other work. You can stop at any time, and go on with the same command.'
        )
    config = configs.from_environment({'VAR': var, 'PIPELINE_NAME': f'study-{claim.name}'})
    waiting = 'Waiting for another study to end ...'
    with console.exit_on_error(config), locks.held(str(plan.folder / 'lock'), waiting):
        run(plan, var)
        time_steps(plan)
    print(f'The results are in {plan.results}')


def _var(environment: Mapping[str, str]) -> str:
    """VAR; ends the process if there is another setting, which the study would not follow."""
    given = configs.given(environment)
    others = sorted(given.keys() - {'VAR'})
    if others:
        sys.exit(f'The study trains by its own settings: leave out {", ".join(others)}')
    return configs.from_environment(given).var


if __name__ == '__main__':
    main()
