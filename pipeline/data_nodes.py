"""The nodes before the training: they read, check and transform the images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.anomaly_gate import AnomalyGate
from components.datasets.image_folder import ImageFolder
from components.datasets.info import ImageDatasetInfo
from components.image_folder_example_gen import ImageFolderExampleGen
from components.tfds_example_gen import TfdsExampleGen
from pipeline import comparisons, schema
from pipeline.code_version import code_version
from pipeline.settings import Config


class DataNodes(NamedTuple):
    """From the prepared dataset to transformed examples, in the order in which they run."""

    example_gen: BaseNode
    statistics_gen: BaseNode
    schema_gen: BaseNode
    example_validator: BaseNode
    split_comparison: BaseNode
    earlier_statistics: BaseNode | None
    run_comparison: BaseNode | None
    anomaly_gate: BaseNode
    transform: BaseNode


def create(
    config: Config,
    dataset: ImageDatasetInfo,
    folder: ImageFolder | None,
    earlier_statistics: comparisons.EarlierStatistics | None,
    transformed: Sequence[str] = ('train', 'eval'),
) -> DataNodes:
    """The nodes for the data that the settings name.

    Args:
        config: The settings, with nothing left to be chosen.
        dataset: What is known of the dataset.
        folder: What is in the folder IMAGES, if the images come from there.
        earlier_statistics: See `comparisons.create`.
        transformed: The splits that Transform writes. A pipeline does without the test images: the
            Evaluator reads the raw ones, and the exported model transforms them itself.
    """
    image_shape = {
        'image_height': config.image_height,
        'image_width': config.image_width,
        'channels': config.channels,
    }
    example_gen = _example_gen(config, image_shape, folder)
    examples = example_gen.outputs['examples']
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    statistics = statistics_gen.outputs['statistics']
    schema_file = schema.write_schema(
        dataset.class_names, config.schema_dir, config.schema_file or None
    )
    schema_gen = tfx.components.ImportSchemaGen(schema_file=schema_file)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics, schema=schema_gen.outputs['schema']
    )
    comparable = comparisons.comparable_as(schema_file, **image_shape)
    compared = comparisons.create(statistics, schema_file, comparable, earlier_statistics)
    anomaly_gate = AnomalyGate(
        anomalies=example_validator.outputs['anomalies'],
        split_comparison=compared.of_splits.outputs['anomalies'],
        run_comparison=compared.of_runs.outputs['anomalies'] if compared.of_runs else None,
        statistics=statistics,
        examples=examples,
        class_names=json.dumps(dataset.class_names),
        min_test_images=config.min_test_images,
        min_class_images=config.min_class_images,
        judging_splits=json.dumps(['test'] if config.pick == 'last' else ['eval', 'test']),
        comparable=comparable,
        code_version=code_version('AnomalyGate'),
    )
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema_gen.outputs['schema'],
        preprocessing_fn='capsmodel.data.preprocessing.preprocessing_fn',
        splits_config=tfx.proto.SplitsConfig(analyze=['train'], transform=[*transformed]),
        disable_statistics=True,
        custom_config={
            **image_shape,
            'framing': config.framing,
            'code_version': code_version('Transform'),
        },
    )
    transform.add_upstream_node(anomaly_gate)
    return DataNodes(
        example_gen,
        statistics_gen,
        schema_gen,
        example_validator,
        *compared,
        anomaly_gate,
        transform,
    )


def _example_gen(
    config: Config, image_shape: Mapping[str, int], folder: ImageFolder | None
) -> BaseNode:
    """Reads the folder if one is given, otherwise the dataset of TFDS."""
    checked: dict[str, Any] = {
        'image_check': 'capsmodel.data.image_facts.check',
        'custom_config': image_shape,
        'max_bad_images': config.max_bad_images,
    }
    if folder:
        return ImageFolderExampleGen(
            folder=folder.folder,
            fingerprint=folder.fingerprint,
            code_version=code_version('ImageFolderExampleGen'),
            **checked,
        )
    return TfdsExampleGen(
        dataset=config.dataset,
        version=config.dataset_version or None,
        data_dir=config.data_dir,
        splits={'train': config.train_split, 'eval': config.eval_split, 'test': config.test_split},
        code_version=code_version('TfdsExampleGen'),
        **checked,
    )
