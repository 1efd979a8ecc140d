"""The life of a version: START, LOADING, AVAILABLE, UNLOADING, END; and its next step."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Collection
from typing import NamedTuple

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.errors import ServingError
from serving.models.descriptions import VersionStatus, metadata_json
from serving.models.model import LoadedModel
from serving.models.tasks import Task

START, LOADING, AVAILABLE, UNLOADING, END = 'START', 'LOADING', 'AVAILABLE', 'UNLOADING', 'END'

# Versions load one after the other, since each takes memory and all processors. If one takes longer
# than this, the next one may start beside it.
PATIENCE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Servable:
    """A version that answers requests."""

    name: str
    version: int
    model: LoadedModel

    @functools.cached_property
    def metadata(self) -> bytes:
        """The answer to a metadata request, kept because making it takes a millisecond."""
        return metadata_json(self.name, self.version, self.model.signature_defs)


@dataclasses.dataclass(eq=False)
class Version:
    """A version that was found. The reconciler's thread changes it; requests count their leases."""

    name: str
    number: int
    path: str
    aspired: bool = True
    state: str = START
    servable: Servable | None = None
    leases: int = 0
    # The task that loads it, until the version is loaded or has failed.
    loading: Task[LoadedModel] | None = None
    # Why it failed to load, and its files when it was loaded.
    error_code: str = 'OK'
    error_message: str = ''
    files: frozenset[tuple[str, int, int, bool]] = frozenset()

    def status(self) -> VersionStatus:
        """Its state, for status requests."""
        return VersionStatus(self.number, self.state, self.error_code, self.error_message)


class Step(NamedTuple):
    """The next step for a model: a version, and the state that it shall have."""

    state: str
    version: Version


def next_step(versions: Collection[Version], may_load: bool) -> Step | None:
    """The step that brings a model nearer to its aspired versions, while one keeps answering.

    Args:
        versions: The versions of the model.
        may_load: Whether a version may be loaded now.

    Returns:
        The step; None if there is nothing to do.
    """
    surplus = [v for v in versions if v.state == AVAILABLE and not v.aspired]
    aspired = [v for v in versions if v.aspired]
    for version in versions:
        if version.state == UNLOADING and not version.leases:
            return Step(END, version)
    replaced = not aspired or any(v.state == AVAILABLE for v in aspired)
    if surplus and (replaced or len(surplus) > 1):
        return Step(UNLOADING, min(surplus, key=lambda v: v.number))
    waiting = [v for v in aspired if v.state == START]
    if waiting and may_load:
        return Step(LOADING, max(waiting, key=lambda v: v.number))
    return None


def next_load(loading: Collection[Version]) -> float:
    """The time, by `time.monotonic`, from which another version may load beside these."""
    young = [v.loading.started for v in loading if v.loading and v.state == LOADING]
    return max(young, default=-math.inf) + PATIENCE_SECONDS


def late_at(version: Version, seconds: float) -> float:
    """The time, by `time.monotonic`, at which a version has been loading for `seconds`."""
    if version.loading and version.state == LOADING:
        return version.loading.started + seconds
    return math.inf


def why_none(model: ModelConfig, versions: Collection[Version]) -> ServingError:
    """Why a model has no version to serve."""
    failed = [version for version in versions if version.error_message]
    if failed:
        newest = max(failed, key=lambda v: v.number)
        older = sorted((v.number for v in failed if v is not newest), reverse=True)
        beside = f', nor can {", ".join(map(str, older))}' if older else ''
        return ServingError(
            newest.error_code,
            f'Version {newest.number} of {model.name} cannot be served{beside}: '
            f'{newest.error_message}',
        )
    pinned = model.model_version_policy.specific.versions
    if os.path.isdir(model.base_path) and pinned:
        what = f'does not hold the version that is asked for: {", ".join(map(str, pinned))}'
    elif os.path.isdir(model.base_path):
        what = 'holds no version: no folder named by a number, with a saved_model.pb in it'
    else:
        what = 'is not there'
    return ServingError('NOT_FOUND', f'{model.name}: {model.base_path} {what}.')
