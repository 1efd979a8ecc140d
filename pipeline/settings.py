"""Every setting of the pipeline, with its default, its unit and why.

Those of the network stand in capsmodel/networks/settings.py, those of the training in
capsmodel/training/settings.py, and all others here.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic.dataclasses import dataclass

from capsmodel.data.choices import STROKES, WHOLE
from capsmodel.networks.table import NETWORKS, NetworkSettings
from capsmodel.settings import STRICT, Settings, setting
from capsmodel.training.settings import TrainerSettings, TrainingSettings, TunerSettings

# What a preset changes in the defaults. One without `network` is for every network, whose entry in
# NETWORKS may change more.
PRESETS: dict[str, dict[str, Any]] = {
    # The same code with networks and data small enough for tests: about ten seconds of training.
    'tiny': {
        'epochs': 6,
        'batch_size': 50,
        'learning_rate': 4e-3,
        'learning_rate_decay': 0.6,
        'min_accuracy': 0.80,
        'min_class_accuracy': 0.50,
        'min_kind_accuracy': 0.6,
        'min_class_images': 1,
        'max_accuracy_drop': 0.05,
    },
    # One pass over all training images: small batches for many steps, a falling learning rate.
    'quick': {'epochs': 1, 'batch_size': 64, 'learning_rate_decay': 0.3},
    # The paper's network, by the schedule that had the lowest loss of those in docs/results.md.
    'paper': {
        'network': 'capsnet',
        'epochs': 50,
        'learning_rate_schedule': 'flat_linear',
        'learning_rate_floor': 0.01,
        'min_accuracy': 0.99,
        'min_class_accuracy': 0.98,
    },
    # A folder of one's own pictures, which may be few: as many steps for 500 as for 50,000.
    'folder': {
        'epochs': 0,
        'batch_size': 16,
        'learning_rate_decay': 0.1,
        'max_bad_images': 0.05,
        'min_accuracy': 0.9,
        'min_class_accuracy': 0.8,
        # About twice the standard error of 95% on 90 images.
        'max_accuracy_drop': 0.05,
        'min_test_images': 50,
    },
    # Section 7 of the paper: 10.6% error on CIFAR-10 with seven such networks together; it does not
    # say what one of them reached. Of others' rebuilt ones, one alone came to 27 to 30%.
    'cifar10': {
        'network': 'capsnet',
        'dataset': 'cifar10',
        'augmentation': 'crop:24,flip,brightness:63,contrast:0.8',
        'standardize': True,
        'none_of_the_above': True,
        'primary_channels': 64,
        'decoder': False,
        'epochs': 50,
        'learning_rate_decay': 0.96,
        'min_accuracy': 0.65,
        'min_class_accuracy': 0.4,
    },
    # Section 7 as well: 4.3% error on SVHN. A pixel has three values here, so that the sum of their
    # errors is about four times that of MNIST, and gets a quarter of the weight.
    'svhn': {
        'network': 'capsnet',
        'dataset': 'svhn_cropped',
        'conv1_filters': 64,
        'primary_channels': 16,
        'primary_dim': 6,
        'digit_dim': 8,
        'reconstruction_weight': 0.000125,
        'epochs': 50,
        'learning_rate_decay': 0.96,
        'min_accuracy': 0.93,
        'min_class_accuracy': 0.88,
    },
    # The recipe of Mazzia, Salvetti, Chiaberge 2021, as far as there are settings for it: theirs
    # draws rotations from a normal distribution that ends at 30 degrees, shifts a digit up to the
    # edge, and erases squares of 4x4 pixels.
    'efficient': {
        'network': 'efficient_capsnet',
        'epochs': 150,
        'batch_size': 16,
        'learning_rate': 5e-4,
        'learning_rate_decay': 0.97,
        'learning_rate_floor': 0.1,
        'augmentation': 'shift:4,rotate:30,scale:0.25',
        'min_accuracy': 0.99,
        'min_class_accuracy': 0.98,
    },
}


def of_preset(preset: str, network: str) -> dict[str, Any]:
    """What a preset changes in the defaults for a network; empty where there is no such preset."""
    of_network = NETWORKS[network].presets.get(preset, {}) if network in NETWORKS else {}
    return {**PRESETS.get(preset, {}), **of_network}


# The longer side, in pixels, that the median picture of IMAGES is scaled down to. A decoder for
# larger ones would have more weights than the rest of the network.
LARGEST_OF_FOLDER = 48
# The smallest side: what the kernels of 9 and 9 positions need.
SMALLEST_OF_FOLDER = 17

# The most images, by preset, of the slices that no setting names.
MOST_IMAGES = {'tiny': {'train': 2000, 'eval': 500, 'test': 1000}}

# The most test images, by preset, that are drawn again as people's pictures: 20 of each kind.
MOST_PICTURES = {'tiny': 240}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataSettings(Settings):
    """Which images are learned from, and how they are read."""

    preset: str = setting(
        'quick',
        'the values that the other settings start from; with IMAGES, the default is folder. '
        'cifar10 and svhn are from section 7 of the paper, which reached 10.6% error with seven '
        'such networks together, and 4.3% with one; efficient is the recipe of Efficient-CapsNet',
        choices=tuple(PRESETS),
    )
    images: str = setting(
        '',
        'a folder of your own pictures, or gs://BUCKET/FOLDER, with a sub-folder for each class, '
        'which may lie in the sub-folders train, eval and test; used instead of DATASET',
    )
    dataset: str = setting(
        'mnist',
        'an image-classification dataset of TensorFlow Datasets, such as emnist/digits; '
        'mnist:3.0.1 sets DATASET_VERSION as well',
    )
    dataset_version: str = setting('', "TFDS's version of it, such as 3.0.1; empty: the newest")
    train_split: str = setting(
        '',
        'TFDS slice that the network learns from; empty: train[:55000] of MNIST, and of another '
        'dataset the part of its split train that the other two slices do not take',
    )
    eval_split: str = setting(
        '',
        'TFDS slice that picks the best epoch; empty: train[55000:] of MNIST, and of another '
        'dataset its split validation or, without one, the last twelfth of train',
    )
    test_split: str = setting(
        '',
        'TFDS slice that only the Evaluator uses; empty: test, of a dataset without test its '
        'split validation, and of one with neither the last sixth of train',
    )
    image_height: int = setting(
        0,
        "pixels; 0: the dataset's own, and of IMAGES the median, scaled so that the longer side "
        'has at most 48',
        at_least=0,
    )
    image_width: int = setting(0, 'pixels; 0: as for IMAGE_HEIGHT', at_least=0)
    channels: int = setting(
        0,
        'the channels that the network sees: 3 are red, green and blue, 1 is grey; 0: those of the '
        'dataset, but 1 if FRAMING is strokes',
        choices=(0, 1, 3),
    )
    framing: str = setting(
        'auto',
        "how the model scales a picture to the network's size: strokes finds the ink of a digit or "
        'a letter and frames it as in MNIST, whole scales the whole picture; auto: strokes for '
        'mnist and emnist. A model keeps the framing that it was trained with',
        choices=('auto', STROKES, WHOLE),
    )
    max_bad_images: float = setting(
        0.0,
        'fraction of the images that the run may leave out because they cannot be decoded; with '
        'more, it stops',
        at_least=0,
        at_most=1,
    )
    min_class_images: int = setting(
        10,
        'the fewest images that each class must have in each split; with fewer, the run stops '
        'before the training. A class without images always stops it',
        at_least=0,
    )
    schema_file: str = setting(
        '',
        'a schema (text proto) instead of the curated one in pipeline/schema; its comparators say '
        'how much splits and runs may differ',
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GateSettings(Settings):
    """What a model must reach. Accuracies are fractions of the test images."""

    min_accuracy: float = setting(
        0.98,
        'the lowest test accuracy that passes; a bound above 1 rejects every model',
        at_least=0,
    )
    min_class_accuracy: float = setting(
        0.95, 'the lowest accuracy that passes on the images of each single class', at_least=0
    )
    min_kind_accuracy: float = setting(
        0.93,
        "the lowest accuracy that passes on the worst kind of people's pictures, which are drawn "
        'from test images unless FRAMING is whole',
        at_least=0,
    )
    max_accuracy_drop: float = setting(
        0.002,
        'how much lower the test accuracy may be than that of the last blessed model: 0.002 is '
        'about twice the standard error of 99% on 10,000 images',
        at_least=0,
    )
    min_test_images: int = setting(
        1000,
        'the fewest test images: on fewer, an accuracy says little, and the model is rejected',
        at_least=0,
    )
    infra_check_timeout: int = setting(
        300,
        'seconds within which the exported model must load and answer',
        at_least=1,
        at_most=86400,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PlaceSettings(Settings):
    """Where things are."""

    pipeline_name: str = setting(
        '',
        'name of the pipeline, under which it keeps baselines and pushed versions; empty: NETWORK, '
        'for other datasets than mnist NETWORK-DATASET, for IMAGES NETWORK-FOLDER, each with -tiny '
        'for that preset',
    )
    var: str = setting('var', 'folder for everything that a run writes')
    pipeline_root: str = setting(
        '',
        "folder of TFX's artifacts, or gs://BUCKET/FOLDER; empty: in VAR, "
        'pipeline_root/PIPELINE_NAME',
    )
    metadata: str = setting(
        '',
        'where the pipeline keeps ML Metadata: mysql://HOST:PORT/DATABASE, with METADATA_USER and '
        'METADATA_PASSWORD in the environment, or grpc://HOST:PORT; empty: an SQLite file in VAR',
    )
    beam_args: str = setting(
        '--runner=FnApiRunner',
        "Apache Beam's options; this runner works inside the process and never downloads",
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(
    PlaceSettings,
    GateSettings,
    TunerSettings,
    TrainerSettings,
    TrainingSettings,
    NetworkSettings,
    DataSettings,
):
    """All settings of one pipeline. Build it with `configs.from_environment` or `from_preset`."""

    @property
    def data_dir(self) -> str:
        """Where TFDS keeps the prepared dataset."""
        return os.path.join(self.var, 'data')

    @property
    def metadata_path(self) -> str:
        """ML Metadata's SQLite file, where METADATA names nothing else."""
        return os.path.join(self.var, 'metadata', 'metadata.db')

    @property
    def serving_model_dir(self) -> str:
        """Where versions are pushed to: what TensorFlow Serving calls the model base path."""
        return os.path.join(self.var, 'serving_model', self.pipeline_name)

    @property
    def schema_dir(self) -> str:
        """Where the curated schema is written with the dataset's number of classes filled in."""
        return os.path.join(self.var, 'schema')

    @property
    def cache_dir(self) -> str:
        """Where libraries may keep what they would otherwise write to the home directory."""
        return os.path.join(self.var, 'cache')

    @property
    def lock_dir(self) -> str:
        """Where the locks are by which processes on this machine wait for each other."""
        return os.path.join(self.var, 'locks')

    @property
    def log_dir(self) -> str:
        """Where logs of runs are kept."""
        return os.path.join(self.var, 'logs')

    @property
    def checkpoint_dir(self) -> str:
        """Where trainings keep their checkpoints; removed when their model is pushed."""
        return os.path.join(self.var, 'checkpoints', self.pipeline_name)

    @property
    def tensorboard_dir(self) -> str:
        """Where Trainer writes TensorBoard's files, one folder a run."""
        return os.path.join(self.pipeline_root, 'Trainer', 'model_run')
