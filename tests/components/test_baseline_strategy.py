"""Which model a candidate is compared with."""

import json
import pathlib
import shutil

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.orchestration.metadata import Metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts
from troubles import assert_printed

from components.baseline_strategy import LatestOtherBlessedModelStrategy
from components.gate import BaselineMissing
from pipeline.pipeline import latest_other_blessed_model


@pytest.fixture(autouse=True)
def _in_var(tmp_path, monkeypatch):
    """As in a run, the working directory is the one that paths are relative to."""
    monkeypatch.chdir(tmp_path)


def _model(identifier, **facts):
    model = standard_artifacts.Model()
    model.id = identifier
    model.uri = f'Trainer/model/{identifier}'
    exported = pathlib.Path(model.uri, 'Format-Serving')
    exported.mkdir(parents=True)
    (exported / 'saved_model.pb').touch()
    if facts:
        (exported / 'assets.extra').mkdir()
        (exported / 'assets.extra' / 'model_facts.json').write_text(json.dumps(facts))
    return model


def _infra_blessing(model):
    blessing = standard_artifacts.InfraBlessing()
    blessing.set_int_custom_property('current_model_id', model.id)
    return blessing


def _blessing(identifier, model, blessed=1):
    blessing = standard_artifacts.ModelBlessing()
    blessing.id = identifier
    blessing.set_int_custom_property('blessed', blessed)
    blessing.set_int_custom_property('current_model_id', model.id)
    return blessing


def _baseline(candidate, models, blessings, servable=None):
    resolved = LatestOtherBlessedModelStrategy().resolve_artifacts(
        None,
        {
            **({'candidate': [candidate]} if candidate else {}),
            'model': models,
            'model_blessing': blessings,
            'infra_blessing': [_infra_blessing(m) for m in (servable or models)],
        },
    )
    assert resolved.get('candidate') == (candidate and [candidate])
    assert len(resolved['model']) <= 1
    for key in ('model_blessing', 'infra_blessing'):
        assert len(resolved[key]) == len(resolved['model'])
    return resolved['model'][0].id if resolved['model'] else None


def test_first_model_has_no_baseline_neither_before_nor_after_its_blessing():
    first = _model(1)
    assert _baseline(first, [first], []) is None
    assert _baseline(first, [first], [_blessing(10, first)]) is None


def test_retrained_model_is_compared_with_the_one_before_and_so_is_its_rerun():
    first, second = _model(1), _model(2)
    assert _baseline(second, [first, second], [_blessing(10, first)]) == 1
    assert _baseline(second, [first, second], [_blessing(10, first), _blessing(11, second)]) == 1


def test_without_a_candidate_the_last_blessed_model_is_resolved():
    first, second = _model(1), _model(2)
    blessings = [_blessing(10, first), _blessing(11, second)]
    assert _baseline(None, [first, second], blessings) == 2
    assert _baseline(None, [], []) is None


def test_rejected_model_is_no_baseline():
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(10, first), _blessing(11, second, blessed=0)]
    assert _baseline(third, [first, second, third], blessings) == 1


def test_the_latest_blessing_counts_not_the_latest_model():
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(12, first), _blessing(11, second), _blessing(10, first)]
    assert _baseline(third, [third, second, first], blessings) == 1


def test_blessing_of_a_model_that_is_gone_is_passed_over():
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(10, first), _blessing(11, second)]
    assert _baseline(third, [first, third], blessings) == 1


def test_model_that_failed_the_infra_check_is_no_baseline():
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(10, first), _blessing(11, second)]
    assert _baseline(third, [first, second, third], blessings, servable=[first]) == 1


_CATS = {'class_names': ['cat', 'dog'], 'image_shape': [28, 28]}


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'class_names': ['cat', 'dög']}, 'has other classes'),
        ({'class_names': ['cat', 'dog', 'fish']}, 'has other classes'),
        ({'image_shape': [28, 28, 3]}, 'looks at images of 28 x 28 x 3 pixels'),
        ({'network': 'cnn'}, 'is another network, cnn'),
    ],
)
def test_model_of_other_classes_or_images_is_no_baseline(capsys, changes, said):
    first, second, third = _model(1, **_CATS), _model(2, **{**_CATS, **changes}), _model(3, **_CATS)
    assert _baseline(third, [second, third], [_blessing(11, second)]) is None
    assert capsys.readouterr().err == (
        f'  the model is judged by the bounds alone: the last blessed one {said}\n'
    )
    # The last one that can be compared is, also when others were blessed since then.
    blessings = [_blessing(10, first), _blessing(11, second)]
    assert _baseline(third, [first, second, third], blessings) == 1
    # Without a candidate, whoever starts from the model looks at its classes.
    assert _baseline(None, [first, second], blessings) == 2
    assert capsys.readouterr().err == ''


