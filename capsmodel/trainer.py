"""The function that TFX's Trainer calls."""

from __future__ import annotations

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from capsmodel import guard, model_facts, signatures
from capsmodel.data import class_names, dataset
from capsmodel.networks import memory, table
from capsmodel.summaries.console import say
from capsmodel.training import launcher
from capsmodel.training.errors import report_full_disk
from capsmodel.training.request import TrainingRequest
from capsmodel.training.state import load_best

_WARMUP_IMAGES = 8


def run_fn(fn_args: FnArgs) -> None:
    """Trains on the transformed examples and exports the best epoch's network.

    `fn_args.custom_config` holds the fields of TrainingRequest that TFX does not know, `framing`,
    by which the Transform graph frames pictures, and those of TrainerSettings: `strategy`,
    `guard_false_alarms`, and `warm_start`, whether to start from the weights of
    `fn_args.base_model`, if there is one. For a network that is made of pushed models, `members`
    lists pairs of a model's folder and its fingerprint. The schema has the classes' names. The
    results of a Tuner are in `fn_args.hyperparameters`.
    """
    settings = dict(fn_args.custom_config)
    names = class_names.read(fn_args.schema_path)
    framing = settings.pop('framing')
    strategy = settings.pop('strategy')
    false_alarms = settings.pop('guard_false_alarms')
    network = settings['network']['network']
    is_warm = settings.pop('warm_start')
    weights_from = [folder for folder, _ in settings.pop('members')]
    if is_warm:
        base_model = _base_model(fn_args.base_model, names, network)
        weights_from = [base_model] if base_model else []
    request = TrainingRequest(
        train_files=fn_args.train_files,
        eval_files=fn_args.eval_files,
        log_dir=fn_args.model_run_dir,
        class_names=names,
        weights_from=weights_from,
        **settings,
    )
    if fn_args.hyperparameters:
        request = request.with_values(fn_args.hyperparameters['values'])
    checkpoints = launcher.train(request, strategy)
    model = table.create(request.network.exported)
    load_best(model, checkpoints)
    config = model.config
    with report_full_disk():
        evaluation_data = dataset.load_examples(
            fn_args.eval_files, config.uncropped_shape, config.crop
        )
    images = evaluation_data.images
    signatures.export(
        model,
        tft.TFTransformOutput(fn_args.transform_output),
        fn_args.serving_model_dir,
        warmup_images=images[: memory.images_at_once(model, most=_WARMUP_IMAGES)],
        guard_thresholds=guard.thresholds(model, images, false_alarms),
        class_names=names,
        framing=framing,
    )
    checkpoints.finish()


def _base_model(last_blessed: str | None, names: list[str], network: str) -> str:
    """Says what training starts from. The result is the folder of that model, or empty."""
    if not last_blessed:
        say('training starts from random weights: no model is blessed')
        return ''
    facts = model_facts.read(last_blessed)
    if facts and facts['network'] != network:
        say('training starts from random weights: the last blessed model is another network')
        return ''
    if facts and facts['class_names'] != names:
        say('training starts from random weights: the last blessed model has other classes')
        return ''
    say('training starts from the last blessed model')
    return last_blessed
