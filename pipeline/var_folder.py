"""The folder VAR, which can be moved and copied: no record of a run names it.

A run works inside VAR, and all its paths are relative to it. So are those in ML Metadata and in the
keys of TFX's cache, and both are true wherever the folder lies. What does not lie in VAR, such as a
PIPELINE_ROOT of another disk or of a bucket, is recorded as it is. So are all paths where BEAM_ARGS
names workers that have working directories of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Iterator

from pipeline.settings import Config

# Beam's runners whose workers are this process or its children.
_LOCAL_RUNNERS = ('FnApiRunner', 'DirectRunner')

# Custom properties of artifacts that hold a path: Evaluator's, and Pusher's.
_MODEL = 'current_model'
_VERSION = 'pushed_destination'


@contextlib.contextmanager
def entered(config: Config) -> Iterator[Config]:
    """Makes VAR the working directory while the context lasts.

    Yields:
        The settings, with paths in VAR relative to it where Beam works in it, too.
    """
    os.makedirs(config.var, exist_ok=True)
    schema_file = config.schema_file and os.path.abspath(config.schema_file)
    before = os.getcwd()
    os.chdir(config.var)
    try:
        yield dataclasses.replace(
            config,
            var='' if _beam_works_here(config) else config.var,
            pipeline_root=_recorded(config.pipeline_root, config),
            images=_recorded(config.images, config),
            members=tuple(_recorded(path, config) for path in config.members),
            schema_file=schema_file,
        )
    finally:
        os.chdir(before)


def located(recorded: str, config: Config) -> str:
    """Where a path lies that ML Metadata has recorded."""
    return recorded if '://' in recorded else os.path.join(config.var, recorded)


def relocate(config: Config) -> None:
    """Lets ML Metadata find the pipeline's artifacts where they are now.

    Earlier versions of this project recorded absolute paths, and where PIPELINE_ROOT lies outside
    VAR, runs still do. What such a record names is looked for where the settings have it now, even
    if the old path exists: where this folder is a copy, that is the original's. What is not found
    there keeps its record. A second call changes nothing.

    Args:
        config: The settings; paths absolute.
    """
    if '://' in config.pipeline_root:
        return
    if not config.metadata and not os.path.exists(config.metadata_path):
        return
    # Not at the top: TFX loads TensorFlow.
    from tfx.orchestration.metadata import Metadata

    from pipeline import metadata

    with Metadata(metadata.connection_config(config)) as handle:
        pipeline = handle.store.get_context_by_type_and_name('pipeline', config.pipeline_name)
        artifacts = handle.store.get_artifacts_by_context(pipeline.id) if pipeline else []
        moved = []
        for artifact in artifacts:
            before = artifact.SerializeToString(deterministic=True)
            # TFX's layout: PIPELINE_ROOT/node/output/id of the execution, which is unique.
            artifact.uri = _found(artifact.uri, config.pipeline_root, 3, config)
            for name, folder, parts in (
                (_MODEL, config.pipeline_root, 3),
                (_VERSION, config.serving_model_dir, 1),
            ):
                if name in artifact.custom_properties:
                    value = artifact.custom_properties[name]
                    value.string_value = _found(value.string_value, folder, parts, config)
            if artifact.SerializeToString(deterministic=True) != before:
                moved.append(artifact)
        if moved:
            handle.store.put_artifacts(moved)


def _found(recorded: str, folder: str, parts: int, config: Config) -> str:
    """The record of what has the last `parts` names of `recorded` in `folder`, if that is there."""
    path = os.path.join(folder, *recorded.split('/')[-parts:])
    is_there = recorded and '://' not in recorded and os.path.exists(path)
    return _recorded(path, config) if is_there else recorded


def _recorded(path: str, config: Config) -> str:
    """A path as runs with these settings record it."""
    is_in_var = path.startswith(os.path.join(config.var, ''))
    return os.path.relpath(path, config.var) if is_in_var and _beam_works_here(config) else path


def _beam_works_here(config: Config) -> bool:
    """Whether Beam's workers have the working directory of this process."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--runner', default=_LOCAL_RUNNERS[0])
    parser.add_argument('--environment_type')
    options, _ = parser.parse_known_args(config.beam_args.split())
    return options.runner in _LOCAL_RUNNERS or options.environment_type == 'LOOPBACK'
