"""Records of runs in an ML Metadata store, as TFX writes them."""

import os

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

COMPLETE = metadata_store_pb2.Execution.COMPLETE
CACHED = metadata_store_pb2.Execution.CACHED
OUTPUT = metadata_store_pb2.Event.OUTPUT


class Records:
    """Writes artifacts, executions and events to the file of some settings."""

    def __init__(self, config, with_folders=False):
        """With folders, artifacts lie where TFX puts them, each a folder with a file."""
        self._config = config
        self._with_folders = with_folders
        os.makedirs(os.path.dirname(config.metadata_path), exist_ok=True)
        connection = metadata.sqlite_metadata_connection_config(config.metadata_path)
        self._store = mlmd.MetadataStore(connection)

    def execute(
        self, node, inputs, outputs, *, run='run 1', pipeline=None, state=COMPLETE, **properties
    ):
        """Records that a node of a run has made artifacts.

        Args:
            node: The id of the node; its type is the last part of it.
            inputs: Ids of artifacts by their keys.
            outputs: By their keys, ids of artifacts that were there already, or pairs of a type
                and properties.
            run: The name of the run.
            pipeline: The name of the pipeline; that of the settings by default.
            state: Of the execution.
            **properties: Of the execution.

        Returns:
            The ids of the outputs.
        """
        pipeline = pipeline or self._config.pipeline_name
        contexts = [
            self._run(pipeline, run),
            self._context('pipeline', pipeline),
            self._context('node', f'{pipeline}.{node}'),
        ]
        execution = metadata_store_pb2.Execution(
            type_id=self._type('execution', f'tfx.components.{node}'), last_known_state=state
        )
        _set(execution, properties)
        pairs = [
            (metadata_store_pb2.Artifact(id=id_), _event(metadata_store_pb2.Event.INPUT, key))
            for key, id_ in inputs.items()
        ]
        for key, output in outputs.items():
            if isinstance(output, int):
                artifact = metadata_store_pb2.Artifact(id=output)
            else:
                kind, values = output
                artifact = metadata_store_pb2.Artifact(
                    type_id=self._type('artifact', kind),
                    uri=f'{pipeline}/{node}/{key}/{run}',
                    state=metadata_store_pb2.Artifact.LIVE,
                )
                _set(artifact, {'tfx_version': '1.16.0', **values})
            pairs.append((artifact, _event(OUTPUT, key)))
        known = {each.id: each for each in self._store.get_artifacts()}
        pairs = [(known.get(artifact.id, artifact), event) for artifact, event in pairs]
        number, ids, _ = self._store.put_execution(execution, pairs, contexts)
        new = [id_ for id_ in ids[len(inputs) :] if id_ not in known]
        if new and self._with_folders:
            self._make_folders(os.path.join('pipeline_root', pipeline, node), number, new)
        return ids[len(inputs) :]

    def _make_folders(self, node, execution, artifacts):
        made = self._store.get_artifacts_by_id(artifacts)
        for artifact in made:
            key = artifact.uri.split('/')[-2]
            artifact.uri = os.path.join(node, key, str(execution))
            folder = os.path.join(self._config.var, artifact.uri)
            os.makedirs(folder)
            with open(os.path.join(folder, 'file'), 'wb') as file:
                file.write(bytes(10_000))
        self._store.put_artifacts(made)

    def choose(self, node, key, artifact, run):
        """Records that a Resolver has found an artifact."""
        self._store.put_execution(
            metadata_store_pb2.Execution(
                type_id=self._type('execution', 'Resolver'), last_known_state=COMPLETE
            ),
            [
                (
                    self._store.get_artifacts_by_id([artifact])[0],
                    _event(metadata_store_pb2.Event.INTERNAL_OUTPUT, key),
                )
            ],
            [
                self._run(self._config.pipeline_name, run),
                self._context('pipeline', self._config.pipeline_name),
                self._context('node', f'{self._config.pipeline_name}.{node}'),
            ],
        )

    def _run(self, pipeline, name):
        """The context of a run, which is a part of that of its pipeline."""
        run = self._store.get_context_by_type_and_name('pipeline_run', name)
        if run:
            return run
        contexts = [self._context('pipeline', pipeline), self._context('pipeline_run', name)]
        parent, child = self._store.put_contexts(contexts)
        part = metadata_store_pb2.ParentContext(parent_id=parent, child_id=child)
        self._store.put_parent_contexts([part])
        return self._context('pipeline_run', name)

    def _context(self, kind, name):
        found = self._store.get_context_by_type_and_name(kind, name)
        return found or metadata_store_pb2.Context(type_id=self._type('context', kind), name=name)

    def _type(self, of, name):
        message = getattr(metadata_store_pb2, f'{of.capitalize()}Type')(name=name)
        return getattr(self._store, f'put_{of}_type')(message)


def _set(record, properties):
    for name, value in properties.items():
        if isinstance(value, int):
            record.custom_properties[name].int_value = value
        else:
            record.custom_properties[name].string_value = value


def _event(kind, key):
    event = metadata_store_pb2.Event(type=kind)
    event.path.steps.add().key = key
    event.path.steps.add().index = 0
    return event
