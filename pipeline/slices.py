"""The slices of the dataset that a run takes: those that are set, or what its sizes suggest."""

from __future__ import annotations

import dataclasses

from components.datasets.slice_rules import check_slices, default_slices, number_of_images
from components.datasets.tfds_dataset import is_prepared, load_builder
from pipeline import own_images
from pipeline.presets import MOST_IMAGES
from pipeline.settings import Config

# Where the dataset is not prepared yet, as when a pipeline is compiled for a cluster.
_SIZES_OF_MNIST = {'train': 60_000, 'test': 10_000}


def choose(config: Config) -> Config:
    """Fills in the slices that no setting names, and checks all of them.

    The sizes are the prepared dataset's. As long as it is not prepared they are taken to be those
    of MNIST, and nothing is checked: TfdsExampleGen does it when it runs.

    Raises:
        DatasetError: TFDS has no such dataset, or there are slices that cannot be used: the message
            names all of them.
    """
    builder = load_builder(config.dataset, config.data_dir, config.dataset_version or None)
    sizes = _SIZES_OF_MNIST
    if is_prepared(builder):
        sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    default = default_slices(sizes, MOST_IMAGES.get(config.preset))
    slices = {
        purpose: getattr(config, f'{purpose}_split') or default.get(purpose, '')
        for purpose in ('train', 'eval', 'test')
    }
    if is_prepared(builder):
        may_share = ('train', 'eval') if config.pick == 'last' else ()
        check_slices(builder, slices, config.min_test_images, may_share)
    return dataclasses.replace(
        config, train_split=slices['train'], eval_split=slices['eval'], test_split=slices['test']
    )


def chosen(config: Config) -> str:
    """Says which slices of a prepared dataset `choose` takes where no setting does.

    Returns:
        A line with each of them; '' where all are set, and of MNIST, of which they are known. Of a
        folder of pictures, what it holds.

    Raises:
        DatasetError: As `choose`.
    """
    if config.images:
        return own_images.heading(config)
    settled = choose(config)
    builder = load_builder(config.dataset, config.data_dir, config.dataset_version or None)
    slices = [
        f'{name.upper()}={pattern} ({number_of_images(builder, pattern):,} images)'
        for name in ('train_split', 'eval_split', 'test_split')
        if not getattr(config, name) and is_prepared(builder)
        for pattern in [getattr(settled, name)]
    ]
    if config.dataset == 'mnist' or not slices:
        return ''
    return f'Slices chosen of {config.dataset}: {", ".join(slices)}'
