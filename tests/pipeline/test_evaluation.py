"""Thresholds and the gate behind them, on real SavedModels analysed as the Evaluator does."""

import dataclasses
import json
import pathlib

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from tensorflow.python.autograph.impl import api
from tfx.orchestration.metadata import Metadata
from tfx.types import standard_artifacts
from tfx_bsl.public import tfxio

from components.evaluation_gate import EvaluationGate, shortfalls
from components.gate import GateRefused
from components.model_card.evaluated import read as read_for_card
from components.model_card.intervals import wilson
from pipeline import configs, evaluation, metadata, results
from pipeline.schema import write_schema

_CONFIG = configs.from_preset(
    'tiny',
    min_accuracy=0.8,
    min_class_accuracy=0.6,
    max_accuracy_drop=0.05,
    min_test_images=30,
)
_NAMES = ['cat', 'dög', 'a fish', 'a bird']


class _Predictor(tf.Module):
    """Predicts the class that the example's feature `name` says, and knows what `known` says.

    Without a guard, it is a model that was exported before there were guards.
    """

    def __init__(self, name, decoder, guard):
        super().__init__()
        self.feature = name
        self.decoder = decoder
        self.guard = guard

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name='examples')])
    def examples(self, examples):
        specification = {
            name: tf.io.FixedLenFeature([], tf.int64) for name in (self.feature, 'known')
        }
        parsed = tf.io.parse_example(examples, specification)
        predicted = parsed[self.feature]
        outputs = {
            'label': predicted,
            'class_name': tf.gather(['cat', 'dög', 'a fish'], predicted),
            'scores': tf.one_hot(predicted, 3),
        }
        if self.guard:
            outputs['known'] = parsed['known'] == 1
        if self.decoder:
            outputs['reconstruction_error'] = tf.cast(predicted, tf.float32) + 1.5
        return outputs


