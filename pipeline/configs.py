"""Every setting of the pipeline, with its default, its unit and why.

`python -m pipeline.configs` prints the settings in force. Each can be set by an environment
variable that is the field's name in capitals (`EPOCHS=3 make run` or `make run EPOCHS=3`).
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
import urllib.parse
from collections.abc import Mapping
from typing import Any

from components.datasets.errors import DatasetError
from components.datasets.tfds_dataset import name_and_version


class SettingError(ValueError):
    """A setting has a value that cannot be used: the message is for the person who set it."""


def _setting(
    default: Any,
    why: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    metadata = {'why': why, 'choices': choices, 'at_least': at_least, 'at_most': at_most}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one pipeline. Build it with `from_environment` or `from_preset`."""

    preset: str = _setting('quick', 'the values that the other settings start from')

    # Data.
    dataset: str = _setting(
        'mnist',
        'an image-classification dataset of TensorFlow Datasets, such as emnist/digits; '
        'mnist:3.0.1 sets DATASET_VERSION as well',
    )
    dataset_version: str = _setting('', "TFDS's version of it, such as 3.0.1; empty: the newest")
    train_split: str = _setting(
        '',
        'TFDS slice that is learned from; empty: train[:55000] of MNIST, and of another dataset '
        'what the other two leave of its split train',
    )
    eval_split: str = _setting(
        '',
        'TFDS slice that picks the best epoch; empty: train[55000:] of MNIST, and of another '
        'dataset its split validation, or else the last twelfth of train',
    )
    test_split: str = _setting(
        '',
        'TFDS slice that the Evaluator alone looks at; empty: test, and of a dataset that has '
        'none its split validation, or else the last sixth of train',
    )
    image_height: int = _setting(0, "pixels; 0: the dataset's own", at_least=0)
    image_width: int = _setting(0, "pixels; 0: the dataset's own", at_least=0)
    invert_light_background: bool = _setting(
        True, 'turn an image with a light border into light on dark, as MNIST is'
    )
    max_bad_images: float = _setting(
        0.0,
        'fraction of the images that may be left out because they cannot be decoded; with more '
        'the run stops',
        at_least=0,
        at_most=1,
    )
    schema_file: str = _setting(
        '', 'a schema (text proto) in place of the curated one in pipeline/schema'
    )

    # Network: the defaults are those of Sabour, Frosst, Hinton 2017, section 4.
    conv1_filters: int = _setting(256, 'channels of the first convolution', at_least=1)
    primary_channels: int = _setting(32, 'channels of primary capsules', at_least=1)
    primary_dim: int = _setting(8, 'numbers in a primary capsule', at_least=1)
    digit_dim: int = _setting(16, 'numbers in a digit capsule', at_least=1)
    routing_iterations: int = _setting(3, 'rounds of routing by agreement', at_least=1)
    routing_gradient: str = _setting(
        'all',
        'iterations that the gradient flows through: every one, or the last only',
        choices=('all', 'last'),
    )
    routing_algorithm: str = _setting(
        'matmul',
        'how routing is trained: the same to rounding; fused is for GPUs, where XLA counts a '
        'quarter of the memory traffic, but its time on one is not measured yet',
        choices=('matmul', 'fused', 'reference'),
    )
    primary_algorithm: str = _setting(
        'auto',
        'how the convolution of the primary capsules is computed: the same to rounding; auto takes '
        'winograd on a CPU from 16 images on',
        choices=('auto', 'conv2d', 'winograd'),
    )
    precision: str = _setting(
        'float32',
        'mixed_bfloat16: products in half the bits, for GPUs from Ampere on; no gain on most CPUs',
        choices=('float32', 'mixed_bfloat16'),
    )
    decoder: bool = _setting(True, 'reconstruct the image, as a regularizer')
    decoder_units: tuple[int, ...] = _setting((512, 1024), 'units of the hidden decoder layers')

    # Training.
    epochs: int = _setting(1, 'passes over the training images', at_least=1)
    batch_size: int = _setting(128, 'images a step, all replicas together', at_least=1)
    batch_size_per_replica: int = _setting(
        0, 'images a step of each replica in place of BATCH_SIZE; 0: they share that', at_least=0
    )
    learning_rate: float = _setting(
        1e-3, "Adam's step size at the start, with BATCH_SIZE images a step", at_least=0
    )
    learning_rate_scaling: str = _setting(
        'none',
        'how the learning rate grows with the images a step beyond BATCH_SIZE: linear as in Goyal '
        'et al. 2017, sqrt as in Malladi et al. 2022 for Adam',
        choices=('none', 'linear', 'sqrt'),
    )
    learning_rate_decay: float = _setting(
        0.9, 'factor on the learning rate per epoch, applied smoothly', at_least=0, at_most=1
    )
    reconstruction_weight: float = _setting(
        0.0005, 'weight of the squared reconstruction error beside the margin loss', at_least=0
    )
    ema_decay: float = _setting(
        0.0,
        'decay of the exponential moving average of the weights, which is evaluated and exported '
        'in their place: it averages over some 1 / (1 - EMA_DECAY) steps, to be many fewer than '
        'there are; 0: no average',
        at_least=0,
        at_most=0.99999,
    )
    warm_start: bool = _setting(
        False,
        "start from the last blessed model's weights in place of random ones; each push makes a "
        'new one, so that the same command trains on',
    )
    max_shift: int = _setting(2, 'pixels that a training image is moved by at most', at_least=0)
    seed: int = _setting(
        42,
        'what initial weights, order and augmentation derive from',
        at_least=0,
        at_most=2**32 - 1,
    )
    strategy: str = _setting(
        'auto',
        'where to train: one device, all GPUs of the machine, or the workers that TF_CONFIG names; '
        'auto takes what there is',
        choices=('auto', 'default', 'mirrored', 'multi_worker'),
    )
    tuner: bool = _setting(
        False,
        'search for LEARNING_RATE, LEARNING_RATE_DECAY, RECONSTRUCTION_WEIGHT and '
        'ROUTING_ITERATIONS before training, and train with the best',
    )
    tuner_trials: int = _setting(10, 'settings that the search tries', at_least=1)
    tuner_epochs: int = _setting(1, 'passes over the training images of each trial', at_least=1)
    checkpoint_steps: int = _setting(
        200,
        'steps between two checkpoints, which is what a kill loses at most; 0: one an epoch',
        at_least=0,
    )
    eval_batch_size: int = _setting(
        0,
        'images a step of the evaluation after each epoch, all replicas together; results do not '
        'depend on it; 0: as many as there is memory for, at most 500 a replica',
        at_least=0,
    )
    deterministic: bool = _setting(
        False, 'use deterministic operations only: the same weights to the last bit, but slower'
    )
    profile_steps: tuple[int, ...] = _setting(
        (), "first and last step that TensorFlow's profiler looks at, such as 10,15"
    )

    # Gates. Accuracies are fractions of the test images.
    min_accuracy: float = _setting(
        0.98,
        'test accuracy below which a model is rejected; over 1 rejects every model',
        at_least=0,
    )
    min_class_accuracy: float = _setting(
        0.95, 'the same for the images of each single class', at_least=0
    )
    max_accuracy_drop: float = _setting(
        0.002,
        'test accuracy that a model may lose against the last blessed one: 0.002 is about twice '
        'the standard error of 99% on 10,000 images',
        at_least=0,
    )
    min_test_images: int = _setting(
        1000,
        'test images below which a model is rejected: on few, an accuracy says little',
        at_least=0,
    )
    infra_check_timeout: int = _setting(
        300,
        'seconds in which the exported model must load and answer',
        at_least=1,
        at_most=86400,
    )

    # Where.
    pipeline_name: str = _setting(
        '',
        'name under which baselines are looked up; empty: capsnet, for other datasets than '
        'mnist capsnet-DATASET, with -tiny behind it for that preset',
    )
    var: str = _setting('var', 'folder for everything that a run writes')
    pipeline_root: str = _setting(
        '',
        "folder of TFX's artifacts, or gs://BUCKET/FOLDER; empty: in VAR, "
        'pipeline_root/PIPELINE_NAME',
    )
    metadata: str = _setting(
        '',
        'where ML Metadata is kept: mysql://HOST:PORT/DATABASE, with METADATA_USER and '
        'METADATA_PASSWORD in the environment, or grpc://HOST:PORT; empty: an SQLite file in VAR',
    )
    beam_args: str = _setting(
        '--runner=FnApiRunner',
        "Apache Beam's options; this runner works inside the process and never downloads",
    )

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
        """Where trainings keep what they go on from; removed when their model is pushed."""
        return os.path.join(self.var, 'checkpoints', self.pipeline_name)

    @property
    def tensorboard_dir(self) -> str:
        """Where Trainer writes TensorBoard's files, one folder a run."""
        return os.path.join(self.pipeline_root, 'Trainer', 'model_run')


