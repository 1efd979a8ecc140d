"""What a pushed version was made of."""

from __future__ import annotations

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline import metadata_check
from pipeline.lineage import records
from pipeline.lineage.graph import PUSHED_MODEL, Graph, LineageError, open_store, text
from pipeline.make_commands import make_command
from pipeline.settings import Config


def of_version(config: Config, version: str = '') -> list[str]:
    """The lines that say what a pushed version was made of.

    Args:
        config: The settings.
        version: The number of a version of the pipeline; empty: the newest one.

    Raises:
        LineageError: ML Metadata knows no such version.
        MetadataError: ML Metadata cannot be used.
        SettingError: METADATA lacks a user.
    """
    with metadata_check.explained_errors(config):
        store = open_store(config)
        versions = _pushed_versions(store, config)
        if version and version not in versions:
            raise LineageError(
                f'ML Metadata knows no version {version} of {config.pipeline_name}, only '
                f'{", ".join(sorted(versions, key=int))}'
            )
        version = version or max(versions, key=int)
        pushed = versions[version]
        graph = Graph(store, pushed.id, is_upstream=True)
        tree = _UpstreamTree(store, config, graph)
        return [
            f'Version {version} of {config.pipeline_name}; paths begin in {config.var}',
            *tree.lines('pushed_model', pushed.id),
        ]


def raw_examples(config: Config, version: str) -> str:
    """The recorded folder of the raw examples that a version was trained with.

    Args:
        config: The settings.
        version: The number of a version of the pipeline.

    Raises:
        LineageError: ML Metadata does not know what the version was made of.
        SettingError: METADATA lacks a user.
    """
    store = open_store(config)
    found = _pushed_versions(store, config).get(version)
    if found is not None:
        graph = Graph(store, found.id, is_upstream=True)
        at = found.id
        # From the Pusher to the Trainer, to Transform, to the ExampleGen.
        for name in ('model', 'examples', 'examples'):
            inputs = graph.inputs[graph.maker[at]] if at in graph.maker else []
            at = next((id_ for each, id_ in inputs if each == name), 0)
        if at:
            return graph.artifacts[at].uri
    raise LineageError(
        f'ML Metadata does not know which data version {version} of {config.pipeline_name} was '
        'trained with'
    )


def _pushed_versions(
    store: mlmd.MetadataStore, config: Config
) -> dict[str, metadata_store_pb2.Artifact]:
    """The versions of the pipeline; of several records of one, that of the first run."""
    pipeline = store.get_context_by_type_and_name('pipeline', config.pipeline_name)
    artifacts = store.get_artifacts_by_context(pipeline.id) if pipeline else []
    versions = {
        text(artifact, 'pushed_version'): artifact
        for artifact in sorted(artifacts, key=lambda each: each.id, reverse=True)
        if artifact.type == PUSHED_MODEL and text(artifact, 'pushed_version').isdecimal()
    }
    if not versions:
        pipelines = sorted(each.name for each in store.get_contexts_by_type('pipeline'))
        others = [name for name in pipelines if name != config.pipeline_name]
        raise LineageError(
            f'ML Metadata knows no pushed version of {config.pipeline_name}'
            + (f'; there are runs of {", ".join(others)} (PIPELINE_NAME)' if others else '')
            + f'; to push one: {make_command("run", config)}'
        )
    return versions


class _UpstreamTree:
    """A tree of artifacts, each with the node that made it and what the node was given."""

    def __init__(self, store: mlmd.MetadataStore, config: Config, graph: Graph):
        self._store = store
        self._config = config
        self._graph = graph
        self._shown: set[int] = set()  # executions
        self._shown_artifacts: set[int] = set()

    def lines(self, name: str, artifact: int, run: str = '') -> list[str]:
        """The lines of an artifact, which is the input `name` of a node of a run."""
        found = self._graph.artifacts[artifact]
        lines = [f'{name}: {records.path(found, self._config)}']
        maker = self._graph.maker.get(artifact)
        if name == 'baseline_model':
            return [*lines, f'  only compared with{self._version_of(artifact)}']
        if maker is None:
            return [*lines, '  nothing further back is recorded']
        inputs = [] if maker in self._shown else self._graph.inputs[maker]
        edge = '│ ' if inputs else '  '
        if artifact not in self._shown_artifacts:
            lines += records.wrapped(records.settings(found), edge)
        self._shown_artifacts.add(artifact)
        if maker in self._shown:
            return [*lines, f'{edge}by {self._graph.node(maker)}, as above']
        self._shown.add(maker)
        execution, contexts = self._graph.executions[maker], self._graph.contexts[maker]
        lines += [f'{edge}{line}' for line in records.when(self._graph, execution)]
        own_run = contexts.get('pipeline_run', '')
        if own_run != run:
            tfx_version = text(found, 'tfx_version')
            lines += records.wrapped(f'in the run {own_run}, with TFX {tfx_version}', edge)
        lines += records.wrapped(records.settings(execution), edge)
        branches = [self.lines(each, id_, own_run) for each, id_ in inputs]
        return [*lines, *records.tree(branches)]

    def _version_of(self, model: int) -> str:
        """Says which version of the pipeline a model is; empty if it was not pushed."""
        graph = Graph(self._store, model, is_upstream=False, hops=2)
        names = [
            text(graph.artifacts[id_], 'pushed_version')
            for execution in graph.executions
            if ('model', model) in graph.inputs[execution]
            for name, id_ in graph.outputs[execution]
            if name == 'pushed_model'
        ]
        return f': version {names[0]}' if names else ''
