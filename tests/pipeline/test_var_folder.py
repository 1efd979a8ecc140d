"""A folder VAR that is moved or copied, with real records in ML Metadata."""

import os

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from pipeline import configs, metadata, var_folder
from pipeline.exclusive_runner import ExclusiveRunner

# Where the project was when these were recorded.
OLD = '/old/project/var'
MODEL = 'pipeline_root/capsnet-tiny/Trainer/model/7'
BLESSING = 'pipeline_root/capsnet-tiny/Evaluator/blessing/9'
VERSION = 'serving_model/capsnet-tiny/1795657033'


@pytest.fixture
def config(tmp_path):
    """Of a folder that holds a model, its blessing and its pushed version."""
    for folder in (MODEL, BLESSING, VERSION):
        (tmp_path / 'var' / folder).mkdir(parents=True)
    return configs.from_preset('tiny', var=str(tmp_path / 'var'))


def record(config, kind, uri, **properties):
    """Records an artifact of the pipeline as a run does; gives its id."""
    artifact = kind()
    artifact.uri = uri
    for name, value in properties.items():
        artifact.set_string_custom_property(name, value)
    with Metadata(metadata.connection_config(config)) as handle:
        store = handle.store
        artifact.type_id = store.put_artifact_type(artifact.artifact_type)
        (identifier,) = store.put_artifacts([artifact.mlmd_artifact])
        kind = store.put_context_type(metadata_store_pb2.ContextType(name='pipeline'))
        name = config.pipeline_name
        pipeline = store.get_context_by_type_and_name('pipeline', name)
        if pipeline is None:
            context = metadata_store_pb2.Context(type_id=kind, name=name)
            (pipeline_id,) = store.put_contexts([context])
        else:
            pipeline_id = pipeline.id
        attribution = metadata_store_pb2.Attribution(artifact_id=identifier, context_id=pipeline_id)
        store.put_attributions_and_associations([attribution], [])
    return identifier


def recorded(config, identifier):
    with Metadata(metadata.connection_config(config)) as handle:
        (artifact,) = handle.store.get_artifacts_by_id([identifier])
    return artifact


def test_records_of_a_folder_that_was_moved_lead_to_where_it_is_now(config):
    model = record(config, standard_artifacts.Model, f'{OLD}/{MODEL}')
    blessing = record(
        config,
        standard_artifacts.ModelBlessing,
        f'{OLD}/{BLESSING}',
        current_model=f'{OLD}/{MODEL}',
    )
    pushed = record(
        config,
        standard_artifacts.PushedModel,
        f'{OLD}/pipeline_root/capsnet-tiny/Pusher/pushed_model/12',
        pushed_destination=f'{OLD}/{VERSION}',
    )
    var_folder.relocate(config)
    assert recorded(config, model).uri == MODEL
    assert recorded(config, blessing).uri == BLESSING
    properties = recorded(config, blessing).custom_properties
    assert properties['current_model'].string_value == MODEL
    # Its own folder has not come along, but the version that it stands for.
    assert recorded(config, pushed).uri.startswith(OLD)
    properties = recorded(config, pushed).custom_properties
    assert properties['pushed_destination'].string_value == VERSION
    assert var_folder.located(VERSION, config) == os.path.join(config.var, VERSION)
    # There is nothing to do any more, in this place or in another one.
    before = recorded(config, model)
    var_folder.relocate(config)
    assert recorded(config, model) == before


def test_a_run_begins_with_it(config):
    model = record(config, standard_artifacts.Model, f'{OLD}/{MODEL}')
    connection = metadata.connection_config(config)
    nothing = Pipeline(config.pipeline_name, config.pipeline_root, connection)
    ExclusiveRunner(config).run(nothing)
    assert recorded(config, model).uri == MODEL


def test_a_copy_takes_its_own_files_and_not_those_of_the_original(config, tmp_path):
    original = tmp_path / 'original'
    only_there = 'pipeline_root/capsnet-tiny/Trainer/model/3'
    for folder in (MODEL, only_there):
        (original / folder).mkdir(parents=True)
    model = record(config, standard_artifacts.Model, f'{original}/{MODEL}')
    other = record(config, standard_artifacts.Model, f'{original}/{only_there}')
    var_folder.relocate(config)
    assert recorded(config, model).uri == MODEL
    assert recorded(config, other).uri == f'{original}/{only_there}'


