"""The function that TFX's Trainer calls."""

from __future__ import annotations

import dataclasses

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from capsmodel import signatures
from capsmodel.data import dataset
from capsmodel.networks import capsnet, choices, memory
from capsmodel.summaries.console import say
from capsmodel.training import launcher
from capsmodel.training.state import load_best
from capsmodel.training.worker import Request

_WARMUP_IMAGES = 8


def run_fn(fn_args: FnArgs) -> None:
    """Trains on the transformed examples and exports the best epoch's network.

    `fn_args.custom_config` holds `network` and `training`, the JSON forms of NetworkConfig and
    TrainingConfig; `strategy`, one of `training.choices.STRATEGIES`; `warm_start`, whether to start
    from the weights of `fn_args.base_model`, if there is one; and the fields of Request that TFX
    does not know. The results of a Tuner are in `fn_args.hyperparameters`.
    """
    settings = dict(fn_args.custom_config)
    strategy = settings.pop('strategy')
    if settings.pop('warm_start'):
        if fn_args.base_model:
            say('training starts from the last blessed model')
        else:
            say('training starts from random weights: no model is blessed')
    request = Request(
        train_files=fn_args.train_files,
        eval_files=fn_args.eval_files,
        log_dir=fn_args.model_run_dir,
        warm_start_from=fn_args.base_model or '',
        **settings,
    )
    if fn_args.hyperparameters:
        request = request.with_values(fn_args.hyperparameters['values'])
    checkpoints = launcher.train(request, strategy)
    network_config = capsnet.NetworkConfig.from_json_dict(request.network)
    routing = choices.exported_routing(network_config.routing_algorithm)
    model = capsnet.CapsNet(dataclasses.replace(network_config, routing_algorithm=routing))
    load_best(model, checkpoints)
    size = (network_config.image_height, network_config.image_width)
    signatures.export(
        model,
        tft.TFTransformOutput(fn_args.transform_output),
        fn_args.serving_model_dir,
        warmup_images=dataset.load_examples(fn_args.eval_files, *size).images[
            : memory.images_at_once(network_config, most=_WARMUP_IMAGES)
        ],
    )
    checkpoints.finish()
