"""What make does with variables on its command line and in the environment."""

import subprocess

import outer_environment
import pytest
from troubles import assert_printed


def _make(root, *arguments, **environment):
    return subprocess.run(
        ['make', '-s', *arguments],
        cwd=root,
        env={**outer_environment.without_settings(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['run', 'EPOCH=5'], 'There is no setting EPOCH; did you mean EPOCHS?\n'),
        (
            ['settings', 'CAPSNET_SED=5'],
            'There is no setting CAPSNET_SED; did you mean CAPSNET_SEED?\n',
        ),
        (['predict', 'IMAG=7.png'], 'There is no setting IMAG; did you mean IMAGE?\n'),
        (['predict', 'IMAGE=7.png', 'HOST=x'], 'make predict has no variable HOST.\n'),
        (
            ['run', 'EPOCHS=none'],
            "Wrong setting: EPOCHS is 'none': it must be a whole number\n",
        ),
    ],
)
def test_a_variable_that_the_target_does_not_have_is_refused(root, arguments, said):
    done = _make(root, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count('\n') == 2  # the other line is make's own
    assert done.stdout == ''
    kinds = {'There is': 'no setting', 'make': 'no variable', 'Wrong': 'wrong value'}
    (kind,) = [kind for start, kind in kinds.items() if said.startswith(start)]
    assert_printed(kind, said)


@pytest.mark.parametrize(
    ('arguments', 'environment', 'epochs'),
    [
        (['EPOCHS=5'], {}, 5),
        (['EPOCHS=5'], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 5),
        (['CAPSNET_EPOCHS=5'], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 5),
        ([], {'EPOCHS': '6'}, 6),
        ([], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 7),
        (['EPOCHS=5', 'PYTHON=python3', 'SHELL=/bin/sh'], {}, 5),
    ],
)
def test_the_command_line_wins_over_the_longer_name_and_that_over_the_short_one(
    root, arguments, environment, epochs
):
    done = _make(root, 'settings', *arguments, **environment)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('EPOCHS ')]
    assert line.split()[1] == str(epochs)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['LOG_REQUESTS=2'], "LOG_REQUESTS is '2': it must be the fraction to keep, from 0 to 1"),
        (['LOG_IMAGES=no'], "LOG_REQUESTS is '': it must be the fraction to keep, from 0 to 1"),
        (['LOG_REQUESTS=.5', 'LOG_IMAGES=x'], 'LOG_IMAGES is x: it must be yes or no'),
    ],
)
def test_what_is_kept_of_requests_is_refused_if_wrong(root, tmp_path, arguments, said):
    folder = tmp_path / 'serving_model' / 'capsnet'
    (folder / '1').mkdir(parents=True)
    (folder / '1' / 'saved_model.pb').touch()
    done = _make(root, 'serve', f'VAR={tmp_path}', *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(said)


def test_lineage_is_of_a_version_or_of_data(root, tmp_path):
    both = _make(root, 'lineage', 'VERSION=1', 'DATA=mnist')
    assert both.returncode == 2
    assert both.stderr.startswith('Name VERSION or DATA: ')
    for given in ('VERSION=1', 'DATA=mnist', 'NETWORK=mlp'):
        done = _make(root, 'lineage', given, f'VAR={tmp_path}')
        assert done.returncode == 2
        assert done.stderr.startswith(f'There is no {tmp_path}/metadata/metadata.db, in which ')
        assert done.stderr.count('\n') == 2  # the other line is make's own
        assert ('NETWORK=mlp' in done.stderr) == (given == 'NETWORK=mlp')
