"""What the kept runs need, by ML Metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline import var_folder
from pipeline.lineage.graph import MODEL_BLESSING, PUSHED_MODEL, Event, Execution, text
from pipeline.make_commands import make_command
from pipeline.prune.errors import PruneError
from pipeline.settings import Config

Artifact = metadata_store_pb2.Artifact
_INFRA_BLESSING = 'InfraBlessing'
_MODEL = 'Model'
_PASSED = (Execution.COMPLETE, Execution.CACHED)
_UNFINISHED = (Execution.NEW, Execution.RUNNING)
# In the folder of a Model; see components/baseline_strategy.py.
_FACTS = os.path.join('Format-Serving', 'assets.extra', 'model_facts.json')


@dataclasses.dataclass(frozen=True)
class Needed:
    """What stays, and what ML Metadata knows besides.

    Attributes:
        runs: The names of the kept runs, newest first.
        older_runs: The names of all others.
        since: When the oldest kept run began, in seconds since 1970.
        executions: The ids of the executions of the kept runs.
        older_executions: The ids of the others.
        kept: The ids of the artifacts that stay.
        artifacts: All artifacts of the pipeline.
        versions: The numbers of the pushed versions that stay, as far as runs need them.
        older_versions: The numbers of the other versions that runs have pushed.
    """

    runs: list[str]
    older_runs: list[str]
    since: float
    executions: set[int]
    older_executions: set[int]
    kept: set[int]
    artifacts: list[metadata_store_pb2.Artifact]
    versions: set[str]
    older_versions: set[str]


def read(store: mlmd.MetadataStore, config: Config, keep: int) -> Needed:
    """Reads what the newest runs of the pipeline need.

    An artifact stays if a kept run made it, used it, or found it in the cache, and if a later run
    would compare its model or its data with it. One that is marked as deleted does not stay.

    Args:
        store: ML Metadata.
        config: The settings.
        keep: How many runs are kept.

    Raises:
        PruneError: There is no run.
    """
    pipeline = store.get_context_by_type_and_name('pipeline', config.pipeline_name)
    children = store.get_children_contexts_by_context(pipeline.id) if pipeline else []
    runs = sorted((each for each in children if each.type == 'pipeline_run'), key=lambda x: -x.id)
    if not runs:
        raise PruneError(
            f'ML Metadata knows no run of {config.pipeline_name}, and nothing is removed; to start '
            f'one: {make_command("run", config)}'
        )
    newest, older = runs[:keep], runs[keep:]
    executions = {
        each.id: each for run in newest for each in store.get_executions_by_context(run.id)
    }
    everything = store.get_executions_by_context(pipeline.id)
    artifacts = store.get_artifacts_by_context(pipeline.id)
    live = [each for each in artifacts if each.state != Artifact.DELETED]
    used = {event.artifact_id for event in _events(store, executions)}
    kept = used | _baselines(live, config) | _statistics(store, everything, live)
    pushed = {
        each.id: text(each, 'pushed_version') for each in artifacts if each.type == PUSHED_MODEL
    }
    versions = {pushed[id_] for id_ in used & pushed.keys()}
    versions |= _members(store, config, executions, {each.id for each in everything})
    return Needed(
        runs=[run.name for run in newest],
        older_runs=[run.name for run in older],
        since=newest[-1].create_time_since_epoch / 1000,
        executions=set(executions),
        older_executions={each.id for each in everything} - executions.keys(),
        kept=kept & {each.id for each in live},
        artifacts=artifacts,
        versions=versions - {''},
        older_versions=set(pushed.values()) - versions - {''},
    )


def _events(
    store: mlmd.MetadataStore, executions: Collection[int]
) -> list[metadata_store_pb2.Event]:
    return store.get_events_by_execution_ids(sorted(executions)) if executions else []


def _baselines(live: Iterable[metadata_store_pb2.Artifact], config: Config) -> set[int]:
    """The last blessed model of each kind that can be served, and all its blessings.

    Two models are of a kind if they can be compared with each other: the facts beside them are the
    same. A warm start begins with the last of them all.
    """
    models = {each.id: each for each in live if each.type == _MODEL}
    blessings = sorted(
        (each for each in live if each.type in (MODEL_BLESSING, _INFRA_BLESSING)),
        key=lambda each: -each.id,
    )
    of_model: dict[int, list[metadata_store_pb2.Artifact]] = {}
    for blessing in blessings:
        if blessing.custom_properties['blessed'].int_value:
            model = blessing.custom_properties['current_model_id'].int_value
            of_model.setdefault(model, []).append(blessing)
    found: set[int] = set()
    kinds = set[str]()
    for blessing in blessings:
        model = blessing.custom_properties['current_model_id'].int_value
        own = of_model.get(model, [])
        if (
            blessing.type != MODEL_BLESSING
            or blessing not in own
            or model not in models
            or not any(each.type == _INFRA_BLESSING for each in own)
        ):
            continue
        kind = _facts(models[model], config)
        if kind not in kinds:
            kinds.add(kind)
            found |= {model, *(each.id for each in own)}
    return found


def _facts(model: metadata_store_pb2.Artifact, config: Config) -> str:
    """What a model is about, as text; empty if it does not say."""
    try:
        with open(os.path.join(var_folder.located(model.uri, config), _FACTS)) as file:
            return json.dumps(json.load(file), sort_keys=True)
    except (OSError, ValueError):
        return ''


def _statistics(
    store: mlmd.MetadataStore,
    executions: Iterable[metadata_store_pb2.Execution],
    live: Iterable[metadata_store_pb2.Artifact],
) -> set[int]:
    """The statistics with which a later run's are compared: see components/earlier_statistics.py.

    For each value of AnomalyGate's `comparable`, the last ones that passed.
    """
    gates = {
        each.id: each
        for each in executions
        if each.type.endswith('AnomalyGate') and each.last_known_state in _PASSED
    }
    ids = {each.id for each in live}
    last: dict[str, tuple[int, int]] = {}
    for event in _events(store, gates):
        is_input = event.type == Event.INPUT and event.path.steps[0].key == 'statistics'
        if is_input and event.artifact_id in ids:
            comparable = text(gates[event.execution_id], 'comparable')
            reading = (event.execution_id, event.artifact_id)
            last[comparable] = max(reading, last.get(comparable, reading))
    return {artifact for _, artifact in last.values()}


def _members(
    store: mlmd.MetadataStore,
    config: Config,
    kept: Collection[int],
    own: Collection[int],
) -> set[str]:
    """The versions that are MEMBERS of ensembles: of kept ones, and of those of other pipelines.

    Args:
        store: ML Metadata.
        config: The settings.
        kept: The executions of the kept runs.
        own: All executions of the pipeline.
    """
    types = [each.name for each in store.get_execution_types() if each.name.endswith('.Trainer')]
    trainings = {
        each.id: each
        for name in types
        for each in store.get_executions_by_type(name)
        if each.id in kept or each.id not in own
    }
    versions = set()
    living = _with_results(store, trainings)
    for execution in trainings.values():
        if execution.id not in living and execution.last_known_state not in _UNFINISHED:
            continue
        settings = json.loads(text(execution, 'custom_config') or '{}')
        for folder, _ in settings.get('members') or ():
            parent, version = os.path.split(os.path.normpath(var_folder.located(folder, config)))
            if os.path.realpath(parent) == os.path.realpath(config.serving_model_dir):
                versions.add(version)
    return versions


def _with_results(store: mlmd.MetadataStore, executions: Collection[int]) -> set[int]:
    """The executions whose outputs are there, as far as ML Metadata knows."""
    outputs = [event for event in _events(store, executions) if event.type == Event.OUTPUT]
    ids = sorted({event.artifact_id for event in outputs})
    artifacts = store.get_artifacts_by_id(ids) if ids else []
    live = {each.id for each in artifacts if each.state != Artifact.DELETED}
    return {event.execution_id for event in outputs if event.artifact_id in live}
