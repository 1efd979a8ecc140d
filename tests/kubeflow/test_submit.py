"""`make kubeflow-run` against a server that speaks Kubeflow Pipelines' REST interface."""

import logging
import subprocess
import sys
import time

import kfp
import kfp_server_api
import outer_environment
import pytest
import yaml
from kfp_server import kfp_server
from troubles import assert_printed

from kubeflow.submit import Compiled, SubmissionError, follow, main

_FIXED = [
    {'name': 'NETWORK', 'value': 'capsnet'},
    {'name': 'DATASET', 'value': 'mnist'},
    {'name': 'DATASET_VERSION', 'value': '3.0.1'},
    {'name': 'TUNER', 'value': 'no'},
]
_FILE = {
    'pipelineInfo': {'name': 'capsnet'},
    'root': {
        'inputDefinitions': {
            'parameters': {
                'preset': {'defaultValue': 'quick', 'isOptional': True, 'parameterType': 'STRING'},
                'epochs': {'defaultValue': '', 'isOptional': True, 'parameterType': 'STRING'},
            }
        },
        'dag': {
            'tasks': {
                'prepare-dataset': {'taskInfo': {'name': 'PrepareDataset'}},
                'tfds-example-gen': {'taskInfo': {'name': 'TfdsExampleGen'}},
                'evaluation-gate': {'taskInfo': {'name': 'EvaluationGate'}},
            }
        },
    },
    'deploymentSpec': {
        'executors': {'exec-prepare-dataset': {'container': {'env': _FIXED, 'image': 'capsnet'}}}
    },
}

_RUNNING = ('RUNNING', {'prepare-dataset': 'SUCCEEDED', 'tfds-example-gen': 'RUNNING'})
_TWO_DONE = {
    'root': 'RUNNING',
    'prepare-dataset-driver': 'SUCCEEDED',
    'prepare-dataset': 'SUCCEEDED',
    'tfds-example-gen': 'SUCCEEDED',
}
_SUCCEEDED = ('SUCCEEDED', {**_TWO_DONE, 'evaluation-gate': 'SUCCEEDED'})
_FAILED = ('FAILED', {**_TWO_DONE, 'evaluation-gate': 'FAILED'})


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp('compiled') / 'capsnet.yaml'
    path.write_text(yaml.safe_dump(_FILE))
    return path


