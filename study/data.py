"""The images of the study: those of the pipeline, and sets that Beam makes from them once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tfx import v1 as tfx

from capsmodel.data.dataset import LabeledImages, load_examples
from components.datasets.tfds_dataset import image_dataset_info
from components.derived_examples.component import DerivedExamples
from pipeline import (
    configs,
    console,
    data_nodes,
    image_settings,
    metadata,
    results,
    slices,
    var_folder,
)
from pipeline.beam_options import beam_options
from pipeline.code_version import version_of
from pipeline.exclusive_runner import ExclusiveRunner
from pipeline.settings import Config
from study.overlap.component import OverlappingPairs
from study.plan import Training

# Of every choice in the derived sets: another one would make other pictures of the same images.
_SEED = 1

# Side and shift of the sets of shifted digits, see Training.
_SHIFTED = (40, 6)
# With the shift behind it, the node that writes pairs of test images.
_PAIRS = 'Pairs'

_DERIVED = {
    'Shifted': 'study.sets.shifted.shifted',
    'Affine': 'study.sets.affine.affine',
}

# What the outputs with images are called.
_OUTPUTS = ('transformed_examples', 'derived_examples', 'derived')


class Sets:
    """Where the images of a dataset are.

    Args:
        folders: The folder that each node wrote its images to.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def pattern(self, split: str, node: str = 'Transform') -> str:
        """The files of a split: `train`, `eval` or `test`.

        Args:
            split: Its name.
            node: The node that wrote it.
        """
        return os.path.join(self._folders[node], f'Split-{split}', '*.gz')

    def pairs(self, shift: int) -> str:
        """The files of the pairs of test images whose digits are shifted by up to `shift`."""
        return self.pattern('test', f'{_PAIRS}{shift}')

    def images(self, split: str, side: int, node: str = 'Transform') -> LabeledImages:
        """The images of a split, uint8 [n, side, side]."""
        return load_examples([self.pattern(split, node)], (side, side))


def config_of(dataset: str, var: str, *, is_small: bool) -> Config:
    """The settings of the pipeline that makes the sets of a dataset."""
    return configs.from_environment(
        {
            'DATASET': dataset,
            'VAR': var,
            'PRESET': 'tiny' if is_small else 'quick',
            'PIPELINE_NAME': f'study-{dataset}{"-small" if is_small else ""}',
        }
    )


def make(config: Config, trainings: Iterable[Training]) -> Sets:
    """Runs the pipeline's nodes up to Transform, and those that derive sets; or finds them cached.

    Args:
        config: See `config_of`.
        trainings: What the images are for.

    Raises:
        DatasetError: The dataset is not prepared, or cannot be used.
        NodeFailed: A node failed.
    """
    needed = {(training.side, training.shift, training.digits) for training in trainings}
    with var_folder.entered(config) as inside:
        pipeline = _pipeline(inside, needed)
        lines = console.node_lines(config, len(pipeline.components), is_summarized=False)
        ExclusiveRunner(config, lines).run(pipeline)
    folders = results.output_folders(config)
    return Sets({node: path for (node, output), path in folders.items() if output in _OUTPUTS})


def _pipeline(config: Config, needed: set[tuple[int, int, int]]) -> tfx.dsl.Pipeline:
    dataset = image_dataset_info(config.dataset, config.data_dir, config.dataset_version or None)
    config = image_settings.choose(slices.choose(config), dataset)
    data = data_nodes.create(config, dataset, None, None, transformed=('train', 'eval', 'test'))
    transformed = data.transform.outputs['transformed_examples']
    derived: list[Any] = []
    if (*_SHIFTED, 1) in needed:
        for name, function in _DERIVED.items():
            derived.append(
                DerivedExamples(
                    examples=transformed,
                    splits=json.dumps(['eval', 'test']),
                    function=function,
                    custom_config=json.dumps(
                        {
                            'seed': _SEED,
                            'image_height': config.image_height,
                            'image_width': config.image_width,
                        }
                    ),
                    code_version=version_of(
                        'components.derived_examples.component', function.rpartition('.')[0]
                    ),
                ).with_id(name)
            )
    for shift in sorted({shift for _, shift, digits in needed if digits == 2}):
        pairs = OverlappingPairs(
            examples=transformed,
            split='test',
            shift=shift,
            seed=_SEED,
            code_version=version_of('study.overlap.component'),
        )
        derived.append(pairs.with_id(f'{_PAIRS}{shift}'))
    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=config.pipeline_root,
        metadata_connection_config=metadata.connection_config(config),
        components=[*filter(None, data), *derived],
        enable_cache=True,
        beam_pipeline_args=beam_options(config.beam_args),
    )
