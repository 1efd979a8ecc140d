"""The metrics of the Evaluator, and the bounds that a model must reach to be blessed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

# The package itself exports these names in 0.47, but not in 0.52.
from tensorflow_model_analysis.proto import config_pb2

from capsmodel.data import features
from components.picture_kinds.kinds import PLAIN
from pipeline.settings import Config

ACCURACY = 'accuracy'
CANDIDATE, BASELINE = 'candidate', 'baseline'

_METRICS = 'components.output_metrics'

# TFMA's accuracies are float32: 9 of 10 is a little below 0.9, but must reach a bound of 0.9.
_ROUNDING = 1e-7


def eval_config(
    config: Config, num_classes: int, kinds: Sequence[str] = (), code_version: str = ''
) -> config_pb2.EvalConfig:
    """Metrics, slices and thresholds.

    The accuracy over all test images, of each class and of each other kind of picture has a bound
    of its own, so thresholds name their slices. Classes and kinds are named one by one, so that one
    without any test image is noticed. The candidate is compared with the last blessed model over
    all test images only.

    Args:
        config: The settings.
        num_classes: Labels are 0 to num_classes - 1.
        kinds: Kinds of pictures among the examples besides the test images, which then have the
            kind PLAIN; empty if there are only test images, without a kind.
        code_version: Of the code that the Evaluator runs; part of its cache key.

    Returns:
        The Evaluator's configuration; if there is no baseline, it ignores the comparison.
    """
    plain = {features.KIND: PLAIN} if kinds else {}
    overall = config_pb2.SlicingSpec(feature_values=plain)
    classes = [
        config_pb2.SlicingSpec(feature_values={**plain, features.LABEL: str(label)})
        for label in range(num_classes)
    ]
    drawn = [config_pb2.SlicingSpec(feature_values={features.KIND: kind}) for kind in kinds]
    version = json.dumps({'code_version': code_version})
    ours = {'module': _METRICS, 'config': version}
    calibration = {'module': 'pipeline.calibration_metric', 'config': version}
    model = {
        # Otherwise TFMA finds out by loading each model once more, as one of Keras.
        'model_type': 'tf_generic',
        'signature_name': 'examples',
        'label_key': features.LABEL,
        'prediction_key': 'scores',
    }
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name=CANDIDATE, **model),
            config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **model),
        ],
        slicing_specs=[overall, *classes, *drawn],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    _accuracy(config, overall, classes, drawn),
                    config_pb2.MetricConfig(
                        class_name='ExampleCount',
                        per_slice_thresholds=[_at_least(config.min_test_images, [overall])],
                    ),
                    config_pb2.MetricConfig(class_name='MultiClassConfusionMatrixPlot'),
                    config_pb2.MetricConfig(class_name='CalibrationError', **calibration),
                    config_pb2.MetricConfig(class_name='ReconstructionError', **ours),
                    config_pb2.MetricConfig(
                        class_name='Refused',
                        per_slice_thresholds=[_few_refused(config, overall)],
                        **ours,
                    ),
                ]
            )
        ],
    )


def _accuracy(
    config: Config,
    overall: config_pb2.SlicingSpec,
    classes: list[config_pb2.SlicingSpec],
    drawn: list[config_pb2.SlicingSpec],
) -> config_pb2.MetricConfig:
    """The accuracy with its bounds for the slices; `drawn` may be empty."""
    no_worse_than_baseline = config_pb2.GenericChangeThreshold(
        direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
        absolute={'value': -config.max_accuracy_drop - _ROUNDING},
    )
    thresholds = [
        _at_least(config.min_accuracy - _ROUNDING, [overall], no_worse_than_baseline),
        _at_least(config.min_class_accuracy - _ROUNDING, classes),
    ]
    if drawn:
        thresholds.append(_at_least(config.min_kind_accuracy - _ROUNDING, drawn))
    return config_pb2.MetricConfig(
        class_name='SparseCategoricalAccuracy',
        config=f'"name": "{ACCURACY}"',
        per_slice_thresholds=thresholds,
    )


def _few_refused(
    config: Config, overall: config_pb2.SlicingSpec
) -> config_pb2.PerSliceMetricThreshold:
    """The fraction of test images that the guard may refuse.

    Its thresholds refuse `false_alarms` of the images that they are computed from. If those are
    few, or the test images are harder, it may be twice that; and never is a bound less than 1%. On
    few images it may differ by chance: by up to three standard errors of the difference between two
    fractions of MIN_TEST_IMAGES.
    """
    false_alarms = config.guard_false_alarms
    variance = false_alarms * (1 - false_alarms) / max(config.min_test_images, 1)
    most = max(2 * false_alarms + 0.01, false_alarms + 3 * math.sqrt(2 * variance))
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=[overall],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(upper_bound={'value': most})
        ),
    )


def _at_least(
    bound: float,
    slices: list[config_pb2.SlicingSpec],
    change: config_pb2.GenericChangeThreshold | None = None,
) -> config_pb2.PerSliceMetricThreshold:
    """The threshold that a metric must reach in each of some slices."""
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=slices,
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(lower_bound={'value': bound}),
            change_threshold=change,
        ),
    )