# What a preset changes in the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    # The same code with a network and data small enough for tests: about ten seconds of training.
    'tiny': {
        'conv1_filters': 32,
        'primary_channels': 8,
        'digit_dim': 8,
        'decoder_units': (64, 128),
        'epochs': 6,
        'batch_size': 50,
        'learning_rate': 4e-3,
        'learning_rate_decay': 0.6,
        'min_accuracy': 0.80,
        'min_class_accuracy': 0.50,
        'max_accuracy_drop': 0.05,
    },
    # One pass over all training images: small batches for many steps, a falling learning rate.
    'quick': {'epochs': 1, 'batch_size': 64, 'learning_rate_decay': 0.3},
    # The paper's network, trained to the end.
    'paper': {'epochs': 50, 'min_accuracy': 0.99, 'min_class_accuracy': 0.98},
}

# It names files and, with a node's name behind it, rows of ML Metadata: 255 characters each.
_LONGEST_PIPELINE_NAME = 100

# The most images, by preset, of the slices that no setting names.
MOST_IMAGES = {'tiny': {'train': 2000, 'eval': 500, 'test': 1000}}

_BOOLEANS = {'1': True, 'true': True, 'yes': True, '0': False, 'false': False, 'no': False}


def from_preset(preset: str, **changes: Any) -> Config:
    """The settings of a preset.

    Args:
        preset: One of PRESETS.
        **changes: Fields of Config that differ from the preset.

    Raises:
        SettingError: An unknown preset, or a value out of its bounds.
    """
    if preset not in PRESETS:
        raise SettingError(f"PRESET is '{preset}': it must be one of {', '.join(PRESETS)}")
    config = Config(**{'preset': preset, **PRESETS[preset], **changes})
    for field in dataclasses.fields(Config):
        _check(field, getattr(config, field.name))
    try:
        dataset, version = name_and_version(config.dataset, config.dataset_version)
    except DatasetError as error:
        raise SettingError(str(error)) from None
    config = dataclasses.replace(config, dataset=dataset, dataset_version=version or '')
    if config.profile_steps and not (
        len(config.profile_steps) == 2 and config.profile_steps[0] <= config.profile_steps[1]
    ):
        raise SettingError(
            f'PROFILE_STEPS is {config.profile_steps}: it must be the first and the last step, '
            'such as 10,15'
        )
    _check_metadata(config.metadata)
    name = config.pipeline_name or _default_name(config)
    if len(name) > _LONGEST_PIPELINE_NAME:
        raise SettingError(
            f"PIPELINE_NAME is '{name[:20]}...' of {len(name)} characters: it may have "
            f'{_LONGEST_PIPELINE_NAME}'
        )
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_.-]*', name):
        raise SettingError(
            f"PIPELINE_NAME is '{name}': it must be of letters, digits, '_', '.' and '-'"
        )
    var = os.path.abspath(os.path.expanduser(config.var))
    root = config.pipeline_root or os.path.join(var, 'pipeline_root', name)
    if '://' not in root:
        root = os.path.abspath(os.path.expanduser(root))
    return dataclasses.replace(config, var=var, pipeline_name=name, pipeline_root=root)


