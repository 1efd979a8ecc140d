"""The pipeline: which components there are, and what each gets from which."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from capsmodel import settings
from capsmodel.data import choices
from capsmodel.networks.table import NETWORKS
from capsmodel.training import checkpoints
from capsmodel.training.settings import TrainerSettings, TrainingConfig
from components.baseline_strategy import LatestOtherBlessedModelStrategy
from components.checkpoint_removal import CheckpointRemoval
from components.datasets import image_folder
from components.datasets.image_folder import ImageFolder
from components.datasets.info import ImageDatasetInfo
from components.datasets.tfds_dataset import image_dataset_info
from components.evaluation_gate import EvaluationGate
from components.infra_check import InfraCheck
from components.model_card import ModelCard
from components.picture_kinds import drawn_examples
from components.picture_kinds.component import PictureKinds
from components.picture_kinds.kinds import KINDS
from components.pusher import Pusher
from pipeline import (
    card_settings,
    comparisons,
    data_nodes,
    evaluation,
    image_settings,
    members,
    metadata,
    own_images,
    slices,
)
from pipeline.beam_options import beam_options
from pipeline.code_version import code_version
from pipeline.data_nodes import DataNodes
from pipeline.presets import MOST_PICTURES
from pipeline.settings import Config


def latest_other_blessed_model(
    node_id: str, **candidate: tfx.types.BaseChannel
) -> tfx.dsl.Resolver:
    """The node that finds the model that was blessed last and can be served.

    Args:
        node_id: The node's.
        **candidate: As `candidate`, a model that is left aside.
    """
    return tfx.dsl.Resolver(
        strategy_class=LatestOtherBlessedModelStrategy,
        **candidate,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
        infra_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.InfraBlessing),
    ).with_id(node_id)


def create_pipeline(
    config: Config,
    blessed_model: Callable[..., tfx.dsl.Resolver] = latest_other_blessed_model,
    earlier_statistics: comparisons.EarlierStatistics | None = comparisons.earlier_statistics,
    folder: ImageFolder | None = None,
    members_are_here: bool = True,
) -> tfx.dsl.Pipeline:
    """From a prepared dataset, or a folder of pictures, to a pushed model.

    Args:
        config: The settings.
        blessed_model: Makes the nodes that find earlier models, for a runner that cannot run those
            of `latest_other_blessed_model`.
        earlier_statistics: Makes the node that finds the statistics of an earlier run, with which
            those of this run are compared; None: they are not compared.
        folder: What is in the folder IMAGES; by default it is looked at now.
        members_are_here: False: the nodes are not to be run, and MEMBERS is not looked at.

    Raises:
        DatasetError: TFDS has no such dataset, it has no images with classes, or it is prepared
            and cannot be sliced as the settings say; or the folder IMAGES cannot be used.
        SettingError: The images have no size of their own, and the settings give none; or they
            would be shifted out of sight; or METADATA is no address; or MEMBERS cannot be used.
        ValueError: The network cannot be built for such images.
    """
    given = config
    if config.images:
        folder = folder or image_folder.read(config.images)
        dataset, config = own_images.info(folder), own_images.choose(config, folder)
    else:
        dataset = image_dataset_info(
            config.dataset, config.data_dir, config.dataset_version or None
        )
        config = slices.choose(config)
    config = image_settings.choose(config, dataset)
    parts = members.read(config, dataset, members_are_here)
    data = data_nodes.create(config, dataset, folder, earlier_statistics)
    training = _training_nodes(config, dataset, data, blessed_model, parts)
    gates = _gate_nodes(config, dataset, data, training, blessed_model, given)
    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=config.pipeline_root,
        metadata_connection_config=metadata.connection_config(config),
        components=[*filter(None, data), *training, *gates],
        enable_cache=True,
        beam_pipeline_args=beam_options(config.beam_args),
    )


def _training_nodes(
    config: Config,
    dataset: ImageDatasetInfo,
    data: DataNodes,
    blessed_model: Callable[..., tfx.dsl.Resolver],
    parts: Sequence[members.Member],
) -> list[BaseNode]:
    """The Trainer, and before it the nodes that TUNER and WARM_START add."""
    training = settings.filled(TrainingConfig, config)
    how_to_train = {
        **dataclasses.asdict(settings.filled(TrainerSettings, config)),
        'network': dataclasses.asdict(
            settings.filled(
                NETWORKS[config.network].config,
                config,
                num_classes=dataset.num_classes,
                image_channels=config.channels,
                crop=image_settings.crop(config),
                **({'members': tuple(part.network for part in parts)} if config.members else {}),
            )
        ),
        'training': dataclasses.asdict(training),
        'checkpoint_root': config.checkpoint_dir,
        'framing': config.framing,
    }
    inputs = {
        'examples': data.transform.outputs['transformed_examples'],
        'transform_graph': data.transform.outputs['transform_graph'],
        'train_args': tfx.proto.TrainArgs(splits=['train']),
        'eval_args': tfx.proto.EvalArgs(splits=['eval']),
    }
    tuner = tfx.components.Tuner(
        tuner_fn='capsmodel.tuner.tuner_fn',
        custom_config={
            **how_to_train,
            'training': dataclasses.asdict(
                dataclasses.replace(training, epochs=config.tuner_epochs)
            ),
            'profile_steps': [],
            'warm_start': False,
            'trials': config.tuner_trials,
            'code_version': code_version('Tuner'),
        },
        **inputs,
    )
    blessed_before = blessed_model('WarmStartResolver')
    trainer = tfx.components.Trainer(
        run_fn='capsmodel.trainer.run_fn',
        schema=data.schema_gen.outputs['schema'],
        base_model=blessed_before.outputs['model'] if config.warm_start else None,
        hyperparameters=tuner.outputs['best_hyperparameters'] if config.tuner else None,
        custom_config={
            **how_to_train,
            'members': [[part.folder, part.fingerprint] for part in parts],
            'code_version': code_version('Trainer'),
        },
        **inputs,
    )
    return [
        *([tuner] if config.tuner else []),
        *([blessed_before] if config.warm_start else []),
        trainer,
    ]


def _picture_kinds(config: Config, data: DataNodes) -> BaseNode:
    """Draws test images again, when the gate behind them has found nothing wrong."""
    picture_kinds = PictureKinds(
        examples=data.example_gen.outputs['examples'],
        framing='capsmodel.data.images.framed',
        custom_config=json.dumps(
            {'image_height': config.image_height, 'image_width': config.image_width}
        ),
        summary_dir=os.path.join(config.tensorboard_dir, 'pictures'),
        most_pictures=MOST_PICTURES.get(config.preset, drawn_examples.MOST_PICTURES),
        code_version=code_version('PictureKinds'),
    )
    picture_kinds.add_upstream_node(data.anomaly_gate)
    return picture_kinds


def _gate_nodes(
    config: Config,
    dataset: ImageDatasetInfo,
    data: DataNodes,
    training: Sequence[BaseNode],
    blessed_model: Callable[..., tfx.dsl.Resolver],
    given: Config,
) -> list[BaseNode]:
    """What judges the model, describes it, and pushes it where it is good enough."""
    *_, trainer = training
    model = trainer.outputs['model']
    baseline = blessed_model('BaselineResolver', candidate=model)
    drawn = _picture_kinds(config, data) if config.framing == choices.STROKES else None
    evaluator = tfx.components.Evaluator(
        examples=(
            drawn.outputs['test_examples'] if drawn else data.example_gen.outputs['examples']
        ),
        example_splits=['test'],
        model=model,
        baseline_model=baseline.outputs['model'],
        eval_config=evaluation.eval_config(
            config, dataset.num_classes, tuple(KINDS) if drawn else (), code_version('Evaluator')
        ),
    )
    card = ModelCard(
        model=model,
        model_run=trainer.outputs['model_run'],
        examples=data.example_gen.outputs['examples'],
        evaluation=evaluator.outputs['evaluation'],
        blessing=evaluator.outputs['blessing'],
        hyperparameters=training[0].outputs['best_hyperparameters'] if config.tuner else None,
        settings=card_settings.described(given, config),
        reliability='capsmodel.calibration.Reliability',
        code_version=code_version('ModelCard'),
    )
    evaluation_gate = EvaluationGate(
        evaluation=evaluator.outputs['evaluation'],
        blessing=evaluator.outputs['blessing'],
        class_names=json.dumps(dataset.class_names),
        code_version=code_version('EvaluationGate'),
    )
    # A model that the gate refuses has a card, too.
    evaluation_gate.add_upstream_node(card)
    infra_check = InfraCheck(
        model=model,
        timeout=config.infra_check_timeout,
        code_version=code_version('InfraCheck'),
    )
    infra_check.add_upstream_node(evaluation_gate)
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs['blessing'],
        infra_blessing=infra_check.outputs['blessing'],
        model_card=card.outputs['card'],
        base_directory=config.serving_model_dir,
    )
    checkpoint_removal = CheckpointRemoval(
        pushed_model=pusher.outputs['pushed_model'],
        finished=os.path.join(config.checkpoint_dir, '*', checkpoints.FINISHED),
        code_version=code_version('CheckpointRemoval'),
    )
    return [
        baseline,
        *([drawn] if drawn else []),
        evaluator,
        card,
        evaluation_gate,
        infra_check,
        pusher,
        checkpoint_removal,
    ]
