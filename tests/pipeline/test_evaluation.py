"""Thresholds and the gate behind them, on real SavedModels analysed as the Evaluator does."""

import dataclasses

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.metadata import Metadata
from tfx.types import standard_artifacts
from tfx_bsl.public import tfxio

from components.evaluation_gate import EvaluationGate, shortfalls
from components.gate import GateRefused
from pipeline import configs, evaluation, metadata, results

_CONFIG = configs.from_preset(
    'tiny',
    min_accuracy=0.8,
    min_class_accuracy=0.6,
    max_accuracy_drop=0.05,
    min_test_images=30,
)


class _Predictor(tf.Module):
    """Predicts the class that the example's feature `name` says."""

    def __init__(self, name, decoder):
        super().__init__()
        self.feature = name
        self.decoder = decoder

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name='examples')])
    def examples(self, examples):
        specification = {self.feature: tf.io.FixedLenFeature([], tf.int64)}
        predicted = tf.io.parse_example(examples, specification)[self.feature]
        outputs = {'label': predicted, 'scores': tf.one_hot(predicted, 3)}
        if self.decoder:
            outputs['reconstruction_error'] = tf.cast(predicted, tf.float32) + 1.5
        return outputs


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Folders of SavedModels, by the feature that they predict and whether there is a decoder."""
    folder = tmp_path_factory.mktemp('models')
    paths = {}
    for name in ('good', 'bad'):
        for decoder in (True, False):
            module = _Predictor(name, decoder)
            paths[name, decoder] = str(folder / f'{name}-{decoder}')
            tf.saved_model.save(module, paths[name, decoder], {'examples': module.examples})
    return paths


def _records(tmp_path, labels, good, bad):
    path = str(tmp_path / 'examples')
    with tf.io.TFRecordWriter(path) as writer:
        for values in zip(labels, good, bad, strict=True):
            feature = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                for name, value in zip(('label', 'good', 'bad'), values, strict=True)
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path


def _evaluate(tmp_path, models, candidate, baseline=None, num_classes=3, config=_CONFIG):
    labels = np.repeat([0, 1, 2], 10)
    good = labels.copy()
    good[[10, 20]] = 0  # 28 of 30 right; 9 of 10 in classes 1 and 2
    bad = good.copy()
    bad[11:15] = 2  # 24 of 30 right; 5 of 10 in class 1
    output = str(tmp_path / 'evaluation')
    eval_config = tfma.utils.update_eval_config_with_defaults(
        evaluation.eval_config(config, num_classes),
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
                _records(tmp_path, labels, good, bad),
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


def test_model_within_the_bounds_is_blessed_and_measured(tmp_path, models):
    output = _evaluate(tmp_path, models, ('good', True))
    assert tfma.load_validation_result(output).validation_ok
    metrics = _metrics(output)
    assert metrics[()]['accuracy']['doubleValue'] == pytest.approx(28 / 30)
    assert metrics[()]['example_count']['doubleValue'] == 30
    assert metrics[('label', 1),]['accuracy']['doubleValue'] == pytest.approx(0.9)
    # Predictions are 12 times 0, 9 times 1 and 9 times 2.
    assert metrics[()]['reconstruction_error']['doubleValue'] == pytest.approx(27 / 30 + 1.5)
    plots = dict(tfma.load_eval_result(output).plots)
    assert 'multiClassConfusionMatrixAtThresholds' in plots[()]['']['']


def test_no_decoder_has_no_reconstruction_error_and_a_class_without_images_is_noticed(
    tmp_path, models
):
    output = _evaluate(tmp_path, models, ('good', False), num_classes=4)
    result = tfma.load_validation_result(output)
    assert not result.validation_ok
    assert shortfalls(result) == ['there is no test image of label 3']
    metrics = _metrics(output)
    assert 'reconstruction_error' not in metrics[()]
    assert metrics[()]['accuracy']['doubleValue'] == pytest.approx(28 / 30)


def test_each_missed_bound_is_named_with_the_shortfall(tmp_path, models):
    output = _evaluate(tmp_path, models, ('bad', True), baseline=('good', False))
    result = tfma.load_validation_result(output)
    assert not result.validation_ok
    assert sorted(shortfalls(result)) == [
        'accuracy of all images changed by -0.1333 against the last blessed model, 0.0833 beyond '
        'the bound of -0.0500',
        'accuracy of label 1 is 0.5000, 0.1000 below the bound 0.6',
    ]
    evaluated, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluated.uri = output
    examples = standard_artifacts.Examples()
    examples.set_int_custom_property('undecodable_images', 7)
    found = _read_of_a_run(tmp_path, examples, evaluated)
    assert found.accuracy == pytest.approx(0.8)
    assert found.accuracy_change == pytest.approx(24 / 30 - 28 / 30)
    assert (found.test_images, found.left_out) == (30, 7)
    assert (found.worst_class, found.worst_class_accuracy) == (1, 0.5)
    blessing.set_int_custom_property('blessed', 0)
    with pytest.raises(GateRefused, match=r'^The model is rejected: accuracy of .*; accuracy of '):
        EvaluationGate.test_call(evaluation=evaluated, blessing=blessing)


def _read_of_a_run(tmp_path, *artifacts):
    """What `results` reads of a run that has recorded nothing but artifacts."""
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
        for artifact in artifacts:
            artifact.type_id = store.put_artifact_type(artifact.artifact_type)
        identifiers = store.put_artifacts([artifact.mlmd_artifact for artifact in artifacts])
        store.put_attributions_and_associations(
            [
                metadata_store_pb2.Attribution(artifact_id=each, context_id=run)
                for each in identifiers
            ],
            [metadata_store_pb2.Association(execution_id=execution, context_id=run)],
        )
    return results.read(config)


def test_worse_model_within_the_change_bound_is_blessed(tmp_path, models):
    output = _evaluate(tmp_path, models, ('good', True), baseline=('bad', True))
    assert tfma.load_validation_result(output).validation_ok


def test_model_is_exactly_on_its_bounds_but_there_are_too_few_images(tmp_path, models):
    exact = dataclasses.replace(
        _CONFIG, min_accuracy=28 / 30, min_class_accuracy=0.9, min_test_images=31
    )
    output = _evaluate(tmp_path, models, ('good', True), config=exact)
    result = tfma.load_validation_result(output)
    assert shortfalls(result) == ['example_count of all images is 30, 1 below the bound 31']


def test_gate_lets_a_blessed_model_pass():
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property('blessed', 1)
    EvaluationGate.test_call(evaluation=standard_artifacts.ModelEvaluation(), blessing=blessing)
