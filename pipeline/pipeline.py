"""The pipeline: which components there are, and what each gets from which."""

from __future__ import annotations

import os
from collections.abc import Callable

from tfx import v1 as tfx

from capsmodel.networks.capsnet import NetworkConfig
from capsmodel.training import checkpoints
from capsmodel.training.loop import TrainingConfig
from components.anomaly_gate import AnomalyGate
from components.baseline_strategy import LatestOtherBlessedModelStrategy
from components.checkpoint_removal import CheckpointRemoval
from components.datasets.tfds_dataset import image_dataset_info
from components.evaluation_gate import EvaluationGate
from components.infra_check import InfraCheck
from components.pusher import Pusher
from components.tfds_example_gen import TfdsExampleGen
from pipeline import evaluation, metadata, schema, slices
from pipeline.beam_options import beam_options
from pipeline.code_version import IMAGE_CHECK, TRANSFORM, code_version
from pipeline.configs import Config, SettingError


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
) -> tfx.dsl.Pipeline:
    """From a prepared dataset to a pushed model.

    Args:
        config: The settings.
        blessed_model: Makes the nodes that find earlier models, for a runner that cannot run those
            of `latest_other_blessed_model`.

    Raises:
        DatasetError: TFDS has no such dataset, it is none of images with classes, or it is prepared
            and cannot be sliced as the settings say.
        SettingError: The images have no size of their own, and the settings give none; or they
            would be shifted out of sight; or METADATA is no address.
        ValueError: The network cannot be built for such images.
    """
    dataset = image_dataset_info(config.dataset, config.data_dir, config.dataset_version or None)
    config = slices.choose(config)
    height, width = config.image_height or dataset.height, config.image_width or dataset.width
    if not (height and width):
        raise SettingError(
            f'The images of {config.dataset} differ in size: set IMAGE_HEIGHT and IMAGE_WIDTH to '
            'what they are to be brought to'
        )
    if config.max_shift >= min(height, width):
        raise SettingError(
            f'MAX_SHIFT is {config.max_shift}: it must be less than the {height} x {width} pixels '
            'of an image'
        )
    network = NetworkConfig(
        image_height=height,
        image_width=width,
        num_classes=dataset.num_classes,
        conv1_filters=config.conv1_filters,
        primary_channels=config.primary_channels,
        primary_dim=config.primary_dim,
        digit_dim=config.digit_dim,
        routing_iterations=config.routing_iterations,
        routing_gradient=config.routing_gradient,
        routing_algorithm=config.routing_algorithm,
        primary_algorithm=config.primary_algorithm,
        decoder=config.decoder,
        decoder_units=config.decoder_units,
        precision=config.precision,
    )
    training = TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        learning_rate_decay=config.learning_rate_decay,
        reconstruction_weight=config.reconstruction_weight,
        max_shift=config.max_shift,
        seed=config.seed,
        batch_size_per_replica=config.batch_size_per_replica,
        learning_rate_scaling=config.learning_rate_scaling,
        ema_decay=config.ema_decay,
    )

    example_gen = TfdsExampleGen(
        dataset=config.dataset,
        version=config.dataset_version or None,
        data_dir=config.data_dir,
        splits={'train': config.train_split, 'eval': config.eval_split, 'test': config.test_split},
        image_check='capsmodel.data.images.why_undecodable',
        custom_config={'image_height': network.image_height, 'image_width': network.image_width},
        max_bad_images=config.max_bad_images,
        code_version=code_version(
            'components.tfds_example_gen',
            'components.datasets.tfds_dataset',
            'components.datasets.slice_rules',
            *IMAGE_CHECK,
        ),
    )
    examples = example_gen.outputs['examples']
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    schema_gen = tfx.components.ImportSchemaGen(
        schema_file=schema.write_schema(
            dataset.num_classes, config.schema_dir, config.schema_file or None
        )
    )
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs['statistics'], schema=schema_gen.outputs['schema']
    )
    anomaly_gate = AnomalyGate(
        anomalies=example_validator.outputs['anomalies'],
        examples=examples,
        num_classes=dataset.num_classes,
        min_test_images=config.min_test_images,
        code_version=code_version('components.anomaly_gate'),
    )

    transform = tfx.components.Transform(
        examples=examples,
        schema=schema_gen.outputs['schema'],
        preprocessing_fn='capsmodel.data.preprocessing.preprocessing_fn',
        # The Evaluator reads the raw test images: the exported model transforms them itself.
        splits_config=tfx.proto.SplitsConfig(analyze=['train'], transform=['train', 'eval']),
        disable_statistics=True,
        custom_config={
            'image_height': network.image_height,
            'image_width': network.image_width,
            'invert_light_background': config.invert_light_background,
            'code_version': code_version(*TRANSFORM),
        },
    )
    transform.add_upstream_node(anomaly_gate)
    how_to_train = {
        'network': network.to_json_dict(),
        'training': training.to_json_dict(),
        'strategy': config.strategy,
        'checkpoint_root': config.checkpoint_dir,
        'checkpoint_steps': config.checkpoint_steps,
        'eval_batch_size': config.eval_batch_size,
        'deterministic': config.deterministic,
        'profile_steps': list(config.profile_steps),
        'code_version': code_version('capsmodel'),
    }
    tuner = tfx.components.Tuner(
        tuner_fn='capsmodel.tuner.tuner_fn',
        examples=transform.outputs['transformed_examples'],
        transform_graph=transform.outputs['transform_graph'],
        train_args=tfx.proto.TrainArgs(splits=['train']),
        eval_args=tfx.proto.EvalArgs(splits=['eval']),
        custom_config={
            **how_to_train,
            'training': {**training.to_json_dict(), 'epochs': config.tuner_epochs},
            'profile_steps': [],
            'trials': config.tuner_trials,
        },
    )
    blessed_before = blessed_model('WarmStartResolver')
    trainer = tfx.components.Trainer(
        run_fn='capsmodel.trainer.run_fn',
        examples=transform.outputs['transformed_examples'],
        transform_graph=transform.outputs['transform_graph'],
        schema=schema_gen.outputs['schema'],
        train_args=tfx.proto.TrainArgs(splits=['train']),
        eval_args=tfx.proto.EvalArgs(splits=['eval']),
        base_model=blessed_before.outputs['model'] if config.warm_start else None,
        hyperparameters=tuner.outputs['best_hyperparameters'] if config.tuner else None,
        custom_config={**how_to_train, 'warm_start': config.warm_start},
    )

    baseline = blessed_model('BaselineResolver', candidate=trainer.outputs['model'])
    evaluator = tfx.components.Evaluator(
        examples=examples,
        example_splits=['test'],
        model=trainer.outputs['model'],
        baseline_model=baseline.outputs['model'],
        eval_config=evaluation.eval_config(config, dataset.num_classes),
    )
    evaluation_gate = EvaluationGate(
        evaluation=evaluator.outputs['evaluation'],
        blessing=evaluator.outputs['blessing'],
        code_version=code_version('components.evaluation_gate'),
    )
    infra_check = InfraCheck(
        model=trainer.outputs['model'],
        timeout=config.infra_check_timeout,
        code_version=code_version('components.infra_check'),
    )
    infra_check.add_upstream_node(evaluation_gate)
    pusher = Pusher(
        model=trainer.outputs['model'],
        model_blessing=evaluator.outputs['blessing'],
        infra_blessing=infra_check.outputs['blessing'],
        base_directory=config.serving_model_dir,
    )
    checkpoint_removal = CheckpointRemoval(
        pushed_model=pusher.outputs['pushed_model'],
        finished=os.path.join(config.checkpoint_dir, '*', checkpoints.FINISHED),
        code_version=code_version('components.checkpoint_removal'),
    )

    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=config.pipeline_root,
        metadata_connection_config=metadata.connection_config(config),
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            example_validator,
            anomaly_gate,
            transform,
            *([tuner] if config.tuner else []),
            *([blessed_before] if config.warm_start else []),
            trainer,
            baseline,
            evaluator,
            evaluation_gate,
            infra_check,
            pusher,
            checkpoint_removal,
        ],
        enable_cache=True,
        beam_pipeline_args=beam_options(config.beam_args),
    )
