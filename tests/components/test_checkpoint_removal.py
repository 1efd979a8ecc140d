"""After a push the checkpoints of finished trainings go, those of others stay."""

import os

from tfx.types import standard_artifacts

from capsmodel.training import checkpoints
from components.checkpoint_removal import CheckpointRemoval


def test_finished_trainings_are_removed_and_others_stay(tmp_path):
    for name in ('finished', 'killed'):
        training = checkpoints.Checkpoints(tmp_path / name)
        with training.locked():
            (tmp_path / name / 'step-00000001').mkdir()
    checkpoints.Checkpoints(tmp_path / 'finished').finish()
    (tmp_path / 'request.json').write_text('{}')
    CheckpointRemoval.EXECUTOR_SPEC.executor_class({}).Do(
        {'pushed_model': [standard_artifacts.PushedModel()]},
        {},
        {
            'finished': os.path.join(tmp_path, '*', checkpoints.FINISHED),
            'code_version': '',
        },
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ['killed', 'request.json']
    assert (tmp_path / 'killed' / 'step-00000001').is_dir()
