"""What a pushed version was made of, and what a dataset went into, as ML Metadata recorded it.

`python -m pipeline.lineage` goes back from the newest pushed version of the pipeline to its
dataset, and `--version N` from another one. `--data NAME` goes forward from a dataset to all
trainings on it, whichever pipeline they belong to.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts

from components.pusher import LIVE_ALREADY
from pipeline import code_version, configs, metadata, metadata_check, var_folder
from pipeline.make_commands import make_command
from pipeline.metadata_error import MetadataError
from pipeline.settings import Config

_WIDTH = 80
_Query = metadata_store_pb2.LineageSubgraphQueryOptions
_Execution = metadata_store_pb2.Execution
# As far as ML Metadata goes from one artifact.
_MOST_HOPS = 100
# What the lines of an artifact and of a node have besides its path and its time.
_OF_ARTIFACT = ('dataset', 'dataset_version', 'fingerprint', 'undecodable_images', 'blessed')
_OF_NODE = ('custom_config', 'images', 'schema_file', 'timeout', 'input_config')
_NOT_SETTINGS = ('checkpoint_root', 'code_version')
_UNFINISHED = {_Execution.FAILED: 'failed', _Execution.CANCELED: 'was stopped'}
_STILL_RUNNING = 'is running, or its run was killed'


class LineageError(Exception):
    """There is nothing to show: the message is for the person who asked."""


class _Graph:
    """The part of ML Metadata's store that an artifact is made of, or went into.

    Attributes:
        artifacts: By id.
        executions: By id.
        inputs: Of each execution, pairs of the input's name and the artifact's id.
        outputs: Of each execution, the same.
        maker: The execution that made an artifact. Those that found it in the cache or chose it
            did not.
        contexts: The names of an execution's pipeline, run and node, by the type of the context.
    """

    def __init__(self, store: mlmd.MetadataStore, artifact: int, direction: int, hops: int):
        """Asks ML Metadata for what is at most `hops` events away from an artifact."""
        graph = store.get_lineage_subgraph(
            _Query(
                starting_artifacts=_Query.StartingNodes(filter_query=f'id = {artifact}'),
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
                state = self.executions[event.execution_id].last_known_state
                if state == _Execution.COMPLETE:
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
        store = _store(config)
        versions = _pushed_versions(store, config)
        if version and version not in versions:
            raise LineageError(
                f'ML Metadata knows no version {version} of {config.pipeline_name}, only '
                f'{", ".join(sorted(versions, key=int))}'
            )
        version = version or max(versions, key=int)
        pushed = versions[version]
        graph = _Graph(store, pushed.id, _Query.UPSTREAM, _MOST_HOPS)
        tree = _UpstreamTree(store, config, graph)
        return [
            f'Version {version} of {config.pipeline_name}{_below(config)}',
            *tree.lines('pushed_model', pushed.id),
        ]


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
        store = _store(config)
        known = [
            artifact
            for artifact in store.get_artifacts_by_type(standard_artifacts.Examples.TYPE_NAME)
            if _text(artifact, 'fingerprint')
        ]
        found = [
            artifact
            for artifact in known
            if _text(artifact, 'dataset') == data or _text(artifact, 'fingerprint').startswith(data)
        ]
        if not found:
            names = sorted({f'{_text(each, "dataset")} ({_short(each)})' for each in known})
            raise LineageError(
                f'ML Metadata knows no dataset {data}, only {", ".join(names) or "none at all"}'
            )
        lines = [f'What {data} went into{_below(config)}']
        for artifact in found:
            lines += _downstream_tree(store, config, artifact)
        return lines


def _store(config: Config) -> mlmd.MetadataStore:
    if not config.metadata and not os.path.exists(config.metadata_path):
        raise LineageError(
            f'There is no {config.metadata_path}, in which runs record what they make: start one '
            f'by {make_command("run", config)}'
        )
    return mlmd.MetadataStore(metadata.connection_config(config))


def _pushed_versions(
    store: mlmd.MetadataStore, config: Config
) -> dict[str, metadata_store_pb2.Artifact]:
    """The versions of the pipeline; of several records of one, that of the run that pushed it."""
    pipeline = store.get_context_by_type_and_name('pipeline', config.pipeline_name)
    artifacts = store.get_artifacts_by_context(pipeline.id) if pipeline else []
    versions = {
        _text(artifact, 'pushed_version'): artifact
        for artifact in sorted(artifacts, key=lambda each: each.id, reverse=True)
        if artifact.type == standard_artifacts.PushedModel.TYPE_NAME
        and _text(artifact, 'pushed_version').isdecimal()
        and not artifact.custom_properties[LIVE_ALREADY].int_value
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

    def __init__(self, store: mlmd.MetadataStore, config: Config, graph: _Graph):
        self._store = store
        self._config = config
        self._graph = graph
        self._shown: set[int] = set()  # executions
        self._shown_artifacts: set[int] = set()

    def lines(self, name: str, artifact: int, run: str = '') -> list[str]:
        """The lines of an artifact, which is the input `name` of a node of a run."""
        found = self._graph.artifacts[artifact]
        lines = [f'{name}: {_path(found, self._config)}']
        maker = self._graph.maker.get(artifact)
        if name == 'baseline_model':
            return [*lines, f'  only compared with{self._version_of(artifact)}']
        if maker is None:
            return [*lines, '  nothing further back is recorded']
        inputs = [] if maker in self._shown else self._graph.inputs[maker]
        edge = '│ ' if inputs else '  '
        if artifact not in self._shown_artifacts:
            lines += _wrapped(' '.join(_settings(_properties(found, _OF_ARTIFACT))), edge)
        self._shown_artifacts.add(artifact)
        if maker in self._shown:
            return [*lines, f'{edge}by {self._graph.node(maker)}, as above']
        self._shown.add(maker)
        execution, contexts = self._graph.executions[maker], self._graph.contexts[maker]
        lines += [f'{edge}{line}' for line in _when(self._graph, execution)]
        own_run = contexts.get('pipeline_run', '')
        if own_run != run:
            tfx_version = _text(found, 'tfx_version')
            lines += _wrapped(f'in the run {own_run}, with TFX {tfx_version}', edge)
        lines += _wrapped(' '.join(_settings(_properties(execution, _OF_NODE))), edge)
        branches = [self.lines(each, id_, own_run) for each, id_ in inputs]
        return [*lines, *_tree(branches)]

    def _version_of(self, model: int) -> str:
        """Says which version of the pipeline a model is; empty if it was not pushed."""
        graph = _Graph(self._store, model, _Query.DOWNSTREAM, 2)
        names = [
            _text(graph.artifacts[id_], 'pushed_version')
            for execution in graph.executions
            if ('model', model) in graph.inputs[execution]
            for name, id_ in graph.outputs[execution]
            if name == 'pushed_model'
        ]
        return f': version {names[0]}' if names else ''


def _downstream_tree(
    store: mlmd.MetadataStore, config: Config, examples: metadata_store_pb2.Artifact
) -> list[str]:
    graph = _Graph(store, examples.id, _Query.DOWNSTREAM, _MOST_HOPS)
    lines = [f'examples: {_path(examples, config)}']
    trainings = [
        execution
        for id_, execution in sorted(graph.executions.items())
        if execution.type.rpartition('.')[2] == 'Trainer'
        and execution.last_known_state != _Execution.CACHED
    ]
    edge = '│ ' if trainings else '  '
    own = _settings(_properties(examples, _OF_ARTIFACT))
    maker = _Graph(store, examples.id, _Query.UPSTREAM, 1)
    for execution in maker.executions.values():
        if execution.id == maker.maker.get(examples.id):
            own += _settings(_properties(execution, _OF_NODE))
    lines += _wrapped(' '.join(own), edge)
    branches = []
    for execution in trainings:
        branch = [graph.contexts[execution.id].get('pipeline', '')]
        branch += [f'  {line}' for line in _when(graph, execution)]
        models = graph.outputs[execution.id]
        for name, model in models:
            if name == 'model':
                branch.append(f'  model: {_path(graph.artifacts[model], config)}')
                branch += _wrapped(_outcome(graph, model), '  ')
        if not models:
            branch.append(f'  {_UNFINISHED.get(execution.last_known_state, _STILL_RUNNING)}')
        branches.append(branch)
    return [*lines, *_tree(branches)] if branches else [*lines, '  no training has used them']


def _outcome(graph: _Graph, model: int) -> str:
    """What the Evaluator and the Pusher made of a model."""
    outputs = {
        (name, id_)
        for execution, inputs in graph.inputs.items()
        if ('model', model) in inputs
        for name, id_ in graph.outputs[execution]
    }

    def those(name: str) -> Iterator[metadata_store_pb2.Artifact]:
        return (graph.artifacts[id_] for each, id_ in sorted(outputs) if each == name)

    versions = sorted({_text(each, 'pushed_version') for each in those('pushed_model')} - {''})
    if versions:
        return f'blessed and pushed as version {", ".join(versions)}'
    blessings = [
        each.custom_properties['blessed'].int_value
        for each in those('blessing')
        if each.type == standard_artifacts.ModelBlessing.TYPE_NAME
    ]
    if not blessings:
        return 'not evaluated'
    return 'blessed, but not pushed' if any(blessings) else 'rejected by the Evaluator'


def _when(graph: _Graph, execution: metadata_store_pb2.Execution) -> list[str]:
    """Lines with node, time, duration and version of the code of an execution."""
    start = execution.create_time_since_epoch / 1000
    seconds = execution.last_update_time_since_epoch / 1000 - start
    at = datetime.datetime.fromtimestamp(start).isoformat(' ', 'seconds')
    node = graph.node(execution.id)
    said = f'by {node} at {at}'
    if execution.last_known_state == _Execution.COMPLETE:
        said += f', took {seconds:.1f} s'
    # It is in properties of different depth, quoted once or twice.
    recorded = re.search(r'code_version\W+([0-9a-f]{16})\b', str(execution.custom_properties))
    own = _text(execution, 'code_version') or (recorded[1] if recorded else '')
    if not own:
        return [said]
    is_known = node in code_version.STARTS_WITH
    is_changed = is_known and own != code_version.code_version(node)
    return [said, f'code {own}{" (changed since)" if is_changed else ""}']


def _properties(
    record: metadata_store_pb2.Artifact | metadata_store_pb2.Execution, names: Sequence[str]
) -> dict[str, Any]:
    """The values of the properties `names` that a record has, read as JSON where they are that."""
    found = {}
    for name in names:
        if name in record.custom_properties:
            value = record.custom_properties[name]
            found[name] = getattr(value, value.WhichOneof('value'))
            if name in ('custom_config', 'input_config'):
                found[name] = json.loads(found[name])
            elif name == 'blessed':
                found[name] = bool(found[name])
    return found


def _settings(values: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE for each value, those in mappings too; settings of make's in capitals."""
    found = []
    for name, value in values.items():
        if name == 'input_config':
            found += [f'{each["name"]}={each["pattern"]}' for each in value.get('splits', [])]
        elif name == 'members':
            found += [f'member={path} ({its})' for path, its in _members(value)]
        elif isinstance(value, Mapping):
            found += _settings(value)
        elif name not in _NOT_SETTINGS and value not in ('', []):
            shown = name.upper() if name.upper() in configs.NAMES else name
            found.append(f'{shown}={_value(value)}')
    return found


