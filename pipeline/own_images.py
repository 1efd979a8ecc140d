"""What follows from a folder of one's own pictures, which IMAGES names."""

from __future__ import annotations

import dataclasses
import math

from components.datasets import image_folder
from components.datasets.folder_listing import printable
from components.datasets.image_folder import SPLITS, ImageFolder
from components.datasets.info import ImageDatasetInfo
from pipeline import configs, image_settings
from pipeline.presets import LARGEST_OF_FOLDER, SMALLEST_OF_FOLDER
from pipeline.settings import Config

# Steps of a training whose EPOCHS nobody has set, so that a few hundred pictures, too, are seen
# often enough.
_STEPS = 2000
# Names in a line for a person.
_NAMED = 10


def choose(config: Config, folder: ImageFolder) -> Config:
    """Fills in EPOCHS, and the learning rate's decay over them, where EPOCHS is 0."""
    if config.epochs:
        return config
    epochs = math.ceil(_STEPS * config.batch_size / max(folder.images('train'), 1))
    return dataclasses.replace(
        config, epochs=epochs, learning_rate_decay=config.learning_rate_decay ** (1 / epochs)
    )


def info(folder: ImageFolder) -> ImageDatasetInfo:
    """The facts of the images; raises DatasetError if none of those looked at can be read."""
    return folder.info(most=LARGEST_OF_FOLDER, least=SMALLEST_OF_FOLDER)


def heading(config: Config) -> str:
    """Says what the folder holds and what is made of it: lines for a person.

    Raises:
        DatasetError: The folder cannot be used.
    """
    folder = image_folder.read(config.images)
    config = image_settings.choose(choose(config, folder), info(folder))
    height, width = config.image_height, config.image_width
    colours = {1: 'grey', 3: 'in colour'}[config.channels]
    about = 'about ' * bool(folder.taken_from_train)
    splits = ', '.join(f'{folder.images(split):,} {split}' for split in SPLITS)
    lines = [
        f'Pictures of {printable(folder.folder)}: {len(folder.pictures):,} in '
        f'{len(folder.class_names)} classes ({_named(folder.class_names)}); {about}{splits}',
        f'The network gets them {colours} as {height} x {width} pixels (height x width), for '
        f'{config.epochs} epochs',
    ]
    if folder.others:
        count = len(folder.others)
        which = 'file that is no picture' if count == 1 else 'files that are no pictures'
        lines.append(f'Left aside: {count:,} {which}: {_named(folder.others)}')
    has_none = 'decoder' in configs.lacking(config.network)
    if max(height, width) > LARGEST_OF_FOLDER and not (config.decoder or has_none):
        lines.append(
            f'No decoder, since the images have more than {LARGEST_OF_FOLDER} pixels a side: no '
            'reconstructions. DECODER=yes trains one'
        )
    return '\n'.join(lines)


def _named(names: tuple[str, ...]) -> str:
    more = f' and {len(names) - _NAMED:,} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more