def test_baseline_that_is_gone_stops_the_run_though_others_were_blessed_since_then():
    first, second, third = (
        _model(1, **_CATS),
        _model(2, **{**_CATS, 'image_shape': [32, 32]}),
        _model(3, **_CATS),
    )
    _remove(pathlib.Path(first.uri))
    with pytest.raises(BaselineMissing):
        _baseline(third, [first, second, third], [_blessing(10, first), _blessing(11, second)])


def test_earlier_model_without_facts_is_compared():
    first, second = _model(1), _model(2, **_CATS)
    assert _baseline(second, [first, second], [_blessing(10, first)]) == 1


@pytest.mark.parametrize('gone', ['', 'Format-Serving', 'Format-Serving/saved_model.pb'])
def test_baseline_that_is_gone_stops_the_run_and_no_earlier_one_takes_its_place(tmp_path, gone):
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(10, first), _blessing(11, second)]
    _remove(pathlib.Path(second.uri, gone))
    for candidate in (third, None):
        with pytest.raises(BaselineMissing) as caught:
            _baseline(candidate, [first, second, third], blessings)
        assert f'{tmp_path}/Trainer/model/2/Format-Serving' in str(caught.value)
        assert_printed('no baseline', str(caught.value))


def test_models_before_the_baseline_may_be_removed():
    first, second, third = _model(1), _model(2), _model(3)
    blessings = [_blessing(10, first), _blessing(11, second)]
    _remove(pathlib.Path(first.uri))
    assert _baseline(third, [first, second, third], blessings) == 2
    # A rerun for the second one: it was compared with the first, and the cache has the result.
    assert _baseline(second, [first, second, third], blessings) == 1
    # Blessed before it was, and now compared with what has been blessed since then.
    _remove(pathlib.Path(second.uri))
    with pytest.raises(BaselineMissing):
        _baseline(first, [first, second, third], blessings)


def test_blessings_that_cannot_be_understood_stop_the_run():
    with pytest.raises(BaselineMissing, match=r'cannot be found: KeyError'):
        LatestOtherBlessedModelStrategy().resolve_artifacts(None, {'model': [_model(1)]})


def test_runner_does_not_go_on_without_a_baseline():
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config('metadata.db')
    pipeline = tfx.dsl.Pipeline(
        pipeline_name='capsnet',
        pipeline_root='pipeline_root',
        metadata_connection_config=connection,
        components=[latest_other_blessed_model('WarmStartResolver')],
    )
    model = _model(7)
    with Metadata(connection) as handle:
        store = handle.store
        _publish(handle, model=model)
        (recorded,) = store.get_artifacts_by_type('Model')
        model.id = recorded.id
        _publish(handle, model_blessing=_blessing(0, model))
        _publish(handle, infra_blessing=_infra_blessing(model))
    tfx.orchestration.LocalDagRunner().run(pipeline)
    assert _models_of_last_execution(store) == [model.uri]
    _remove(pathlib.Path(model.uri))
    with pytest.raises(BaselineMissing):
        tfx.orchestration.LocalDagRunner().run(pipeline)


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _publish(handle, **artifacts):
    """Records the results of a node of the pipeline."""
    contexts = [context_lib.register_context_if_not_exists(handle, 'pipeline', 'capsnet')]
    execution = execution_publish_utils.register_execution(
        handle, metadata_store_pb2.ExecutionType(name='node'), contexts
    )
    for artifact in artifacts.values():
        artifact.mlmd_artifact.ClearField('id')
    execution_publish_utils.publish_succeeded_execution(
        handle, execution.id, contexts, {key: [each] for key, each in artifacts.items()}
    )


def _models_of_last_execution(store):
    execution = max(store.get_executions(), key=lambda execution: execution.id)
    events = store.get_events_by_execution_ids([execution.id])
    artifacts = store.get_artifacts_by_id([event.artifact_id for event in events])
    return [artifact.uri for artifact in artifacts if artifact.type == 'Model']
