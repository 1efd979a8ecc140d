"""The mean reconstruction error as a metric of TensorFlow Model Analysis."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

OUTPUT = 'reconstruction_error'


class ReconstructionError(tfma.metrics.Metric):
    """Mean of the output `reconstruction_error`, for models whose signature has this output.

    A network without a decoder has no such output, and then no such metric.

    Args:
        name: The name of the metric.
        code_version: Version of this module. It only changes the Evaluator's cache key, of which
            the metrics' configuration is a part.
    """

    def __init__(self, name: str = OUTPUT, code_version: str = ''):
        del code_version
        super().__init__(_computations, name=name)


tfma.metrics.metric_types.register_metric(ReconstructionError)


def _computations(
    name: str = OUTPUT, model_names: list[str] | None = None
) -> metric_types.MetricComputations:
    return [
        metric_types.MetricComputation(
            keys=[metric_types.MetricKey(name=name, model_name=model_name)],
            preprocessors=[
                metric_types.StandardMetricInputsPreprocessor(
                    include_filter={tfma.PREDICTIONS_KEY: {}}, include_default_inputs=False
                )
            ],
            combiner=_MeanOutput(metric_types.MetricKey(name=name, model_name=model_name)),
        )
        for model_name in model_names or ['']
    ]


class _MeanOutput(beam.CombineFn):
    """Sum and number of the outputs of one model."""

    def __init__(self, key: metric_types.MetricKey):
        self._key = key

    def create_accumulator(self) -> tuple[float, int]:
        return 0.0, 0

    def add_input(
        self, accumulator: tuple[float, int], element: metric_types.StandardMetricInputs
    ) -> tuple[float, int]:
        predictions = element[tfma.PREDICTIONS_KEY]
        # The predictions of several models are keyed by their names, those of one model are not.
        predictions = predictions.get(self._key.model_name, predictions)
        if OUTPUT not in predictions:
            return accumulator
        total, count = accumulator
        return total + predictions[OUTPUT].item(), count + 1

    def merge_accumulators(self, accumulators: Iterable[tuple[float, int]]) -> tuple[float, int]:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: tuple[float, int]) -> dict[metric_types.MetricKey, float]:
        total, count = accumulator
        return {self._key: total / count} if count else {}
