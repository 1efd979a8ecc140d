"""Finds the statistics with which those of a run are compared."""

from __future__ import annotations

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio

_PASSED = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class EarlierStatisticsStrategy(resolver.ResolverStrategy):
    """Resolves the statistics that passed AnomalyGate last, other than those of this run.

    If refused data were compared with, the next run of the same data would pass. And if those of
    this run were, each run would be compared with itself when it is started again.

    Channels of the Resolver: `current` is the statistics of this run; `statistics` has those of all
    runs of the pipeline.
    """

    def __init__(self, comparable: str):
        """Resolves statistics for AnomalyGate's parameter `comparable`.

        Args:
            comparable: Names data that can be compared. Statistics for which AnomalyGate had
                another value are passed over.
        """
        self._comparable = comparable

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Returns the current statistics, and at most one artifact as `statistics`."""
        current = {artifact.id for artifact in input_dict['current']}
        others = {
            artifact.id: artifact
            for artifact in input_dict['statistics']
            if artifact.id not in current and fileio.exists(artifact.uri)
        }
        last = max(self._passed(store, list(others)), default=None)
        return {**input_dict, 'statistics': [others[last[1]]] if last else []}

    def _passed(self, store: mlmd.MetadataStore, artifacts: list[int]) -> list[tuple[int, int]]:
        """Pairs of an execution of AnomalyGate that passed, and the statistics that it had."""
        readings = [
            (event.execution_id, event.artifact_id)
            for event in store.get_events_by_artifact_ids(artifacts)
            if event.type == metadata_store_pb2.Event.INPUT
        ]
        executions = store.get_executions_by_id([execution for execution, _ in readings])
        passed = {
            execution.id
            for execution in executions
            if execution.last_known_state in _PASSED
            and execution.custom_properties['comparable'].string_value == self._comparable
        }
        return [reading for reading in readings if reading[0] in passed]