def _members(value: Any) -> Sequence[tuple[str, str]]:
    """Folders and fingerprints of pushed models; the settings of their networks are left out."""
    return list(value.items()) if isinstance(value, Mapping) else []


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def _path(artifact: metadata_store_pb2.Artifact, config: Config) -> str:
    """Where an artifact lies, as it is recorded: a version in the folder of pushed models."""
    path = _text(artifact, 'pushed_destination') or artifact.uri
    is_gone = '://' not in path and not os.path.exists(var_folder.located(path, config))
    return f'{path} (removed)' if is_gone else path


def _below(config: Config) -> str:
    return f'; paths begin in {config.var}'


def _short(artifact: metadata_store_pb2.Artifact) -> str:
    return _text(artifact, 'fingerprint')[:12]


def _text(record: metadata_store_pb2.Artifact | metadata_store_pb2.Execution, name: str) -> str:
    return record.custom_properties[name].string_value if name in record.custom_properties else ''


def _wrapped(text: str, edge: str) -> list[str]:
    """The lines of a text under an artifact, without any for an empty text."""
    return textwrap.wrap(
        text,
        _WIDTH - 8,
        initial_indent=edge,
        subsequent_indent=edge,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tree(branches: Sequence[Sequence[str]]) -> list[str]:
    """The lines of all branches, with what connects them."""
    lines = []
    for number, branch in enumerate(branches):
        is_last = number == len(branches) - 1
        first, *others = branch
        lines.append(f'{"└─" if is_last else "├─"} {first}')
        lines += [f'{" " if is_last else "│"}  {line}' for line in others]
    return lines


def main() -> None:
    """Prints what the Makefile asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--version', default='', help='a version; the newest one by default')
    parser.add_argument('--data', default='', help='a dataset, or the start of a fingerprint')
    arguments = parser.parse_args()
    if arguments.version and arguments.data:
        sys.exit(
            'Name VERSION or DATA: one goes back from a model, the other one forward from data'
        )
    config = configs.from_environment_or_exit()
    try:
        if arguments.data:
            lines = of_data(config, arguments.data)
        else:
            lines = of_version(config, arguments.version)
    except (LineageError, MetadataError, configs.SettingError) as error:
        sys.exit(str(error))
    print(*lines, sep='\n')


if __name__ == '__main__':
    main()
