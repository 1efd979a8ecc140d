"""Every setting of the pipeline, with its default, its unit and why.

Those of the network stand in capsmodel/networks/settings.py, those of the training in
capsmodel/training/settings.py, and all others here.
"""

from __future__ import annotations

import os

from pydantic.dataclasses import dataclass

from capsmodel.data.choices import STROKES, WHOLE
from capsmodel.networks.table import NetworkSettings
from capsmodel.settings import STRICT, Settings, setting
from capsmodel.training.settings import TrainerSettings, TrainingSettings, TunerSettings
from pipeline.presets import PRESETS


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
        'TFDS slice that judges the model and no more; empty: test, of a dataset without test its '
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
        'the fewest test images: on fewer, an accuracy says little, and the run stops before the '
        'training',
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
        'for that preset, and with a hash where it had to be cut to 63 characters',
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
    def request_log_dir(self) -> str:
        """Where `make serve LOG_REQUESTS=...` keeps requests and answers."""
        return os.path.join(self.var, 'requests', self.pipeline_name)

    @property
    def checkpoint_dir(self) -> str:
        """Where trainings keep their checkpoints; removed when their model is pushed."""
        return os.path.join(self.var, 'checkpoints', self.pipeline_name)

    @property
    def tensorboard_dir(self) -> str:
        """Where Trainer writes TensorBoard's files, one folder a run."""
        return os.path.join(self.pipeline_root, 'Trainer', 'model_run')