_GOOD, _BAD, _NO_DECODER = ('good', True), ('bad', True), ('good', False)
_EARLIER = ('good, no guard', False)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Folders of SavedModels: what each predicts and whether it has a decoder; an earlier one."""
    folder = tmp_path_factory.mktemp('models')
    paths = {}
    for number, key in enumerate((_GOOD, _BAD, _NO_DECODER, _EARLIER)):
        name, decoder = key
        module = _Predictor(name.split(',')[0], decoder, guard=key != _EARLIER)
        paths[key] = str(folder / str(number))
        tf.saved_model.save(module, paths[key], {'examples': module.examples})
    return paths


def _test_images():
    """Features of 30 test images, 10 of each class, of which the models know all but one."""
    labels = np.repeat([0, 1, 2], 10)
    good = labels.copy()
    good[[10, 20]] = 0  # 28 of 30 right; 9 of 10 in classes 1 and 2
    bad = good.copy()
    bad[11:15] = 2  # 24 of 30 right; 5 of 10 in class 1
    return {'label': labels, 'good': good, 'bad': bad, 'known': np.arange(30) != 3}


def _records(tmp_path, columns):
    path = str(tmp_path / 'examples')
    with tf.io.TFRecordWriter(path) as writer:
        for values in zip(*columns.values(), strict=True):
            example = tf.train.Example()
            for name, value in zip(columns, values, strict=True):
                feature = example.features.feature[name]
                if isinstance(value, str):
                    feature.bytes_list.value.append(value.encode())
                else:
                    feature.int64_list.value.append(int(value))
            writer.write(example.SerializeToString())
    return path


def _evaluate(
    tmp_path,
    models,
    candidate,
    baseline=None,
    num_classes=3,
    config=_CONFIG,
    columns=None,
    kinds=(),
):
    output = str(tmp_path / 'evaluation')
    eval_config = tfma.utils.update_eval_config_with_defaults(
        evaluation.eval_config(config, num_classes, kinds),
        has_baseline=baseline is not None,
        rubber_stamp=True,
    )
    keys = [candidate, baseline] if baseline else [candidate]
    shared = [
        tfma.default_eval_shared_model(
            models[key], model_name=model_spec.name, eval_config=eval_config
        )
        for model_spec, key in zip(eval_config.model_specs, keys, strict=True)
    ]
    with beam.Pipeline(argv=['--runner=FnApiRunner']) as pipeline:
        _ = (
            pipeline
            | tfxio.TFExampleRecord(
                _records(tmp_path, columns or _test_images()),
                raw_record_column_name=tfma.ARROW_INPUT_COLUMN,
            ).BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=shared if baseline else shared[0],
                eval_config=eval_config,
                output_path=output,
            )
        )
    return output


def _metrics(output):
    return {
        slice_key: metrics['']['']
        for slice_key, metrics in tfma.load_eval_result(output).slicing_metrics
    }


def test_model_within_the_bounds_is_blessed_and_measured(tmp_path, models, monkeypatch):
    rewritten = []  # what AutoGraph would spend seconds on
    monkeypatch.setattr(api, '_convert_actual', lambda function, _: rewritten.append(function))
    output = _evaluate(tmp_path, models, _GOOD)
    assert not rewritten
    assert tfma.load_validation_result(output).validation_ok
    metrics = _metrics(output)
    assert metrics[()]['accuracy']['doubleValue'] == pytest.approx(28 / 30)
    assert metrics[()]['example_count']['doubleValue'] == 30
    assert metrics[('label', 1),]['accuracy']['doubleValue'] == pytest.approx(0.9)
    # Predictions are 12 times 0, 9 times 1 and 9 times 2.
    assert metrics[()]['reconstruction_error']['doubleValue'] == pytest.approx(27 / 30 + 1.5)
    assert metrics[()]['refused']['doubleValue'] == pytest.approx(1 / 30)
    # The model is always sure, and wrong about two images.
    assert metrics[()]['calibration_error']['doubleValue'] == pytest.approx(2 / 30)
    assert metrics[('label', 0),]['refused']['doubleValue'] == pytest.approx(0.1)
    plots = dict(tfma.load_eval_result(output).plots)
    assert 'multiClassConfusionMatrixAtThresholds' in plots[()]['']['']


def test_no_decoder_has_no_reconstruction_error_and_classes_or_kinds_without_images_are_noticed(
    tmp_path, models
):
    columns = {**_test_images(), 'kind': ['plain'] * 30}
    output = _evaluate(
        tmp_path, models, _NO_DECODER, num_classes=4, columns=columns, kinds=('chalk',)
    )
    result = tfma.load_validation_result(output)
    assert not result.validation_ok
    assert sorted(shortfalls(result, _NAMES)) == [
        'there is no test image of class a bird',
        'there is no test image of kind chalk',
    ]
    metrics = _metrics(output)[('kind', 'plain'),]
    assert 'reconstruction_error' not in metrics
    card = read_for_card(output, _blessing(1), _NAMES)
    assert (card['blessed'], card['missed'], card['accuracy_change']) == (True, [], None)
    assert (len(card['classes']), card['kinds']) == (3, [])
    assert 'reconstruction_error' not in card['overall']
    assert metrics['accuracy']['doubleValue'] == pytest.approx(28 / 30)


def test_each_missed_bound_is_named_with_the_shortfall(tmp_path, models):
    output = _evaluate(tmp_path, models, _BAD, baseline=_EARLIER)
    result = tfma.load_validation_result(output)
    assert not result.validation_ok
    assert sorted(shortfalls(result, _NAMES)) == [
        'accuracy of all images changed by -0.1333 against the last blessed model, 0.0833 beyond '
        'the bound of -0.0500',
        'accuracy of class dög is 0.5000, 0.1000 below the bound 0.6',
    ]
    evaluated, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluated.uri = output
    examples = standard_artifacts.Examples()
    examples.set_int_custom_property('undecodable_images', 7)
    schema = standard_artifacts.Schema()
    schema.uri = str(pathlib.Path(write_schema(_NAMES, str(tmp_path / 'schema'))).parent)
    found = _read_of_a_run(tmp_path, examples, schema, evaluated)
    assert found.accuracy == pytest.approx(0.8)
    assert found.accuracy_change == pytest.approx(24 / 30 - 28 / 30)
    assert (found.test_images, found.left_out) == (30, 7)
    assert (found.worst_class, found.worst_class_accuracy) == ('dög', 0.5)
    blessing.set_int_custom_property('blessed', 0)
    with pytest.raises(GateRefused, match=r'^The model is rejected: accuracy of .*; accuracy of '):
        EvaluationGate.test_call(
            evaluation=evaluated, blessing=blessing, class_names=json.dumps(_NAMES)
        )


def test_bounds_hold_for_plain_images_and_kinds_have_their_own(tmp_path, models):
    config = dataclasses.replace(_CONFIG, min_kind_accuracy=0.95, guard_false_alarms=0)
    # All pictures are refused, and the bound is for test images alone.
    drawn = {name: np.tile(column[:3], 8) for name, column in _test_images().items()}
    drawn['good'] = (drawn['label'] + np.arange(24) % 2) % 3
    drawn['known'] = np.zeros(24)
    kinds = np.repeat(['plain', 'chalk', 'thin pen', 'wide sheet'], [30, 12, 8, 4])
    columns = {
        name: np.concatenate([column, drawn[name]]) for name, column in _test_images().items()
    }
    columns['good'][-4:] = columns['label'][-4:]  # every wide sheet is read
    columns['good'][30] = columns['good'][32] = 1  # and 4 of 12 of chalk
    output = _evaluate(
        tmp_path,
        models,
        _GOOD,
        baseline=_EARLIER,
        config=config,
        columns={**columns, 'kind': kinds.tolist()},
        kinds=('chalk', 'thin pen', 'wide sheet'),
    )
    result = tfma.load_validation_result(output)
    assert sorted(shortfalls(result, _NAMES)) == [
        'refused of all images is 0.0333, 0.0233 above the bound 0.01',
        'the worst kind of picture is chalk: its accuracy is 0.3333, 0.6167 below the bound 0.95 '
        '(2 kinds miss it)',
    ]
    metrics = _metrics(output)
    plain = ('kind', 'plain')
    assert metrics[plain,]['example_count']['doubleValue'] == 30
    assert metrics[plain,]['accuracy']['doubleValue'] == pytest.approx(28 / 30)
    assert metrics[plain, ('label', 1)]['accuracy']['doubleValue'] == pytest.approx(0.9)
    assert metrics[('kind', 'thin pen'),]['refused']['doubleValue'] == 1
    evaluated = standard_artifacts.ModelEvaluation()
    evaluated.uri = output
    found = _read_of_a_run(tmp_path, evaluated)
    assert found.accuracy == pytest.approx(28 / 30)
    assert (found.accuracy_change, found.test_images) == (0, 30)
    assert (found.worst_class, found.worst_class_accuracy) == ('1', pytest.approx(0.9))
    assert (found.worst_kind, found.worst_kind_accuracy) == ('chalk', pytest.approx(1 / 3))
    # The model card reads the same.
    card = read_for_card(output, _blessing(0), _NAMES)
    assert not card['blessed']
    assert sorted(card['missed']) == sorted(shortfalls(result, _NAMES))
    assert card['accuracy_change'] == 0
    overall = card['overall']
    assert (overall['images'], overall['refused']) == (30, pytest.approx(1 / 30))
    assert overall['accuracy'] == pytest.approx(28 / 30)
    assert overall['accuracy_interval'] == wilson(28, 30)
    assert [each['class'] for each in card['classes']] == _NAMES[:3]
    assert [each['accuracy'] for each in card['classes']] == pytest.approx([1, 0.9, 0.9])
    kinds_of = {each['kind']: each['accuracy_interval'] for each in card['kinds']}
    assert kinds_of == {
        'chalk': wilson(4, 12),
        'thin pen': wilson(4, 8),
        'wide sheet': wilson(4, 4),
    }


def _blessing(blessed):
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property('blessed', blessed)
    return blessing


def _read_of_a_run(tmp_path, *artifacts, earlier=()):
    """What `results` reads of a run that has recorded nothing but artifacts, after earlier ones."""
    config = configs.from_preset('tiny', var=str(tmp_path / 'var'))
    with Metadata(metadata.connection_config(config)) as handle:
        store = handle.store
        contexts = []
        for kind in ('pipeline', 'pipeline_run'):
            type_id = store.put_context_type(metadata_store_pb2.ContextType(name=kind))
            context = metadata_store_pb2.Context(type_id=type_id, name=config.pipeline_name)
            contexts += store.put_contexts([context])
        pipeline, run = contexts
        parent = metadata_store_pb2.ParentContext(child_id=run, parent_id=pipeline)
        store.put_parent_contexts([parent])
        type_id = store.put_execution_type(metadata_store_pb2.ExecutionType(name='node'))
        (execution,) = store.put_executions([metadata_store_pb2.Execution(type_id=type_id)])
        recorded = [*earlier, *artifacts]
        for artifact in recorded:
            artifact.type_id = store.put_artifact_type(artifact.artifact_type)
        identifiers = store.put_artifacts([artifact.mlmd_artifact for artifact in recorded])
        store.put_attributions_and_associations(
            [
                metadata_store_pb2.Attribution(artifact_id=each, context_id=context)
                for context, which in ((pipeline, identifiers), (run, identifiers[len(earlier) :]))
                for each in which
            ],
            [metadata_store_pb2.Association(execution_id=execution, context_id=run)],
        )
    return results.read(config)


def _blessings(model, blessed=1):
    blessing, infra_blessing = (
        standard_artifacts.ModelBlessing(),
        standard_artifacts.InfraBlessing(),
    )
    blessing.set_int_custom_property('blessed', blessed)
    for each in (blessing, infra_blessing):
        each.set_int_custom_property('current_model_id', model)
    return [blessing, infra_blessing]


@pytest.mark.parametrize(
    ('earlier', 'known'),
    [
        ([], False),
        (_blessings(1), True),
        (_blessings(1, blessed=0), False),
        (_blessings(1)[:1], False),  # InfraCheck has refused it
        (_blessings(2), False),  # the same model, evaluated again
    ],
)
def test_whether_models_were_blessed_before_is_read(tmp_path, earlier, known):
    assert _read_of_a_run(tmp_path, *_blessings(2), earlier=earlier).others_blessed == known


def test_worse_model_within_the_change_bound_is_blessed(tmp_path, models):
    output = _evaluate(tmp_path, models, _GOOD, baseline=_BAD)
    assert tfma.load_validation_result(output).validation_ok


def test_model_is_exactly_on_its_bounds_but_there_are_too_few_images(tmp_path, models):
    exact = dataclasses.replace(
        _CONFIG, min_accuracy=28 / 30, min_class_accuracy=0.9, min_test_images=31
    )
    output = _evaluate(tmp_path, models, _GOOD, config=exact)
    result = tfma.load_validation_result(output)
    assert shortfalls(result, _NAMES) == ['example_count of all images is 30, 1 below the bound 31']


def test_gate_lets_a_blessed_model_pass():
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property('blessed', 1)
    evaluation = standard_artifacts.ModelEvaluation()
    EvaluationGate.test_call(evaluation=evaluation, blessing=blessing, class_names='[]')


@pytest.mark.parametrize(
    ('min_test_images', 'bound'),
    # Of 50 images, 5% +- sqrt(2 * 0.05 * 0.95 / 50) = 4.4% are refused by chance.
    [(1000, 0.11), (50, 0.05 + 3 * 0.0436)],
)
def test_few_test_images_may_be_refused_by_chance(min_test_images, bound):
    config = dataclasses.replace(_CONFIG, min_test_images=min_test_images)
    (spec,) = evaluation.eval_config(config, num_classes=2).metrics_specs
    (refused,) = (metric for metric in spec.metrics if metric.class_name == 'Refused')
    (threshold,) = refused.per_slice_thresholds
    found = threshold.threshold.value_threshold.upper_bound.value
    assert found == pytest.approx(bound, abs=1e-3)
