"""Compares what a model was asked since the last check with the data that it was trained with."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from components import locks, request_log
from components.drift import (
    distances,
    exposition,
    files,
    page,
    quantities,
    reference,
    report,
    sampling,
)
from components.drift import requests as asked
from components.drift.asked_model import AskedModel
from components.drift.errors import CannotJudge
from components.drift.quantities import Row
from components.drift.report import Report

REPORT = 'report.html'
_JSON = 'report.json'
_METRICS = 'drift.prom'
_REFERENCE = 'reference.json'
_STATE = 'state.json'


@dataclasses.dataclass(frozen=True)
class Places:
    """Where everything is.

    Attributes:
        requests: The folder of the request log.
        models: The folder with a sub-folder for each version.
        state: The folder that reports, the reference and the state are written to.
    """

    requests: str
    models: str
    state: str


def check(
    name: str,
    places: Places,
    examples: Callable[[str], str],
    load: Callable[[str], AskedModel] = AskedModel,
) -> Report:
    """Makes a check and writes its report.

    The state, which says what was read, is written last: if this process is killed before, the next
    check reads the same requests again. The same holds if there are too few to judge.

    Args:
        name: The name of the model.
        places: Where everything is.
        examples: Gives for a version the pattern of the raw examples that it is compared with; may
            raise CannotJudge.
        load: Loads a version from its folder.

    Raises:
        CannotJudge: There is too little to compare.
    """
    with locks.held(os.path.join(places.state, 'lock'), 'Another check is running: waiting for it'):
        read = _read_before(places)
        counted, ends = _counted(places, read)
        version = _version(places, counted)
        number = counted[version]
        if number < distances.FEWEST_IMAGES:
            raise CannotJudge(
                f'Version {version} was asked about {number:,} images since the last check, and '
                f'fewer than {distances.FEWEST_IMAGES} are not judged. They stay for the next one.'
            )
        model = load(os.path.join(places.models, version))
        file = os.path.join(places.state, _REFERENCE)
        known = reference.load(file, version)
        if known is None:
            known = reference.measure(model, examples(version))
            reference.save(file, version, known)
        if len(known['score']) < distances.FEWEST_IMAGES:
            raise CannotJudge(
                f'Version {version} has only {len(known["score"]):,} evaluation images to compare '
                f'with, and {distances.FEWEST_IMAGES} are needed. Train a model with more.'
            )
        rows = list(_rows(places, read, ends, version, number, model))
        found = quantities.joined(rows)
        measured = distances.compare(known, found)
        if not measured:
            raise CannotJudge(
                f'The answers of version {version} hold nothing to compare; nor does its reference '
                f'in {file}, if you see this again after removing that file.'
            )
        result = Report(
            model=name,
            version=version,
            time=time.time(),
            asked=number,
            others={each: count for each, count in counted.items() if each != version},
            distances=measured,
            reference=known,
            requests=found,
        )
        files.write(os.path.join(places.state, REPORT), page.html(result))
        files.write(os.path.join(places.state, _JSON), json.dumps(report.values(result), indent=1))
        files.write(os.path.join(places.state, _METRICS), exposition.text(result))
        files.write(os.path.join(places.state, _STATE), json.dumps({'read': ends}))
        return result


def _read_before(places: Places) -> dict[str, int]:
    """How many records of each file of the log the checks before have read."""
    path = os.path.join(places.state, _STATE)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding='utf-8') as opened:
            read = json.load(opened)['read']
        return {str(name): int(end) for name, end in read.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotJudge(
            f'{path} cannot be read: {error}. Remove it, and the next check reads the whole log.'
        ) from error


def _counted(places: Places, read: Mapping[str, int]) -> tuple[Counter[str], dict[str, int]]:
    """The new images of each version, and the records of each file with those."""
    counted: Counter[str] = Counter()
    ends = {
        file: number
        for file, number in read.items()
        if os.path.exists(os.path.join(places.requests, file))
    }
    for file, number, log in request_log.read(places.requests, read):
        ends[file] = number
        if count := asked.count(log):
            counted[asked.version_of(log)] += count
    return counted, ends


def _version(places: Places, counted: Counter[str]) -> str:
    """The version that most images are of, among those that are there."""
    pushed = {
        entry.name
        for entry in (os.scandir(places.models) if os.path.isdir(places.models) else ())
        if entry.name.isdecimal() and entry.is_dir()
    }
    if not pushed:
        raise CannotJudge(f'No model is pushed to {places.models}.')
    if not counted:
        raise CannotJudge(
            f'{places.requests} holds no request that was answered since the last check. Serve the '
            'model with LOG_REQUESTS=1 to keep requests.'
        )
    there = [version for version, _ in counted.most_common() if version in pushed]
    if not there:
        raise CannotJudge(
            f'What was asked was answered by version {", ".join(sorted(counted))}, which is not in '
            f'{places.models} any more.'
        )
    return there[0]


def _rows(
    places: Places,
    read: Mapping[str, int],
    ends: Mapping[str, int],
    version: str,
    number: int,
    model: AskedModel,
) -> Iterator[Row]:
    """The quantities of a sample of the images that a version has answered."""
    chosen = sampling.chosen(number)

    def images() -> Iterator[asked.Asked]:
        place = 0
        for file, end, log in request_log.read(places.requests, read):
            count = asked.count(log)
            # What has come since they were counted is for the next check.
            if end > ends.get(file, 0) or not count or asked.version_of(log) != version:
                continue
            if not chosen.isdisjoint(range(place, place + count)):
                each = asked.images(log)
                yield from (each[index] for index in range(count) if place + index in chosen)
            place += count

    yield from asked.rows(model, images())