def submit(root, compiled, host, **settings):
    return subprocess.run(
        [
            *(sys.executable, '-m', 'kubeflow.submit', f'--host={host}'),
            *(f'--compiled={compiled}', '--interval=0.1'),
        ],
        cwd=root,
        env={
            **outer_environment.without_settings(),
            'PYTHONWARNINGS': 'ignore',
            'VAR': 'var',
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def end(compiled, monkeypatch):
    """Submits in this process; gives the sentence with which it ends."""
    monkeypatch.setattr(logging, 'disable', lambda level: None)

    def submit_here(host, *options, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        arguments = ['submit', f'--host={host}', f'--compiled={compiled}', *options]
        monkeypatch.setattr(sys, 'argv', arguments)
        try:
            main()
        except SystemExit as ended:
            return ended.code
        return 'It has succeeded.'

    return submit_here


def test_run_is_followed_to_its_end(root, compiled):
    with kfp_server(('PENDING', {}), _RUNNING, _SUCCEEDED) as server:
        done = submit(root, compiled, server.url, EPOCHS='3')
        assert (done.returncode, done.stderr) == (0, '')
        assert done.stdout.splitlines() == [
            f'Started: {server.url}/#/runs/details/run-0',
            '[ 1/3] PrepareDataset     1 min 5 s',
            '[ 2/3] TfdsExampleGen     1 min 5 s',
            '[ 3/3] EvaluationGate     1 min 5 s',
            'The run has succeeded.',
        ]
        (run,) = server.runs
        assert run['runtime_config']['parameters'] == {'epochs': '3'}
        (version,) = server.versions
        assert run['pipeline_version_reference'] == {
            'pipeline_id': 'pipeline-0',
            'pipeline_version_id': version,
        }
        assert server.files == [[_FILE], [_FILE]]  # the pipeline, and its version

        # The same file is not uploaded again.
        done = submit(root, compiled, server.url, PRESET='paper')
        assert done.returncode == 0, done.stderr
        assert len(server.files) == 2
        assert server.runs[1]['runtime_config']['parameters'] == {'preset': 'paper'}


def test_failed_run_ends_in_a_sentence(root, compiled):
    with kfp_server(_RUNNING, _FAILED) as server:
        done = submit(root, compiled, server.url)
    assert done.returncode == 1
    assert '[ 3/3] EvaluationGate     failed' in done.stdout
    assert done.stderr == 'The run ended with FAILED at EvaluationGate; its log says why\n'


def test_what_is_fixed_in_the_file_is_refused(root, compiled):
    with kfp_server(_SUCCEEDED) as server:
        done = submit(root, compiled, server.url, TUNER='yes')
        assert done.returncode == 1
        assert done.stderr == (
            f"Wrong setting: TUNER is 'yes', but {compiled} was compiled with 'no': it cannot be "
            'changed for one run, so compile again with `make kubeflow`\n'
        )
        done = submit(root, compiled, server.url, DATASET='mnist:3.0.0')
        assert done.stderr.startswith(
            f"Wrong setting: DATASET_VERSION is '3.0.0', but {compiled} was compiled with '3.0.1'"
        )
        done = submit(root, compiled, server.url, EPOCHS='many')
        assert done.stderr == "Wrong setting: EPOCHS is 'many': it must be a whole number\n"
        assert not server.runs


def test_preset_that_sets_what_is_fixed_is_refused(compiled, end):
    with kfp_server(_SUCCEEDED) as server:
        assert end(server.url, PRESET='cifar10') == (
            f'Wrong setting: PRESET is cifar10, which sets DATASET=cifar10, but {compiled} was '
            'compiled with DATASET=mnist: it cannot be changed for one run, so compile again with '
            '`make kubeflow PRESET=cifar10`'
        )
        refused = end(server.url, CAPSNET_PRESET='efficient')
        assert 'PRESET is efficient, which sets NETWORK=efficient_capsnet, but' in refused
        assert not server.runs


def test_each_namespace_gets_the_file_once(end):
    with kfp_server(_SUCCEEDED) as server:
        server.multi_user = True
        for namespace in ('mine', 'mine', 'other'):
            assert end(server.url, f'--namespace={namespace}') == 'It has succeeded.'
        assert [*server.pipelines.values()] == [('mine', 'capsnet'), ('other', 'capsnet')]
        assert len(server.files) == 4  # twice a pipeline and its version
        used = [run['pipeline_version_reference']['pipeline_id'] for run in server.runs]
        assert used == ['pipeline-0', 'pipeline-0', 'pipeline-1']


_LOG_IN = 'if it wants you to log in, give it your token with `export KFP_TOKEN=...`'


@pytest.mark.parametrize('options', [[], ['--namespace=mine']])
def test_wrong_servers_end_in_a_sentence(end, options):
    with kfp_server(_SUCCEEDED) as server:
        for page in (b'<html>Log in to your account</html>', b'<html>Anmeldung f\xfcr dich'):
            server.instead = (200, 'text/html', page)
            assert end(server.url, *options) == (
                f'{server.url} does not answer as Kubeflow Pipelines does; {_LOG_IN}, or name '
                'another address as HOST'
            )
        server.instead = (403, 'text/plain', b'RBAC: access denied')
        assert end(server.url, *options) == (
            f'Kubeflow Pipelines at {server.url} refused: 403 Forbidden; {_LOG_IN}, and add '
            'NAMESPACE=...'
        )


def test_what_a_server_for_several_users_needs(end):
    with kfp_server(_SUCCEEDED) as server:
        server.multi_user = True
        assert end(server.url) == (
            f'Kubeflow Pipelines at {server.url} is for several users: add your namespace, such '
            'as NAMESPACE=my-profile'
        )
        assert 'KFP_TOKEN has a character' in end(server.url, KFP_TOKEN='a\nb')
        assert end(server.url, '--namespace=mine', KFP_TOKEN='a.b-c_d\n') == 'It has succeeded.'
        assert server.tokens == {'Bearer a.b-c_d'}
    assert end('localhost:8080').startswith("HOST is 'localhost:8080': it must begin with http")


def test_run_whose_server_wants_a_new_login_is_no_longer_followed(compiled, monkeypatch):
    monkeypatch.setattr('kubeflow.submit._FAILED_LOOKS', 3)
    waits = iter(range(5))
    monkeypatch.setattr(time, 'sleep', lambda seconds: next(waits))
    with kfp_server(_SUCCEEDED) as server:
        server.instead = (200, 'text/html', b'<html>Log in</html>')
        client = kfp.Client(server.url, namespace='mine')
        with pytest.raises(kfp_server_api.ApiValueError):
            follow(client, Compiled(compiled), 'run-0', interval=5)
    assert next(waits) == 2


@pytest.mark.parametrize(
    'damage',
    [
        lambda whole: b'',
        lambda whole: b'# only a comment\n',
        lambda whole: b'text',
        lambda whole: whole[:50],
        lambda whole: b'a: [',
        lambda whole: b'a: \x00',
        lambda whole: b'\xff\xfe\xff',
        lambda whole: whole.replace(b'executors', b'x'),
        lambda whole: whole.replace(b'env:', b'env: 3\n          y:'),
    ],
)
def test_file_that_is_damaged(compiled, tmp_path, damage):
    path = tmp_path / 'damaged.yaml'
    path.write_bytes(damage(compiled.read_bytes()))
    with pytest.raises(SubmissionError, match='is empty or damaged, or not a compiled'):
        Compiled(path)


def test_server_or_file_that_is_not_there(root, compiled, tmp_path):
    with kfp_server(_SUCCEEDED) as server:
        gone = server.url
        done = submit(root, tmp_path / 'none.yaml', server.url)
        assert done.returncode == 1
        assert_printed('not compiled', done.stderr)
    done = submit(root, compiled, gone)
    assert done.returncode == 1
    assert done.stderr.startswith(f'Kubeflow Pipelines cannot be reached at {gone}')
    assert 'Traceback' not in done.stderr
