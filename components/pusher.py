"""Pushes a blessed model to the folder of versions: as a whole, and only if it is not there yet.

TFX's Pusher copies into the folder that servers read, so that a kill or a full disk leaves half a
version. And it is cached: it pushes nothing if the folder was deleted, or if another model was
pushed in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx import v1 as tfx
from tfx.components.pusher import executor
from tfx.dsl.compiler import constants
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.types.experimental.simple_artifacts import File

from components import version_folders
from components.model_card import files
from components.push_error import PushError

# Property of a PushedModel: its version was there before, and nothing was copied.
LIVE_ALREADY = 'live_already'

# The folder of a version that is for files that TensorFlow does not know, and a card's files there.
_EXTRA = 'assets.extra'
_CARDS = {os.path.join(_EXTRA, name) for name in files.NAMES}


class PusherSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of Pusher."""

    PARAMETERS = {
        'base_directory': component_spec.ExecutionParameter(type=str),
        'run_id': component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard_component_specs.PusherSpec.INPUTS,
        'model_card': component_spec.ChannelParameter(type=File, optional=True),
    }
    OUTPUTS = standard_component_specs.PusherSpec.OUTPUTS
    TYPE_ANNOTATION = standard_component_specs.PusherSpec.TYPE_ANNOTATION


class PusherExecutor(executor.Executor):
    """Makes a blessed model the newest version, unless it is the newest already."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes, and records the version in the PushedModel's custom properties.

        As in TFX's Pusher, these are `pushed`, `pushed_destination` and `pushed_version`, and the
        model is also copied to the artifact's own folder. `live_already` is 1 if the newest version
        is the same model, byte for byte; then nothing is copied. The files of a model card are put
        beside the model in `assets.extra`.

        Raises:
            PushError: The model cannot be written. Then no part of it is in the base directory.
        """
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        model = self.GetModelPath(input_dict)
        base_directory = exec_properties['base_directory']
        cards = [
            os.path.join(card.uri, name)
            for card in input_dict.get('model_card', [])
            for name in files.NAMES
        ]
        try:
            version, path, is_new = _push(model, cards, base_directory, pushed.uri)
        except (OSError, tf.errors.OpError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            if '://' not in base_directory:
                base_directory = os.path.abspath(base_directory)
            raise PushError(
                f'The model cannot be pushed to {base_directory}: {why}. Servers keep what they '
                'have. Once that is mended, the same command pushes the model.'
            ) from error
        self._MarkPushed(pushed, pushed_destination=path, pushed_version=str(version))
        pushed.set_int_custom_property(LIVE_ALREADY, int(not is_new))
        logging.info('%s is %s.', path, 'pushed' if is_new else 'live already')


class Pusher(base_component.BaseComponent):
    """Makes a blessed model the newest version in a folder; runs in every run.

    Outputs: `pushed_model`, a PushedModel.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(PusherExecutor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        base_directory: str,
        model_card: types.BaseChannel | None = None,
    ):
        """Describes the push of one model.

        Args:
            model: A Model.
            model_blessing: The Evaluator's ModelBlessing.
            infra_blessing: An InfraBlessing.
            base_directory: The folder of the versions.
            model_card: The output of ModelCard, whose files are pushed with the model.
        """
        super().__init__(
            PusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                model_card=model_card,
                base_directory=base_directory,
                # TFX can switch off its cache only for a whole pipeline. But parameters are part of
                # the cache key, and runners set this one to the id of the run: no run finds the
                # result of another, while a node that is started again in the same run does.
                run_id=tfx.dsl.experimental.RuntimeParameter(
                    name=constants.PIPELINE_RUN_ID_PARAMETER_NAME, ptype=str, default=''
                ),
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )


def _push(
    model: str, cards: Sequence[str], base_directory: str, archive: str
) -> tuple[int, str, bool]:
    """Number and folder of the model's version, and whether it is new."""
    extras = {os.path.join(_EXTRA, os.path.basename(path)): path for path in cards}
    with version_folders.locked(base_directory):
        # With the numbers of half versions: TensorFlow Serving gives up a version that failed once.
        taken = version_folders.find(base_directory)
        version_folders.remove_leftovers(base_directory)
        versions = version_folders.find(base_directory)
        if versions:
            newest = max(versions)
            live = version_folders.digests(versions[newest])
            # The card tells of one evaluation of the model, and another one changes nothing in it.
            live = {name: digest for name, digest in live.items() if name not in _CARDS}
            if live == version_folders.digests(model):
                return newest, versions[newest], False
        version = version_folders.next_version(taken, time.time())
        # Copied here first: if this fails, no server has seen the model yet.
        version_folders.copy(model, archive, extras)
        path = os.path.join(base_directory, str(version))
        version_folders.publish(model, path, extras)
        return version, path, True
