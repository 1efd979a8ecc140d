"""TFX's runner on this machine, for one run of a pipeline at a time."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from components import locks
from pipeline import console, metadata_check, var_folder
from pipeline.settings import Config


class ExclusiveRunner(LocalDagRunner):
    """Runs a pipeline once no other run of it is going on.

    Two at a time would train the same network from the same checkpoints. The one that has waited
    takes from the cache what the other one has finished.
    """

    def __init__(
        self, config: Config, lines: contextlib.AbstractContextManager[None] | None = None
    ):
        """Takes the settings of the pipeline, and what prints lines for a person.

        `lines` is entered for the run, and left before another one begins: it reads of the latest.
        """
        super().__init__()
        self._config = config
        self._lines = lines or contextlib.nullcontext()

    # `tfx pipeline create` replaces `run`, which calls this: it waits for no other run.
    def run_with_ir(self, *args: Any, **kwargs: Any) -> None:
        """Waits for the end of another run, checks ML Metadata and runs.

        Raises:
            MetadataError: ML Metadata cannot be used.
        """
        name = self._config.pipeline_name
        with locks.held(
            os.path.join(self._config.lock_dir, 'pipelines', name),
            waiting=f'Waiting for another run of {name} to end ...',
        ):
            metadata_check.check(self._config)
            with (
                metadata_check.explained_errors(self._config),
                self._lines,
                _watched(self._config),
            ):
                var_folder.relocate(self._config)
                super().run_with_ir(*args, **kwargs)


class _EachNode(logging.Handler):
    """Looks at ML Metadata's file before each node: the runner does nothing there but log."""

    def __init__(self, file: metadata_check.FileWatch):
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == console.STARTED:
            self._file.look()


@contextlib.contextmanager
def _watched(config: Config) -> Iterator[None]:
    """Raises MetadataError if ML Metadata's file is lost meanwhile, whatever that led to."""
    file = metadata_check.FileWatch(config)
    handler = _EachNode(file)
    logger = logging.getLogger('absl')
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        file.look()
