"""The workflow that runs all checks on a forge."""

import re
import subprocess

import pytest
import yaml
from project_paths import ROOT

_FILE = ROOT / '.github' / 'workflows' / 'ci.yml'
_CHECK = ROOT / '.venv-docs' / 'bin' / 'check-jsonschema'


def test_it_runs_all_checks_with_actions_of_one_version():
    workflow = yaml.safe_load(_FILE.read_text())
    steps = [step for job in workflow['jobs'].values() for step in job['steps']]
    assert [step for step in steps if step.get('run') == 'bash .ci/run']
    assert (ROOT / '.ci' / 'run').exists()
    actions = [step['uses'] for step in steps if 'uses' in step]
    assert actions
    for action in actions:
        assert re.fullmatch(r'[\w-]+/[\w-]+@v\d+\.\d+\.\d+', action)


@pytest.mark.slow
@pytest.mark.parametrize(('found', 'put', 'is_valid'), [('', '', True), ('steps:', 'step:', False)])
def test_it_is_of_the_form_that_the_forge_reads(tmp_path, found, put, is_valid):
    if not _CHECK.exists():
        pytest.skip('make setup-docs installs what this test needs')
    workflow = tmp_path / 'ci.yml'
    workflow.write_text(_FILE.read_text().replace(found, put))
    command = [_CHECK, '--builtin-schema', 'vendor.github-workflows', workflow]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == is_valid, done.stdout
