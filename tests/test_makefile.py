"""What make does with variables on its command line and in the environment."""

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess

import outer_environment
import pytest
import tensorflow as tf
from project_paths import ROOT
from rest_server import request
from saved_models import half_plus_two
from troubles import assert_printed

from components import request_log
from pipeline import configs
from serving import config_files

_EXPORT = (
    '{0} does not belong on a command line, which others on this machine can see: use '
    '`export {0}=...`\n'
)


@pytest.fixture
def copy(tmp_path):
    """The Makefile alone, in a folder with a name that a shell has to quote."""
    folder = tmp_path / "it's a copy"
    (folder / 'tools').mkdir(parents=True)
    shutil.copy(ROOT / 'Makefile', folder)
    _program(folder / 'tools' / 'setup.sh', 'exit 0')
    return folder


def _program(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)


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
        (['settings', 'METADATA_PASSWORD=x'], _EXPORT.format('METADATA_PASSWORD')),
        (
            ['settings', 'OMP_NUM_THREADS=2'],
            'There is no setting OMP_NUM_THREADS; `make settings` lists them. Export what another '
            'program reads: `export OMP_NUM_THREADS=...`\n',
        ),
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
    kinds = {'did you mean': 'no setting', 'no variable': 'no variable', 'Wrong': 'wrong value'}
    for kind in (kind for part, kind in kinds.items() if part in said):
        assert_printed(kind, said)


@pytest.mark.parametrize(
    ('arguments', 'environment', 'epochs'),
    [
        (['EPOCHS=5'], {}, 5),
        (['EPOCHS=5'], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 5),
        (['CAPSNET_EPOCHS=5'], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 5),
        ([], {'EPOCHS': '6'}, 6),
        ([], {'EPOCHS': '6', 'CAPSNET_EPOCHS': '7'}, 7),
        (
            [
                *('EPOCHS=5', 'PYTHON=python3', 'SHELL=/bin/sh', 'CXX=c++'),
                *('TF_CPP_MIN_LOG_LEVEL=0', 'HTTPS_PROXY=http://proxy:1'),
            ],
            {},
            5,
        ),
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


def test_what_is_kept_of_requests_has_no_pictures_if_nobody_wants_them(root, tmp_path):
    config = configs.from_preset('quick', var=str(tmp_path))
    half_plus_two(config.serving_model_dir)
    models = tmp_path / 'serving_config' / config.pipeline_name / 'models.config'
    models.parent.mkdir(parents=True)
    models.write_text(
        f'model_config_list {{ config {{ name: "half" base_path: "{config.serving_model_dir}" '
        'model_platform: "tensorflow" } }'
    )
    with subprocess.Popen(
        ['make', '-s', 'serve', f'VAR={tmp_path}', 'PORT=0', 'LOG_REQUESTS=1', 'LOG_IMAGES=no'],
        cwd=root,
        env=outer_environment.without_settings(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            *_, said = itertools.islice(process.stdout, 2)
            url = said.split()[-1]
            body = b'{"instances": [1.0]}'
            assert request('POST', f'{url}:predict', body)[0] == 200
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # make, its shell and the server
            process.communicate(timeout=60)  # the server ends last
    ((_, _, kept),) = request_log.read(config.request_log_dir)
    assert not kept.predict_log.request.inputs
    assert tf.make_ndarray(kept.predict_log.response.outputs['y']) == [2.5]


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


def test_requests_are_kept_in_a_folder_with_an_apostrophe(copy):
    requests = f"{copy}/it's here/requests"
    config = copy / 'var' / 'serving_config' / 'capsnet' / 'request_log.config'
    config.parent.mkdir(parents=True)
    assigned = {'pipeline_name': 'capsnet', 'serving_model_dir': '/models', 'var': f'{copy}/var'}
    lines = [
        f'{name}={shlex.quote(text)}'
        for name, text in {**assigned, 'request_log_dir': requests}.items()
    ]
    (copy / 'assigned').write_text('\n'.join(lines))
    _program(copy / '.venv/bin/python', 'case $* in *pipeline.configs*) cat assigned;; esac')
    done = _make(copy, 'serve', 'LOG_REQUESTS=0.25')
    assert done.returncode == 0, done.stderr
    assert config_files.read_request_log_config(str(config)) == (0.25, f'{requests}/requests')


@pytest.mark.parametrize('blow', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_leaves_no_folder(copy, tmp_path, blow):
    _program(copy / '.venv/bin/python', 'case $* in *benchmarks*) echo up; exec sleep 60;; esac')
    (tmp_path / 'temporary').mkdir()
    process = subprocess.Popen(
        ['make', '-s', 'bench', f'SHELL={shutil.which("dash") or "/bin/sh"}'],
        cwd=copy,
        env={**outer_environment.without_settings(), 'TMPDIR': str(tmp_path / 'temporary')},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line == 'up\n':
            break
    assert len(os.listdir(tmp_path / 'temporary')) == 1
    os.killpg(process.pid, blow)
    process.communicate(timeout=30)
    assert process.returncode
    assert os.listdir(tmp_path / 'temporary') == []


def test_the_other_line_is_tested_where_it_can_be(copy):
    """Nothing runs before it is known that it can; then each line leaves its results."""
    run = '{ printf "<%s>" "$0" "$@"; echo; } >>ran'
    for name in ('python', 'pytest'):
        _program(copy / '.venv/bin' / name, run)
    _program(copy / 'tools/trixie.sh', 'echo "Debian 13 failed: only root can." >&2; exit 1')
    refused = _make(copy, 'test-trixie')
    assert refused.stderr.startswith('Debian 13 failed: only root can.\n')
    assert not (copy / 'ran').exists()
    # As that one, it hands none of make's own variables on.
    inside = 'unset MAKEFLAGS MAKEOVERRIDES; exec "$@"'
    _program(copy / 'tools/trixie.sh', f'[ "$1" = --check ] || {{ {inside}; }}')
    done = _make(copy, 'test-trixie', 'DEBIAN_MIRROR=http://mirror')
    assert done.returncode == 0, done.stderr
    results = 'tests/support/line_results.py'
    shared = f'{copy}/.trixie/shared'
    python, pytest_ = f'<{copy}/.venv/bin/python>', f'<{copy}/.venv/bin/pytest>'
    lines = (copy / 'ran').read_text().splitlines()
    assert lines[0] == f'{python}<{results}><{shared}/outside>'
    assert lines[1].startswith(f'{pytest_}<-m><not slow>')
    left_out = re.findall('<--ignore=([^>]+)>', lines[1])
    assert left_out
    assert [path for path in left_out if not (ROOT / path).exists()] == []
    assert lines[2] == f'{python}<{results}><{shared}/inside>'
    assert lines[3] == f'{pytest_}<tests/e2e/test_other_line.py>'