def test_what_lies_in_buckets_or_belongs_to_another_pipeline_stays(config):
    bucket = f'gs://bucket/{MODEL}'
    uri = f'{OLD}/{MODEL}'
    in_bucket = record(config, standard_artifacts.Model, bucket)
    others = configs.from_preset('tiny', var=config.var, pipeline_name='other')
    of_other = record(others, standard_artifacts.Model, uri)
    mine = record(config, standard_artifacts.Model, uri)
    root_in_bucket = configs.from_preset('tiny', var=config.var, pipeline_root='gs://bucket/runs')
    var_folder.relocate(root_in_bucket)
    assert recorded(config, mine).uri == uri
    var_folder.relocate(config)
    assert recorded(config, in_bucket).uri == bucket
    assert recorded(config, of_other).uri == uri
    assert recorded(config, mine).uri == MODEL


def test_pipeline_root_outside_var_is_found_where_the_setting_has_it(config, tmp_path):
    root = tmp_path / 'elsewhere'
    (root / 'Trainer' / 'model' / '7').mkdir(parents=True)
    elsewhere = configs.from_preset('tiny', var=config.var, pipeline_root=str(root))
    absolute = record(config, standard_artifacts.Model, '/before/Trainer/model/7')
    var_folder.relocate(elsewhere)
    assert recorded(config, absolute).uri == f'{root}/Trainer/model/7'
    # And back into VAR.
    var_folder.relocate(config)
    assert recorded(config, absolute).uri == MODEL


def test_without_records_there_is_nothing_to_do(config):
    var_folder.relocate(config)
    assert not os.path.exists(config.metadata_path)
    record(
        configs.from_preset('tiny', var=config.var, pipeline_name='other'),
        standard_artifacts.Model,
        f'{OLD}/{MODEL}',
    )
    var_folder.relocate(config)


def test_inside_var_paths_are_relative_and_others_as_they_were(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = configs.from_preset(
        'tiny',
        var=config.var,
        schema_file='own.pbtxt',
        network='ensemble',
        members=f'{config.var}/{VERSION},elsewhere/1',
    )
    with var_folder.entered(own) as inside:
        assert os.getcwd() == config.var
        assert inside.data_dir == 'data'
        assert inside.pipeline_root == 'pipeline_root/ensemble-tiny'
        assert inside.members == (VERSION, str(tmp_path / 'elsewhere' / '1'))
        assert os.path.abspath(inside.metadata_path) == config.metadata_path
        assert inside.schema_file == str(tmp_path / 'own.pbtxt')
    assert os.getcwd() == str(tmp_path)
    for root in ('gs://bucket/runs', str(tmp_path / 'elsewhere'), f'{config.var}-2'):
        other = configs.from_preset('tiny', var=config.var, pipeline_root=root)
        with var_folder.entered(other) as inside:
            assert (inside.pipeline_root, inside.schema_file) == (root, '')
    # Beam's workers on other machines do not work in VAR.
    portable = '--runner=PortableRunner --job_endpoint=localhost:1'
    for beam_args, relative in (
        ('--runner=DirectRunner --direct_running_mode=multi_processing', True),
        (f'{portable} --environment_type=LOOPBACK', True),
        (portable, False),
        ('--runner FlinkRunner', False),
    ):
        other = configs.from_preset('tiny', var=config.var, beam_args=beam_args)
        with var_folder.entered(other) as inside:
            assert (inside.data_dir == 'data') is relative, beam_args
            assert os.path.abspath(inside.data_dir) == config.data_dir
    model = record(config, standard_artifacts.Model, MODEL)
    var_folder.relocate(other)
    assert recorded(config, model).uri == f'{config.var}/{MODEL}'
    assert var_folder.located('gs://bucket/runs/1', config) == 'gs://bucket/runs/1'
    assert var_folder.located('/elsewhere/1', config) == '/elsewhere/1'
