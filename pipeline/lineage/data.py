"""What a dataset went into."""

from __future__ import annotations

from collections.abc import Iterator

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline import metadata_check
from pipeline.lineage import records
from pipeline.lineage.graph import (
    EXAMPLES,
    MODEL_BLESSING,
    Execution,
    Graph,
    LineageError,
    open_store,
    text,
)
from pipeline.settings import Config

_UNFINISHED = {Execution.FAILED: 'failed', Execution.CANCELED: 'was stopped'}
_STILL_RUNNING = 'is running, or its run was killed'


def of_data(config: Config, data: str) -> list[str]:
    """The lines that say which trainings a dataset went into, and what became of their models.

    Args:
        config: The settings.
        data: The name of a dataset, or the beginning of a fingerprint.

    Raises:
        LineageError: ML Metadata knows no such dataset.
        MetadataError: ML Metadata cannot be used.
        SettingError: METADATA lacks a user.
    """
    with metadata_check.explained_errors(config):
        store = open_store(config)
        known = [
            artifact
            for artifact in store.get_artifacts_by_type(EXAMPLES)
            if text(artifact, 'fingerprint')
        ]
        found = [
            artifact
            for artifact in known
            if text(artifact, 'dataset') == data or text(artifact, 'fingerprint').startswith(data)
        ]
        if not found:
            names = sorted({f'{text(each, "dataset")} ({_short(each)})' for each in known})
            raise LineageError(
                f'ML Metadata knows no dataset {data}, only {", ".join(names) or "none at all"}'
            )
        lines = [f'What {data} went into; paths begin in {config.var}']
        for artifact in found:
            lines += _downstream_tree(store, config, artifact)
        return lines


def _short(artifact: metadata_store_pb2.Artifact) -> str:
    return text(artifact, 'fingerprint')[:12]


def _downstream_tree(
    store: mlmd.MetadataStore, config: Config, examples: metadata_store_pb2.Artifact
) -> list[str]:
    graph = Graph(store, examples.id, is_upstream=False)
    lines = [f'examples: {records.path(examples, config)}']
    trainings = [
        execution
        for id_, execution in sorted(graph.executions.items())
        if execution.type.rpartition('.')[2] == 'Trainer'
        and execution.last_known_state != Execution.CACHED
    ]
    edge = '│ ' if trainings else '  '
    lines += records.wrapped(records.settings(examples), edge)
    made = Graph(store, examples.id, is_upstream=True, hops=1)
    if examples.id in made.maker:
        execution = made.executions[made.maker[examples.id]]
        lines += records.wrapped(records.settings(execution), edge)
    branches = []
    for execution in trainings:
        branch = [graph.contexts[execution.id].get('pipeline', '')]
        branch += [f'  {line}' for line in records.when(graph, execution)]
        models = graph.outputs[execution.id]
        for name, model in models:
            if name == 'model':
                branch.append(f'  model: {records.path(graph.artifacts[model], config)}')
                branch += records.wrapped(_outcome(graph, model), '  ')
        if not models:
            branch.append(f'  {_UNFINISHED.get(execution.last_known_state, _STILL_RUNNING)}')
        branches.append(branch)
    return (
        [*lines, *records.tree(branches)] if branches else [*lines, '  no training has used them']
    )


def _outcome(graph: Graph, model: int) -> str:
    """What the Evaluator and the Pusher made of a model."""
    outputs = {
        (name, id_)
        for execution, inputs in graph.inputs.items()
        if ('model', model) in inputs
        for name, id_ in graph.outputs[execution]
    }

    def those(name: str) -> Iterator[metadata_store_pb2.Artifact]:
        return (graph.artifacts[id_] for each, id_ in sorted(outputs) if each == name)

    versions = sorted({text(each, 'pushed_version') for each in those('pushed_model')} - {''})
    if versions:
        return f'blessed and pushed as version {", ".join(versions)}'
    blessings = [
        each.custom_properties['blessed'].int_value
        for each in those('blessing')
        if each.type == MODEL_BLESSING
    ]
    if not blessings:
        return 'not evaluated'
    return 'blessed, but not pushed' if any(blessings) else 'rejected by the Evaluator'
