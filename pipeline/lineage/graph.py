"""ML Metadata's record of what was made from what."""

from __future__ import annotations

import os
from typing import TypeAlias

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline import metadata
from pipeline.make_commands import make_command
from pipeline.settings import Config

Query = metadata_store_pb2.LineageSubgraphQueryOptions
Execution = metadata_store_pb2.Execution
Record: TypeAlias = metadata_store_pb2.Artifact | metadata_store_pb2.Execution
# As far as ML Metadata goes from one artifact.
MOST_HOPS = 100


class LineageError(Exception):
    """There is nothing to show: the message is for the person who asked."""


class Graph:
    """The part of ML Metadata's store that an artifact is made of, or went into.

    Attributes:
        artifacts: By id.
        executions: By id.
        inputs: Of each execution, pairs of the input's name and the artifact's id.
        outputs: Of each execution, the same.
        maker: The execution that made an artifact, which is the first that had it as an output;
            later ones found it in the cache.
        contexts: The names of an execution's pipeline, run and node, by the type of the context.
    """

    def __init__(self, store: mlmd.MetadataStore, artifact: int, direction: int, hops: int):
        """Asks ML Metadata for what is at most `hops` events away from an artifact."""
        graph = store.get_lineage_subgraph(
            Query(
                starting_artifacts=Query.StartingNodes(filter_query=f'id = {artifact}'),
                max_num_hops=hops,
                direction=direction,
            )
        )
        self.artifacts = {each.id: each for each in graph.artifacts}
        self.executions = {each.id: each for each in graph.executions}
        self.inputs: dict[int, list[tuple[str, int]]] = {id_: [] for id_ in self.executions}
        self.outputs: dict[int, list[tuple[str, int]]] = {id_: [] for id_ in self.executions}
        self.maker: dict[int, int] = {}
        for event in sorted(graph.events, key=lambda each: (each.execution_id, each.artifact_id)):
            named = (event.path.steps[0].key if event.path.steps else '', event.artifact_id)
            if event.type == metadata_store_pb2.Event.INPUT:
                self.inputs[event.execution_id].append(named)
            elif event.type == metadata_store_pb2.Event.OUTPUT:
                self.outputs[event.execution_id].append(named)
                self.maker.setdefault(event.artifact_id, event.execution_id)
        contexts = {each.id: each for each in graph.contexts}
        self.contexts: dict[int, dict[str, str]] = {id_: {} for id_ in self.executions}
        for association in graph.associations:
            context = contexts[association.context_id]
            self.contexts[association.execution_id][context.type] = context.name

    def node(self, execution: int) -> str:
        """The id of an execution's node."""
        names = self.contexts[execution]
        return names.get('node', '').removeprefix(f'{names.get("pipeline", "")}.')


def open_store(config: Config) -> mlmd.MetadataStore:
    """The store that the settings name.

    Raises:
        LineageError: Its file is not there.
        SettingError: METADATA lacks a user.
    """
    if not config.metadata and not os.path.exists(config.metadata_path):
        raise LineageError(
            f'There is no {config.metadata_path}, in which runs record what they make: start one '
            f'by {make_command("run", config)}'
        )
    return mlmd.MetadataStore(metadata.connection_config(config))


def text(record: Record, name: str) -> str:
    """The text of a custom property; empty if the record does not have it."""
    return record.custom_properties[name].string_value if name in record.custom_properties else ''
