"""Nodes of the pipeline, each launched by itself, on small data and with ML Metadata in a file."""

import dataclasses
import pathlib
import re
import subprocess
import sys
import time

import outer_environment
import pytest
import tfds_data
from ml_metadata.proto import metadata_store_pb2
from tfx.components.schema_gen.import_schema_gen import executor
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib

from capsmodel.training.errors import Diverged
from components.gate import GateRefused
from pipeline import configs, console, metadata, run_node

COMPLETE = metadata_store_pb2.Execution.COMPLETE
FAILED = metadata_store_pb2.Execution.FAILED

_BEFORE_THE_GATE = ('ExampleValidator', 'SplitComparison', 'EarlierStatistics', 'RunComparison')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    var = tmp_path_factory.mktemp('var')
    config = configs.from_preset(
        'tiny',
        var=str(var),
        train_split='train[:60]',
        eval_split='train[60:]',
        test_split='test',
        min_test_images=30,
    )
    tfds_data.write_dataset(
        config.data_dir,
        {
            'train': tfds_data.synthetic_images(100, seed=1),
            'test': tfds_data.synthetic_images(30, seed=2),
        },
    )
    return config


def _executions(config, node_id, run_id):
    """Those of a node in a run, and the files of their outputs."""
    connection = tfx_metadata.Metadata(metadata.connection_config(config))
    with connection as handle:
        store = handle.store
        run = store.get_context_by_type_and_name('pipeline_run', run_id)
        node = store.get_context_by_type_and_name('node', f'{config.pipeline_name}.{node_id}')
        in_run = {each.id for each in store.get_executions_by_context(run.id)}
        return [each for each in store.get_executions_by_context(node.id) if each.id in in_run]


def test_node_runs_once_in_a_run_and_its_consumers_find_it(config):
    run_node.run(config, 'TfdsExampleGen', 'story')
    run_node.run(config, 'StatisticsGen', 'story')
    (first,) = _executions(config, 'TfdsExampleGen', 'story')
    assert first.last_known_state == COMPLETE
    run_node.run(config, 'TfdsExampleGen', 'story')
    assert _executions(config, 'TfdsExampleGen', 'story') == [first]
    (statistics,) = _executions(config, 'StatisticsGen', 'story')
    assert statistics.last_known_state == COMPLETE


def test_node_without_its_inputs_fails(config):
    with pytest.raises(console.NodeFailed, match=r'^StatisticsGen has no results: .*[Ii]nput'):
        run_node.run(config, 'StatisticsGen', 'nothing before')
    (execution,) = _executions(config, 'StatisticsGen', 'nothing before')
    assert execution.last_known_state == FAILED
    # What was missing has come, and the node is started again.
    run_node.run(config, 'TfdsExampleGen', 'nothing before')
    run_node.run(config, 'StatisticsGen', 'nothing before')
    (again,) = _executions(config, 'StatisticsGen', 'nothing before')
    assert again.id == execution.id
    assert again.last_known_state == metadata_store_pb2.Execution.CACHED


def test_killed_attempt_leaves_nothing_in_the_results_of_the_next(config):
    ir = run_node.compiled(config, 'killed')
    (node,) = [
        each.pipeline_node
        for each in ir.nodes
        if each.pipeline_node.node_info.id == 'ImportSchemaGen'
    ]
    # As the launcher leaves it when its process dies while the executor runs.
    with tfx_metadata.Metadata(metadata.connection_config(config)) as handle:
        execution = execution_publish_utils.register_execution(
            handle, node.node_info.type, context_lib.prepare_contexts(handle, node.contexts)
        )
    folder = pathlib.Path(config.pipeline_root, 'ImportSchemaGen', 'schema', str(execution.id))
    folder.mkdir(parents=True)
    (folder / 'half').write_text('written')

    run_node.run(config, 'ImportSchemaGen', 'killed')
    (done,) = _executions(config, 'ImportSchemaGen', 'killed')
    assert done.id == execution.id
    assert done.last_known_state == COMPLETE
    assert [path.name for path in folder.iterdir()] == ['schema.pbtxt']


def test_refusal_is_remembered(config, tmp_path):
    curated = pathlib.Path(next(pathlib.Path(config.schema_dir).glob('*/schema.pbtxt')))
    spoiled = tmp_path / 'schema.pbtxt'
    spoiled.write_text(re.sub(r'max: 9\b', 'max: 8', curated.read_text()))
    changed = configs.from_environment(
        {
            'PRESET': 'tiny',
            'VAR': config.var,
            'SCHEMA_FILE': str(spoiled),
            'TRAIN_SPLIT': config.train_split,
            'EVAL_SPLIT': config.eval_split,
            'TEST_SPLIT': 'test[:8]',
            'MIN_TEST_IMAGES': '8',
        }
    )
    for node in ('TfdsExampleGen', 'StatisticsGen', 'ImportSchemaGen', *_BEFORE_THE_GATE):
        run_node.run(changed, node, 'refused')
    # Of ten classes, eight images show eight at most.
    both = r"feature 'label'.* test has none of class \d, \d"
    with pytest.raises(GateRefused, match=both) as first:
        run_node.run(changed, 'AnomalyGate', 'refused')
    (execution,) = _executions(changed, 'AnomalyGate', 'refused')
    assert execution.last_known_state == FAILED
    with pytest.raises(GateRefused) as second:
        run_node.run(changed, 'AnomalyGate', 'refused')
    assert str(second.value) == str(first.value)
    assert _executions(changed, 'AnomalyGate', 'refused') == [execution]
    # Another run asks the gate again.
    run_node.run(config, 'ImportSchemaGen', 'story')
    for node in (*_BEFORE_THE_GATE, 'AnomalyGate'):
        run_node.run(config, node, 'story')


