"""ML Metadata's record of what was made from what."""

from __future__ import annotations

import os
from typing import TypeAlias

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline import metadata
from pipeline.make_commands import make_command
from pipeline.settings import Config

Event = metadata_store_pb2.Event
Execution = metadata_store_pb2.Execution
Record: TypeAlias = metadata_store_pb2.Artifact | metadata_store_pb2.Execution
# The names of TFX's standard types of artifacts, which is not imported here: that takes seconds.
EXAMPLES = 'Examples'
MODEL_BLESSING = 'ModelBlessing'
PUSHED_MODEL = 'PushedModel'


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

    def __init__(
        self, store: mlmd.MetadataStore, artifact: int, *, is_upstream: bool, hops: int = 0
    ):
        """Follows the events of an artifact.

        ML Metadata's own `get_lineage_subgraph` needs a filter, which the ML Metadata of TFX 1.21
        has no more.

        Args:
            store: Where the events are.
            artifact: The id of the artifact to begin with.
            is_upstream: Whether to go to what made it, or to what was made of it.
            hops: The most events to follow one after the other; 0: to the end.
        """
        events = _followed(store, artifact, is_upstream, hops)
        ids = sorted({artifact, *(event.artifact_id for event in events)})
        self.artifacts = {each.id: each for each in store.get_artifacts_by_id(ids)}
        ids = sorted({event.execution_id for event in events})
        self.executions = {each.id: each for each in store.get_executions_by_id(ids)}
        self.inputs: dict[int, list[tuple[str, int]]] = {id_: [] for id_ in self.executions}
        self.outputs: dict[int, list[tuple[str, int]]] = {id_: [] for id_ in self.executions}
        self.maker: dict[int, int] = {}
        for event in sorted(events, key=lambda each: (each.execution_id, each.artifact_id)):
            named = (event.path.steps[0].key if event.path.steps else '', event.artifact_id)
            if event.type == Event.INPUT:
                self.inputs[event.execution_id].append(named)
            else:
                self.outputs[event.execution_id].append(named)
                state = self.executions[event.execution_id].last_known_state
                if state == Execution.COMPLETE:
                    self.maker.setdefault(event.artifact_id, event.execution_id)
        self.contexts = {
            id_: {each.type: each.name for each in store.get_contexts_by_execution(id_)}
            for id_ in self.executions
        }

    def node(self, execution: int) -> str:
        """The id of an execution's node."""
        names = self.contexts[execution]
        return names.get('node', '').removeprefix(f'{names.get("pipeline", "")}.')


def _followed(
    store: mlmd.MetadataStore, artifact: int, is_upstream: bool, hops: int
) -> list[metadata_store_pb2.Event]:
    """The events between an artifact and what it was made of, or what was made of it."""
    at_artifacts, at_executions = Event.OUTPUT, Event.INPUT
    if not is_upstream:
        at_artifacts, at_executions = at_executions, at_artifacts
    followed: list[metadata_store_pb2.Event] = []
    artifacts, executions = {artifact}, set[int]()
    new, done = {artifact}, 0
    while new and (not hops or done < hops):
        if done % 2 == 0:
            events = store.get_events_by_artifact_ids(sorted(new))
            events = [event for event in events if event.type == at_artifacts]
            new = {event.execution_id for event in events} - executions
            executions |= new
        else:
            events = store.get_events_by_execution_ids(sorted(new))
            events = [event for event in events if event.type == at_executions]
            new = {event.artifact_id for event in events} - artifacts
            artifacts |= new
        followed += events
        done += 1
    return followed


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