def from_environment(environment: Mapping[str, str] = os.environ) -> Config:
    """The settings that the environment asks for.

    Args:
        environment: Variable names to values; a field's variable is its name in capitals, an empty
            value counts as not set.

    Raises:
        SettingError: A value that cannot be read, or is out of its bounds.
    """
    changes = {
        field.name: _parse(field, environment[field.name.upper()])
        for field in dataclasses.fields(Config)
        if environment.get(field.name.upper())
    }
    return from_preset(changes.pop('preset', Config.preset), **changes)


def _default_name(config: Config) -> str:
    parts = ['capsnet']
    if config.dataset != 'mnist':
        parts.append(re.sub('[/+]', '-', config.dataset))
    if config.preset == 'tiny':
        parts.append('tiny')
    return '-'.join(parts)


def _parse(field: dataclasses.Field, text: str) -> Any:
    default: Any = field.default
    kind = type(default)
    try:
        if kind is bool:
            return _BOOLEANS[text.lower()]
        if kind is tuple:
            return tuple(int(part) for part in text.split(','))
        return kind(text)
    except (KeyError, ValueError):
        wanted = {
            bool: f'one of {", ".join(_BOOLEANS)}',
            tuple: 'whole numbers with commas between them, such as 512,1024',
            int: 'a whole number',
            float: 'a number',
        }[kind]
        raise SettingError(f"{field.name.upper()} is '{text}': it must be {wanted}") from None


