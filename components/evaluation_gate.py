"""Stops the run if the Evaluator did not bless the model."""

import json
from collections.abc import Mapping, Sequence

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import validation_result_pb2
from tfx import v1 as tfx
from tfx.components.evaluator import constants

from components.gate import GateRefused
from components.picture_kinds.kinds import PLAIN

# The feature that PictureKinds adds to examples, and the one that has the class.
_KIND = 'kind'
_LABEL = 'label'


@tfx.dsl.components.component
def EvaluationGate(  # noqa: N802 (a component is named like a class)
    evaluation: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    class_names: tfx.dsl.components.Parameter[str],
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Passes a blessed model; the Evaluator itself ends in success either way.

    Args:
        evaluation: The Evaluator's evaluation.
        blessing: The Evaluator's blessing.
        class_names: The name of each class, a list in JSON.
        code_version: Version of this code; part of the cache key.

    Raises:
        GateRefused: The model is not blessed. The message names each bound that was missed, and by
            how much it was missed.
    """
    blessed = blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
    if blessed != constants.BLESSED_VALUE:
        missed = shortfalls(tfma.load_validation_result(evaluation.uri), json.loads(class_names))
        raise GateRefused(f'The model is rejected: {"; ".join(missed)}.')


def shortfalls(
    result: validation_result_pb2.ValidationResult, class_names: Sequence[str]
) -> list[str]:
    """A sentence for each missed threshold: the value, the bound and the difference.

    Only the worst kind of drawn pictures has a sentence, which says how many kinds miss the bound.
    """
    sentences = []
    of_kinds = []
    for validation in result.metric_validations_per_slice:
        of = {
            key.column: getattr(key, key.WhichOneof('kind'))
            for key in validation.slice_key.single_slice_keys
        }
        kind = of.pop(_KIND, PLAIN.encode()).decode()
        for failure in validation.failures:
            value = failure.metric_value.double_value.value
            if kind == PLAIN:
                metric = f'{failure.metric_key.name} of {_images(of, class_names)}'
                sentences += _bounds_missed(metric, value, failure)
            else:
                of_kinds.append((value, kind, failure))
    if of_kinds:
        value, kind, failure = min(of_kinds, key=lambda each: each[:2])
        metric = f'the worst kind of picture is {kind}: its {failure.metric_key.name}'
        others = f' ({len(of_kinds)} kinds miss it)' if len(of_kinds) > 1 else ''
        sentences += [each + others for each in _bounds_missed(metric, value, failure)]
    for missing in result.missing_slices:
        of = dict(missing.feature_values)
        if of.get(_KIND) == PLAIN:
            del of[_KIND]
        sentences.append(f'there is no test image of {_images(of, class_names)}')
    return sentences or ['no reason was recorded']


def _images(of: Mapping[str, object], class_names: Sequence[str]) -> str:
    """Names a slice, such as 'class cat', by its features."""
    named = dict(of)
    if _LABEL in named:
        named['class'] = class_names[int(str(named.pop(_LABEL)))]
    return ' and '.join(f'{name} {value}' for name, value in named.items()) or 'all images'


def _bounds_missed(
    metric: str, value: float, failure: validation_result_pb2.ValidationFailure
) -> list[str]:
    threshold = failure.metric_threshold
    if failure.metric_key.is_diff:
        bound = threshold.change_threshold.absolute.value
        return [
            f'{metric} changed by {value:+.4f} against the last blessed model, '
            f'{bound - value:.4f} beyond the bound of {bound:+.4f}'
        ]
    bounds = threshold.value_threshold
    sentences = []
    if bounds.HasField('lower_bound') and not value >= bounds.lower_bound.value:
        bound = bounds.lower_bound.value
        sentences.append(
            f'{metric} is {_number(value)}, {_number(bound - value)} below the bound {bound:g}'
        )
    if bounds.HasField('upper_bound') and not value <= bounds.upper_bound.value:
        bound = bounds.upper_bound.value
        sentences.append(
            f'{metric} is {_number(value)}, {_number(value - bound)} above the bound {bound:g}'
        )
    return sentences or [f'{metric} is {_number(value)}: {failure.message}']


def _number(value: float) -> str:
    """Formats a count as it is, a fraction with four decimal places."""
    return f'{value:.0f}' if value >= 1 and value == round(value) else f'{value:.4f}'
