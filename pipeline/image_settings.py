"""The settings of the images that follow from the dataset, where nobody gives them."""

from __future__ import annotations

import dataclasses

from capsmodel.data import augmentation_parts, choices
from components.datasets.info import ImageDatasetInfo
from pipeline.configs import SettingError
from pipeline.settings import Config

# Datasets of digits and letters in the form of MNIST.
_OF_STROKES = ('mnist', 'emnist')


def choose(config: Config, dataset: ImageDatasetInfo) -> Config:
    """Fills in FRAMING and the images' own size and channels, where no setting gives another.

    Args:
        config: The settings.
        dataset: What is known of the dataset.

    Raises:
        SettingError: The images have no size of their own, and the settings give none; or they
            would be shifted out of sight, or crops are larger than they are; or strokes are to be
            found in colour.
    """
    framing = config.framing
    if framing == 'auto':
        name = config.dataset.partition('/')[0]
        framing = choices.STROKES if name in _OF_STROKES else choices.WHOLE
    if framing == choices.STROKES and config.channels == 3:
        raise SettingError(
            'CHANNELS is 3, and FRAMING=strokes reads grey ink: set FRAMING=whole to keep colours'
        )
    config = dataclasses.replace(
        config,
        framing=framing,
        image_height=config.image_height or dataset.height,
        image_width=config.image_width or dataset.width,
        channels=config.channels or (1 if framing == choices.STROKES else dataset.channels),
    )
    if not (config.image_height and config.image_width):
        raise SettingError(
            f'The images of {config.dataset} differ in size: set IMAGE_HEIGHT and IMAGE_WIDTH to '
            'the size that they are brought to'
        )
    size = f'{config.image_height} x {config.image_width} pixels of an image'
    shift = augmentation_parts.parse(config.augmentation).get('shift', 0)
    if shift >= min(config.image_height, config.image_width):
        raise SettingError(
            f'AUGMENTATION is {config.augmentation!r}: its shift must be less than the {size}'
        )
    if crop(config) > min(config.image_height, config.image_width):
        raise SettingError(
            f'AUGMENTATION is {config.augmentation!r}: its crop must be at most the {size}'
        )
    return config


def crop(config: Config) -> int:
    """Rows and columns of what the network sees of an image; 0: all of it."""
    return int(augmentation_parts.parse(config.augmentation).get('crop', 0))