def _check(field: dataclasses.Field, value: Any) -> None:
    name, bounds = field.name.upper(), field.metadata
    if bounds['choices'] and value not in bounds['choices']:
        raise SettingError(f"{name} is '{value}': it must be one of {', '.join(bounds['choices'])}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f'{name} is {value}: it must be a finite number')
    if bounds['at_least'] is not None and value < bounds['at_least']:
        raise SettingError(f'{name} is {value}: it must be at least {bounds["at_least"]}')
    if bounds['at_most'] is not None and value > bounds['at_most']:
        raise SettingError(f'{name} is {value}: it must be at most {bounds["at_most"]}')
    if isinstance(value, tuple) and not all(part >= 1 for part in value):
        raise SettingError(f'{name} is {value}: each number must be at least 1')


def _check_metadata(address: str) -> None:
    """Raises SettingError, which does not repeat the address: it may hold a password."""
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:  # of a port that is no number
        parts, port = urllib.parse.urlsplit(''), None
    database = parts.path.removeprefix('/')
    without_login = not (parts.username or parts.password or parts.query or parts.fragment)
    is_mysql = parts.scheme == 'mysql' and bool(re.fullmatch('[^/:@]+', database))
    is_grpc = parts.scheme == 'grpc' and port is not None and not database
    if address and not (parts.hostname and without_login and (is_mysql or is_grpc)):
        raise SettingError(
            'METADATA must be mysql://HOST:PORT/DATABASE or grpc://HOST:PORT, or empty. A user and '
            'a password belong in METADATA_USER and METADATA_PASSWORD, which nothing prints'
        )


def main() -> None:
    """Prints the settings in force as a table, or with names as arguments their values alone."""
    try:
        config = from_environment()
    except SettingError as error:
        sys.exit(f'Wrong setting: {error}')
    for name in sys.argv[1:]:
        if not hasattr(config, name):
            sys.exit(f"There is no setting '{name}'; without arguments all of them are shown")
        print(getattr(config, name))
    if len(sys.argv) > 1:
        return
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        text = ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
        print(f'{field.name.upper():24} {text:24} {field.metadata["why"]}')


if __name__ == '__main__':
    main()
