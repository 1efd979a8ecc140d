"""Finds the model with which a candidate is compared."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import ml_metadata as mlmd
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver
from tfx.dsl.io import fileio
from tfx.utils import path_utils

from components.gate import BaselineMissing
from components.infra_check.component import MODEL_ID_PROPERTY

# What a model is about, in the folder of its SavedModel; see capsmodel/model_facts.py.
_FACTS = os.path.join('assets.extra', 'model_facts.json')


class LatestOtherBlessedModelStrategy(resolver.ResolverStrategy):
    """Resolves the last blessed model that can be served, other than the candidate itself.

    TFX's LatestBlessedModelStrategy also resolves the candidate, once it is blessed. Then the first
    rerun has another baseline although nothing has changed: the Evaluator is not cached, and the
    Pusher pushes the same model again. Without the candidate, the baseline of a rerun stays the
    same, and a retrained model is compared with the model before it.

    A model that InfraCheck refused is no baseline, because it was never pushed. Nor is one with
    other class names, for images of another shape, or that is another network: a candidate for
    which there are only such models is judged by the bounds alone, and a line says so. Models that
    were exported before they had facts of their own can be compared with any.

    Channels of the Resolver: `candidate` is the model to be judged, if there is one already;
    `model`, `model_blessing` and `infra_blessing` have all models and blessings of the pipeline.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Returns the candidate, and at most one `model` with its blessings.

        Raises:
            BaselineMissing: The model's files are missing, or it cannot be found for other reasons.
        """
        try:
            return _resolve(input_dict)
        except Exception as error:
            raise BaselineMissing(
                f'The last blessed model cannot be found: {type(error).__name__}: {error}'
            ) from error


def _resolve(input_dict: dict[str, list[types.Artifact]]) -> dict[str, list[types.Artifact]]:
    candidates = {artifact.id for artifact in input_dict.get('candidate', [])}
    servable = {
        blessing.get_int_custom_property(MODEL_ID_PROPERTY): blessing
        for blessing in input_dict['infra_blessing']
    }
    models = {artifact.id: artifact for artifact in input_dict['model'] if artifact.id in servable}
    blessed = [
        (blessing.id, blessing, models[model_id])
        for blessing in input_dict['model_blessing']
        if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
        == constants.BLESSED_VALUE
        for model_id in [
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
        ]
        if model_id in models
    ]
    others = [entry for entry in blessed if entry[2].id not in candidates]
    nothing = {**input_dict, 'model': [], 'model_blessing': [], 'infra_blessing': []}
    if not others:
        return nothing
    others.sort(key=lambda entry: entry[0], reverse=True)
    wanted = _facts(input_dict['candidate'][0]) if candidates else {}
    comparable = [entry for entry in others if not _difference(wanted, _facts(entry[2]))]
    if not comparable:
        difference = _difference(wanted, _facts(others[0][2]))
        print(
            f'  the model is judged by the bounds alone: the last blessed one {difference}',
            file=sys.stderr,
            flush=True,
        )
        return nothing
    last, blessing, model = comparable[0]
    # If the candidate was blessed since then, the cache has the result of their comparison.
    if not any(found.id in candidates and number > last for number, _, found in blessed):
        _check_is_there(model)
    return {
        **input_dict,
        'model': [model],
        'model_blessing': [blessing],
        'infra_blessing': [servable[model.id]],
    }


def _facts(model: types.Artifact) -> dict[str, Any]:
    """What a model is about; empty if it was exported before models had facts, or is gone.

    The network of older facts is capsnet.
    """
    path = os.path.join(path_utils.serving_model_path(model.uri), _FACTS)
    if not fileio.exists(path):
        return {}
    with fileio.open(path) as file:
        return {'network': 'capsnet', **json.loads(file.read())}


def _difference(wanted: dict[str, Any], facts: dict[str, Any]) -> str:
    """Why two models cannot be compared, said of the second one; empty if they can."""
    if not (wanted and facts) or wanted == facts:
        return ''
    if wanted['class_names'] != facts['class_names']:
        return 'has other classes'
    if wanted['network'] != facts['network']:
        return f'is another network, {facts["network"]}'
    return f'looks at images of {" x ".join(map(str, facts["image_shape"]))} pixels'


def _check_is_there(model: types.Artifact) -> None:
    path = path_utils.serving_model_path(model.uri)
    if not fileio.exists(os.path.join(path, 'saved_model.pb')):
        where = path if '://' in path else os.path.abspath(path)
        raise BaselineMissing(
            f'The last blessed model is missing: ML Metadata has it in {where}, and a new model is '
            'compared with it. Put that folder back, from a backup or from where the project was '
            'before; what is finished is kept. To do without a comparison, run with another '
            'PIPELINE_NAME.'
        )
