"""Which statistics those of a run are compared with."""

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.types import standard_artifacts

from components.earlier_statistics import EarlierStatisticsStrategy

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED
FAILED = metadata_store_pb2.Execution.FAILED


class _Runs:
    """ML Metadata of runs, each of statistics and a gate that passed them or not."""

    def __init__(self, folder):
        self._folder = folder
        self.store = mlmd.MetadataStore(
            metadata.sqlite_metadata_connection_config(str(folder / 'metadata.db'))
        )
        self._types = (
            self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name='Statistics')),
            self.store.put_execution_type(metadata_store_pb2.ExecutionType(name='Gate')),
        )
        self._all = []

    def statistics(self):
        """New statistics, by the number of their artifact."""
        uri = self._folder / f'statistics-{len(self._all)}'
        uri.mkdir()
        record = metadata_store_pb2.Artifact(type_id=self._types[0], uri=str(uri))
        (identifier,) = self.store.put_artifacts([record])
        artifact = standard_artifacts.ExampleStatistics()
        artifact.id, artifact.uri = identifier, str(uri)
        self._all.append(artifact)
        return identifier

    def gate(self, statistics, state=COMPLETE, comparable='alike'):
        """A gate that looked at these statistics."""
        execution = metadata_store_pb2.Execution(type_id=self._types[1], last_known_state=state)
        execution.custom_properties['comparable'].string_value = comparable
        event = metadata_store_pb2.Event(
            artifact_id=statistics, type=metadata_store_pb2.Event.INPUT
        )
        artifact = metadata_store_pb2.Artifact(
            id=statistics, type_id=self._types[0], uri=self.uri(statistics)
        )
        self.store.put_execution(execution, [(artifact, event)], [])

    def uri(self, statistics):
        return next(each.uri for each in self._all if each.id == statistics)

    def compared_with(self, current):
        """What the strategy resolves."""
        resolved = EarlierStatisticsStrategy('alike').resolve_artifacts(
            self.store,
            {
                'current': [each for each in self._all if each.id == current],
                'statistics': self._all,
            },
        )
        assert [each.id for each in resolved['current']] == [current]
        assert len(resolved['statistics']) <= 1
        return resolved['statistics'][0].id if resolved['statistics'] else None


@pytest.fixture
def runs(tmp_path):
    return _Runs(tmp_path)


def test_first_run_is_compared_with_nothing_however_often_it_is_started(runs):
    first = runs.statistics()
    assert runs.compared_with(first) is None
    runs.gate(first)
    runs.gate(first, CACHED)
    assert runs.compared_with(first) is None


def test_the_run_that_passed_last_counts(runs):
    first, second, third = (runs.statistics() for _ in range(3))
    runs.gate(first)
    runs.gate(second)
    assert runs.compared_with(third) == second
    runs.gate(first, CACHED)
    assert runs.compared_with(third) == first


def test_refused_statistics_are_passed_over(runs):
    first, refused, third = (runs.statistics() for _ in range(3))
    runs.gate(first)
    runs.gate(refused, FAILED)
    assert runs.compared_with(refused) == first
    assert runs.compared_with(third) == first


def test_other_data_are_passed_over(runs):
    first, second = runs.statistics(), runs.statistics()
    runs.gate(first, comparable='other classes')
    assert runs.compared_with(second) is None


def test_statistics_whose_files_are_gone_are_passed_over(runs, tmp_path):
    first, second, third = (runs.statistics() for _ in range(3))
    runs.gate(first)
    runs.gate(second)
    (tmp_path / 'statistics-1').rmdir()
    assert runs.compared_with(third) == first
