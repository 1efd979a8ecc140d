"""`make kubeflow-run` against a server that speaks Kubeflow Pipelines' REST interface."""

import subprocess
import sys

import outer_environment
import pytest
import yaml
from kfp_server import kfp_server
from troubles import assert_printed

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


def test_preset_that_sets_what_is_fixed_is_refused(root, compiled):
    with kfp_server(_SUCCEEDED) as server:
        done = submit(root, compiled, server.url, PRESET='cifar10')
        assert done.returncode == 1
        assert done.stderr == (
            f'Wrong setting: PRESET is cifar10, which sets DATASET=cifar10, but {compiled} was '
            'compiled with DATASET=mnist: it cannot be changed for one run, so compile again with '
            '`make kubeflow PRESET=cifar10`\n'
        )
        done = submit(root, compiled, server.url, CAPSNET_PRESET='efficient')
        assert 'PRESET is efficient, which sets NETWORK=efficient_capsnet, but' in done.stderr
        assert not server.runs


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
