"""What `make drift` compares with, and that it says in one sentence why it cannot judge."""

import os
import subprocess
import sys

import outer_environment
import pytest
from mlmd_records import Records

from pipeline import configs, drift
from pipeline.lineage.graph import LineageError


@pytest.fixture
def config(tmp_path):
    return configs.from_preset('tiny', var=str(tmp_path))


def _push(records, version, run='run 1', **inputs):
    (raw,) = records.execute('TfdsExampleGen', {}, {'examples': ('Examples', {})}, run=run)
    (transformed,) = records.execute(
        'Transform', {'examples': raw}, {'transformed_examples': ('Examples', {})}, run=run
    )
    (model,) = records.execute(
        'Trainer', {'examples': transformed, **inputs}, {'model': ('Model', {})}, run=run
    )
    (pushed,) = records.execute(
        'Pusher', {'model': model}, {'pushed_model': ('PushedModel', {'pushed_version': version})},
        run=run,
    )  # fmt: skip
    return model, pushed


def test_a_version_is_compared_with_the_raw_pictures_of_its_own_eval_split(config):
    records = Records(config)
    model, _ = _push(records, '9')
    _push(records, '10', 'run 2', base_model=model)  # a warm start
    for version, run in (('9', 'run 1'), ('10', 'run 2')):
        folder = os.path.join(config.var, config.pipeline_name, 'TfdsExampleGen', 'examples', run)
        assert drift.pattern(config, version) == os.path.join(folder, 'Split-eval', '*')


def test_a_version_whose_data_are_not_recorded_is_said(config):
    records = Records(config)
    pushed = {'pushed_model': ('PushedModel', {'pushed_version': '9'})}
    records.execute('Pusher', {}, pushed)
    for version in ('9', '10'):
        with pytest.raises(LineageError, match=f'does not know which data version {version} of'):
            drift.pattern(config, version)


def _drift(root, var, *arguments, **settings):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'pipeline.drift', *arguments],
        cwd=root,
        env={**outer_environment.without_settings(), 'VAR': str(var), **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_it_cannot_judge_ends_with_2_and_a_sentence(root, tmp_path):
    done = _drift(root, tmp_path, PRESET='enormous')
    assert (done.returncode, done.stderr.startswith('Wrong setting: PRESET')) == (2, True)
    done = _drift(root, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f'No model is pushed to {tmp_path}/serving_model/capsnet.\n')
    os.makedirs(tmp_path / 'serving_model' / 'capsnet' / '5')
    done = _drift(root, tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f'No request was kept in {tmp_path}/requests/capsnet. To keep what is asked: '
        f'make serve VAR={tmp_path} LOG_REQUESTS=1\n'
    )
