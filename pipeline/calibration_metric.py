"""The expected calibration error as a metric of TensorFlow Model Analysis."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from capsmodel.calibration import BINS, Reliability

NAME = 'calibration_error'


class CalibrationError(tfma.metrics.Metric):
    """The expected calibration error of the highest score, see `capsmodel.calibration`.

    Args:
        name: The name of the metric.
        code_version: Version of this module. It only changes the Evaluator's cache key, of which
            the metrics' configuration is a part.
    """

    def __init__(self, name: str = NAME, code_version: str = ''):
        del code_version
        super().__init__(_computations, name=name)


tfma.metrics.metric_types.register_metric(CalibrationError)


def _computations(
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> metric_types.MetricComputations:
    keys = [metric_types.MetricKey(name=name, model_name=model) for model in model_names or ['']]
    return [
        metric_types.MetricComputation(
            keys=[key], preprocessors=None, combiner=_Calibration(key, eval_config)
        )
        for key in keys
    ]


class _Calibration(beam.CombineFn):
    """The Reliability of one model, as an array [3, BINS], and its expected error in the end."""

    def __init__(
        self, key: metric_types.MetricKey, eval_config: config_pb2.EvalConfig | None
    ) -> None:
        self._key = key
        self._eval_config = eval_config

    def create_accumulator(self) -> np.ndarray:
        return np.zeros([3, BINS])

    def add_input(
        self, accumulator: np.ndarray, element: metric_types.StandardMetricInputs
    ) -> np.ndarray:
        label, scores, _ = next(
            metric_util.to_label_prediction_example_weight(
                element,
                eval_config=self._eval_config,
                model_name=self._key.model_name,
                flatten=False,
            )
        )
        return accumulator + np.stack(Reliability.of(label, scores[np.newaxis]))

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[metric_types.MetricKey, float]:
        error = Reliability(*accumulator).expected_error
        return {} if np.isnan(error) else {self._key: error}
