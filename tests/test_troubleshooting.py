"""docs/troubleshooting.md, and the mistakes in it that no other test makes."""

import subprocess

import outer_environment
import pytest
import troubles
from project_paths import ROOT


@pytest.fixture
def make(root, tmp_path):
    """Runs make in the project's folder, or in another one, with a docker that does nothing."""
    docker = tmp_path / 'bin' / 'docker'
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\nexit 1\n')
    docker.chmod(0o755)
    environment = outer_environment.without_settings()

    def run(*arguments, folder=root):
        return subprocess.run(
            ['make', *arguments],
            cwd=folder,
            env={**environment, 'PATH': f'{docker.parent}:{environment["PATH"]}'},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('no picture', ['predict']),
        ('no docker', ['serve-docker']),
        ('no host', ['kubeflow-run']),
        ('other folder', ['trian']),
    ],
)
def test_make_says_in_one_sentence_what_is_wrong(make, name, arguments):
    done = make(*arguments)
    assert done.returncode == 2
    troubles.assert_printed(name, done.stderr)
    own = [line for line in done.stderr.splitlines() if not line.startswith('make: ')]
    assert len(own) == (name != 'other folder')


def test_in_another_folder_make_has_no_such_target(make, tmp_path):
    troubles.assert_printed('other folder', make('run', folder=tmp_path).stderr)


def test_the_page_is_what_the_tests_say():
    assert troubles.PAGE.read_text() == troubles.page()


@pytest.mark.parametrize('name', troubles.TROUBLES)
def test_each_row_is_what_a_test_has_seen(name):
    tests = [path.read_text() for path in (ROOT / 'tests').rglob('test_*.py')]
    assert any('assert_printed(' in text and f"'{name}'" in text for text in tests)
