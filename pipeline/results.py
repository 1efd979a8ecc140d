"""What came out of the latest run of a pipeline, as ML Metadata and the Evaluator recorded it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import ml_metadata as mlmd
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

from capsmodel.data import class_names, features
from components.picture_kinds.kinds import PLAIN
from components.pusher import LIVE_ALREADY
from pipeline import evaluation, metadata, schema, var_folder
from pipeline.settings import Config

CACHED = metadata_store_pb2.Execution.CACHED
FAILED = metadata_store_pb2.Execution.FAILED


@dataclasses.dataclass(frozen=True)
class Results:
    """One run.

    Attributes:
        seconds: From the first node's start to the last one's end.
        accuracy: Fraction of the test images; NaN before the Evaluator has run.
        test_images: How many there are.
        worst_class: The name of the class with the lowest accuracy.
        worst_class_accuracy: Fraction of its images.
        worst_kind: The kind of drawn pictures with the lowest accuracy; empty if none were drawn.
        worst_kind_accuracy: Fraction of its pictures.
        accuracy_change: Against the last blessed model; None where there was none to compare with.
        others_blessed: Whether models were blessed before this one, be they comparable or not.
        pushed_to: Folder of the version that is the model; empty if no version is.
        pushed_earlier: Whether an earlier run had pushed it, and this one nothing.
        left_out: Images of the dataset that cannot be decoded.
    """

    seconds: float
    accuracy: float = float('nan')
    test_images: int = 0
    worst_class: str = ''
    worst_class_accuracy: float = float('nan')
    worst_kind: str = ''
    worst_kind_accuracy: float = float('nan')
    accuracy_change: float | None = None
    others_blessed: bool = False
    pushed_to: str = ''
    pushed_earlier: bool = False
    left_out: int = 0


def read(config: Config) -> Results:
    """Reads the latest run of the pipeline that `config` names.

    Raises:
        LookupError: There is no run.
    """
    store = _store(config)
    run = _latest_run(store, config)
    executions = store.get_executions_by_context(run.id)
    artifacts = store.get_artifacts_by_context(run.id)
    facts: dict[str, Any] = {'others_blessed': _others_blessed(store, config, artifacts)}
    names: list[str] = []
    for artifact in artifacts:
        if artifact.type == tfx.types.standard_artifacts.ModelEvaluation.TYPE_NAME:
            facts |= _evaluation(var_folder.located(artifact.uri, config))
        elif artifact.type == tfx.types.standard_artifacts.PushedModel.TYPE_NAME:
            pushed_to = artifact.custom_properties['pushed_destination'].string_value
            facts['pushed_to'] = var_folder.located(pushed_to, config)
            facts['pushed_earlier'] = bool(artifact.custom_properties[LIVE_ALREADY].int_value)
        elif artifact.type == tfx.types.standard_artifacts.Schema.TYPE_NAME:
            folder = var_folder.located(artifact.uri, config)
            names = class_names.read(os.path.join(folder, schema.FILE))
        elif artifact.custom_properties['undecodable_images'].int_value:
            facts['left_out'] = artifact.custom_properties['undecodable_images'].int_value
    if names and 'worst_class' in facts:
        facts['worst_class'] = names[int(facts['worst_class'])]
    return Results(
        seconds=(
            max(execution.last_update_time_since_epoch for execution in executions)
            - min(execution.create_time_since_epoch for execution in executions)
        )
        / 1000,
        **facts,
    )


def node_states(config: Config) -> dict[str, int]:
    """CACHED, FAILED or another state of each node of the latest run, by id.

    Raises:
        LookupError: There is no run.
    """
    return {node: execution.last_known_state for node, execution in _latest_executions(config)}


def node_seconds(config: Config) -> dict[str, float]:
    """Seconds from start to end of each node of the latest run, by id, in the order of starts.

    Raises:
        LookupError: There is no run.
    """
    executions = sorted(
        _latest_executions(config), key=lambda pair: pair[1].create_time_since_epoch
    )
    seconds: dict[str, float] = {}
    for node, execution in executions:
        took = execution.last_update_time_since_epoch - execution.create_time_since_epoch
        seconds[node] = seconds.get(node, 0) + took / 1000
    return seconds


def output_folders(config: Config) -> dict[tuple[str, str], str]:
    """Where the latest run has what its nodes wrote, by a node's id and the output's name.

    Raises:
        LookupError: There is no run.
    """
    store = _store(config)
    folders = {}
    for node, execution in _latest_executions(config):
        for event in store.get_events_by_execution_ids([execution.id]):
            if event.type == metadata_store_pb2.Event.OUTPUT:
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                folders[node, event.path.steps[0].key] = var_folder.located(artifact.uri, config)
    return folders


def _latest_executions(config: Config) -> list[tuple[str, metadata_store_pb2.Execution]]:
    """The executions of the latest run, each with the id of its node."""
    store = _store(config)
    return [
        (context.name.removeprefix(f'{config.pipeline_name}.'), execution)
        for execution in store.get_executions_by_context(_latest_run(store, config).id)
        for context in store.get_contexts_by_execution(execution.id)
        if context.type == 'node'
    ]


def _store(config: Config) -> mlmd.MetadataStore:
    return mlmd.MetadataStore(metadata.connection_config(config))


def _latest_run(store: mlmd.MetadataStore, config: Config) -> metadata_store_pb2.Context:
    pipeline = store.get_context_by_type_and_name('pipeline', config.pipeline_name)
    runs = [
        context
        for context in (store.get_children_contexts_by_context(pipeline.id) if pipeline else [])
        if context.type == 'pipeline_run'
    ]
    if not runs:
        raise LookupError(f'ML Metadata knows no run of {config.pipeline_name}')
    return max(runs, key=lambda context: context.id)


def _others_blessed(
    store: mlmd.MetadataStore, config: Config, artifacts: Sequence[metadata_store_pb2.Artifact]
) -> bool:
    """Whether the pipeline has blessed a model that can be served before that of a run.

    Args:
        store: ML Metadata.
        config: The settings.
        artifacts: Those of the run.
    """
    pipeline = store.get_context_by_type_and_name('pipeline', config.pipeline_name)
    infra = tfx.types.standard_artifacts.InfraBlessing.TYPE_NAME
    blessing = tfx.types.standard_artifacts.ModelBlessing.TYPE_NAME
    all_of_them = store.get_artifacts_by_context(pipeline.id)
    models = {_model_of(each) for each in all_of_them if each.type == infra}
    own = [each for each in artifacts if each.type == blessing]
    first = min((each.id for each in own), default=0)
    candidates = {_model_of(each) for each in own}
    return any(
        each.type == blessing
        and each.id < first
        and _model_of(each) not in candidates
        and each.custom_properties['blessed'].int_value
        and _model_of(each) in models
        for each in all_of_them
    )


def _model_of(blessing: metadata_store_pb2.Artifact) -> int:
    return blessing.custom_properties['current_model_id'].int_value


def _evaluation(uri: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    by_class: dict[int, float] = {}
    by_kind: dict[str, float] = {}
    for slice_metrics in tfma.load_metrics(uri):
        values: dict[str, float] = {}
        changes: dict[str, float] = {}
        for metric in slice_metrics.metric_keys_and_values:
            if metric.key.model_name != evaluation.BASELINE:
                group = changes if metric.key.is_diff else values
                group[metric.key.name] = metric.value.double_value.value
        keys = {key.column: key for key in slice_metrics.slice_key.single_slice_keys}
        kind = keys[features.KIND].bytes_value.decode() if features.KIND in keys else PLAIN
        accuracy = values[evaluation.ACCURACY]
        if kind != PLAIN:
            by_kind[kind] = accuracy
        elif features.LABEL in keys:
            by_class[keys[features.LABEL].int64_value] = accuracy
        else:
            facts['accuracy'] = accuracy
            facts['accuracy_change'] = changes.get(evaluation.ACCURACY)
            facts['test_images'] = round(values['example_count'])
    worst = min(by_class, key=lambda label: by_class[label])
    facts |= {'worst_class': str(worst), 'worst_class_accuracy': by_class[worst]}
    if by_kind:
        worst_kind = min(by_kind, key=lambda kind: by_kind[kind])
        facts |= {'worst_kind': worst_kind, 'worst_kind_accuracy': by_kind[worst_kind]}
    return facts
