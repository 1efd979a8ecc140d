"""Metrics of TensorFlow Model Analysis that are means of what the exported model answers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tensorflow.python.autograph.core import config
from tensorflow_model_analysis.metrics import metric_types

RECONSTRUCTION_ERROR = 'reconstruction_error'
REFUSED = 'refused'

# TensorFlow Model Analysis takes other metrics from tf_keras. AutoGraph would rewrite their code
# before it first runs, which takes a tenth of an evaluation. It has a rule that leaves Keras as it
# is, which does not know this name of it. Each process that computes metrics imports this module.
config.CONVERSION_RULES = (config.DoNotConvert('tf_keras'), *config.CONVERSION_RULES)


class ReconstructionError(tfma.metrics.Metric):
    """Mean of the output `reconstruction_error`.

    A model without this output, because its network has no decoder, has no such metric.

    Args:
        name: The name of the metric.
        code_version: Version of this module. It only changes the Evaluator's cache key, of which
            the metrics' configuration is a part.
    """

    def __init__(self, name: str = RECONSTRUCTION_ERROR, code_version: str = ''):
        del code_version
        super().__init__(_reconstruction_error, name=name)


class Refused(tfma.metrics.Metric):
    """Fraction of the images that the model refuses: its output `known` is false.

    A model without this output, because it was exported earlier, has no such metric.

    Args:
        name: The name of the metric.
        code_version: As of ReconstructionError.
    """

    def __init__(self, name: str = REFUSED, code_version: str = ''):
        del code_version
        super().__init__(_refused, name=name)


tfma.metrics.metric_types.register_metric(ReconstructionError)
tfma.metrics.metric_types.register_metric(Refused)


def _reconstruction_error(
    name: str, model_names: list[str] | None = None
) -> metric_types.MetricComputations:
    return _computations(name, model_names, 'reconstruction_error', float)


def _refused(name: str, model_names: list[str] | None = None) -> metric_types.MetricComputations:
    return _computations(name, model_names, 'known', operator.not_)


def _computations(
    name: str, model_names: list[str] | None, output: str, value: Callable[[float], float]
) -> metric_types.MetricComputations:
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name)
        for model_name in model_names or ['']
    ]
    return [
        metric_types.MetricComputation(
            keys=[key],
            preprocessors=[
                metric_types.StandardMetricInputsPreprocessor(
                    include_filter={tfma.PREDICTIONS_KEY: {}}, include_default_inputs=False
                )
            ],
            combiner=_MeanOutput(key, output, value),
        )
        for key in keys
    ]


class _MeanOutput(beam.CombineFn):
    """Sum and number of the values that a function has for the outputs of one model."""

    def __init__(
        self, key: metric_types.MetricKey, output: str, value: Callable[[float], float]
    ) -> None:
        self._key = key
        self._output = output
        self._value = value

    def create_accumulator(self) -> tuple[float, int]:
        return 0.0, 0

    def add_input(
        self, accumulator: tuple[float, int], element: metric_types.StandardMetricInputs
    ) -> tuple[float, int]:
        predictions = element[tfma.PREDICTIONS_KEY]
        # The predictions of several models are keyed by their names, those of one model are not.
        predictions = predictions.get(self._key.model_name, predictions)
        if self._output not in predictions:
            return accumulator
        total, count = accumulator
        return total + self._value(predictions[self._output].item()), count + 1

    def merge_accumulators(self, accumulators: Iterable[tuple[float, int]]) -> tuple[float, int]:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: tuple[float, int]) -> dict[metric_types.MetricKey, float]:
        total, count = accumulator
        return {self._key: total / count} if count else {}