def test_training_that_diverged_is_not_tried_again(config, monkeypatch):
    # In a pipeline of its own, where nothing is in the cache.
    config = dataclasses.replace(config, pipeline_name='diverging')

    def diverge(*_):
        raise Diverged('The loss is nan at step 3')

    # Any node's executor is one that may raise it, and this one needs no other node.
    monkeypatch.setattr(executor.Executor, 'Do', diverge)
    with pytest.raises(Diverged, match='The loss is nan at step 3'):
        run_node.run(config, 'ImportSchemaGen', 'diverged')
    (execution,) = _executions(config, 'ImportSchemaGen', 'diverged')
    assert execution.last_known_state == FAILED
    monkeypatch.undo()
    with pytest.raises(GateRefused, match=r'^The loss is nan at step 3$'):
        run_node.run(config, 'ImportSchemaGen', 'diverged')
    assert _executions(config, 'ImportSchemaGen', 'diverged') == [execution]


def test_node_that_there_is_not(config):
    with pytest.raises(console.NodeFailed, match='no node Tuner: with these settings it has Imp'):
        run_node.run(config, 'Tuner', 'story')


def _command(var, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, '-m', 'pipeline.run_node', *arguments],
        env={**outer_environment.without_settings(), 'VAR': str(var), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['EPOCHS=0'], "EPOCHS is '0': it must be at least 1"),
        (['EPOCH=1'], 'There is no setting EPOCH; did you mean EPOCHS?'),
        (['epochs=1'], 'There is no setting epochs; did you mean EPOCHS?'),
        (['--run_id={{$.pipeline_job_uuid}}'], "--run_id is '{{$.pipeline_job_uuid}}'"),
    ],
)
def test_wrong_settings_end_in_a_sentence(tmp_path, arguments, sentence):
    with _command(tmp_path, '--node=Pusher', '--run_id=run', *arguments) as process:
        _, error = process.communicate()
    assert process.returncode == 1
    assert error.startswith(f'Wrong setting: {sentence}')
    assert len(error.splitlines()) == 1


def test_preset_that_sets_what_the_compiled_pipeline_has_otherwise_is_refused(tmp_path):
    arguments = ('--node=PrepareDataset', '--run_id=run', 'PRESET=svhn')
    with _command(tmp_path, *arguments, NETWORK='capsnet', DATASET='mnist') as process:
        _, error = process.communicate()
    assert process.returncode == 1
    assert error == (
        'Wrong setting: PRESET is svhn, which sets DATASET=svhn_cropped, but the pipeline was '
        'compiled with DATASET=mnist: it cannot be changed for one run, so compile again with '
        '`make kubeflow PRESET=svhn`\n'
    )


@pytest.mark.parametrize(
    ('preset', 'fixed'),
    [
        ('', {'NETWORK': 'cnn', 'DATASET': 'mnist'}),
        ('quick', {'NETWORK': 'cnn', 'DATASET': 'emnist/digits'}),
        ('cifar10', {'NETWORK': 'capsnet', 'DATASET': 'cifar10'}),
        # Compiled with PRESET=cifar10 DATASET=mnist.
        ('cifar10', {'NETWORK': 'capsnet', 'DATASET': 'mnist', 'PRESET': 'cifar10'}),
        ('cifar10', {'NETWORK': 'capsnet', 'IMAGES': '/pictures', 'PRESET': 'folder'}),
    ],
)
def test_preset_that_fits_the_compiled_pipeline_is_taken(preset, fixed):
    run_node.check_preset(preset, fixed, 'the pipeline')
    with pytest.raises(configs.SettingError, match='NETWORK=efficient_capsnet, but it was'):
        run_node.check_preset('efficient', fixed, 'it')


def test_settings_after_the_options_win_over_both_names_in_the_environment(tmp_path):
    arguments = ('--node=Pusher', '--run_id=run', 'EPOCHS=0')
    with _command(tmp_path, *arguments, EPOCHS='3', CAPSNET_EPOCHS='-1') as process:
        _, error = process.communicate()
    assert error == "Wrong setting: EPOCHS is '0': it must be at least 1\n"


def test_settings_after_the_options_win_and_an_empty_one_says_nothing():
    given = run_node.assignments(['EPOCHS=3', 'SEED=', 'BEAM_ARGS=--runner=a --b=c'])
    assert given == {'EPOCHS': '3', 'BEAM_ARGS': '--runner=a --b=c'}


def test_dataset_is_prepared_and_checked_and_sigterm_ends_in_a_sentence(config, tmp_path):
    with _command(config.var, '--node=PrepareDataset', '--run_id=ready') as process:
        output, error = process.communicate()
    assert output == f'mnist 3.0.1 is ready in {config.data_dir}\n'
    assert process.returncode == 1
    assert error.startswith("mnist cannot be sliced like this: TEST_SPLIT ('test') has 30 images")

    # As no other test has it, so that it is not cached.
    splits = ['TRAIN_SPLIT=train[:59]', 'EVAL_SPLIT=train[60:]', 'TEST_SPLIT=test']
    with _command(
        config.var, '--node=TfdsExampleGen', '--run_id=stopped', *splits, 'MIN_TEST_IMAGES=30'
    ) as process:
        log = pathlib.Path(config.log_dir, 'capsnet-stopped-TfdsExampleGen.log')
        while not (log.exists() and 'Going to run a new execution' in log.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, error = process.communicate()
    assert process.returncode == 1
    assert error == 'Interrupted. Finished nodes are kept: the same command resumes from there.\n'
