"""What the Evaluator measured, by slice, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import constants

from components.evaluation_gate import shortfalls
from components.model_card.intervals import wilson
from components.picture_kinds.kinds import PLAIN

_BASELINE = 'baseline'
# Of each slice, besides the accuracy; a model may lack some.
_OTHERS = ('refused', 'calibration_error', 'reconstruction_error')


def read(evaluation: str, blessing: types.Artifact, class_names: Sequence[str]) -> dict[str, Any]:
    """Reads an evaluation.

    Args:
        evaluation: The folder of the Evaluator's evaluation.
        blessing: The Evaluator's blessing.
        class_names: The name of each class.

    Returns:
        `blessed`; `missed`, a sentence for each bound that was missed; `accuracy_change` against
        the last blessed model, or None if there was none; and what was measured: `overall`, the
        list `classes` in the order of their labels, and the list `kinds` of pictures in the order
        of their names.
    """
    overall: dict[str, Any] = {}
    classes, kinds = [], []
    change = None
    for slice_metrics in tfma.load_metrics(evaluation):
        values: dict[str, float] = {}
        for metric in slice_metrics.metric_keys_and_values:
            key, value = metric.key, metric.value.double_value.value
            if key.model_name == _BASELINE:
                continue
            if not key.is_diff:
                values[key.name] = value
        of = {
            key.column: getattr(key, key.WhichOneof('kind'))
            for key in slice_metrics.slice_key.single_slice_keys
        }
        kind = of.get('kind', PLAIN.encode()).decode()
        measured = _measured(values)
        if kind != PLAIN:
            kinds.append({'kind': kind, **measured})
        elif 'label' in of:
            label = int(of['label'])
            classes.append({'label': label, 'class': class_names[label], **measured})
        else:
            overall = measured
            change = _change(slice_metrics)
    blessed = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
    is_blessed = blessed == constants.BLESSED_VALUE
    return {
        'blessed': is_blessed,
        'missed': []
        if is_blessed
        else shortfalls(tfma.load_validation_result(evaluation), class_names),
        'accuracy_change': change,
        'overall': overall,
        'classes': sorted(classes, key=lambda each: each['label']),
        'kinds': sorted(kinds, key=lambda each: each['kind']),
    }


def _change(slice_metrics: Any) -> float | None:
    """How the accuracy of all test images differs from the last blessed model's."""
    for metric in slice_metrics.metric_keys_and_values:
        if metric.key.is_diff and metric.key.name == 'accuracy':
            return metric.value.double_value.value
    return None


def _measured(values: dict[str, float]) -> dict[str, Any]:
    images = round(values['example_count'])
    hits = round(values['accuracy'] * images)
    measured = {
        'images': images,
        'accuracy': values['accuracy'],
        'accuracy_interval': wilson(hits, images) if images else None,
    }
    return {**measured, **{name: values[name] for name in _OTHERS if name in values}}
