"""Removes the checkpoints of finished trainings once a model is pushed."""

import glob
import os
import shutil

from absl import logging
from tfx import v1 as tfx


@tfx.dsl.components.component
def CheckpointRemoval(  # noqa: N802 (a component is named like a class)
    pushed_model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.PushedModel],
    finished: tfx.dsl.components.Parameter[str],
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Removes the folders of finished trainings; unfinished trainings can still be resumed.

    Args:
        pushed_model: The output of the Pusher. Before the push, a model may have to be exported
            again.
        finished: Pattern of the files that mark their folder as that of a finished training.
        code_version: Version of this code; part of the cache key.
    """
    for marker in glob.glob(finished):
        folder = os.path.dirname(marker)
        shutil.rmtree(folder, ignore_errors=True)
        logging.info('%s is pushed: %s is removed.', pushed_model.uri, folder)
