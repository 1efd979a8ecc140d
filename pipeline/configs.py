"""Reads the settings, which pipeline/settings.py declares, from a preset and the environment.

`python -m pipeline.configs` prints the settings in force. Each can be set by an environment
variable that is the field's name in capitals (`EPOCHS=3 make run` or `make run EPOCHS=3`), with
CAPSNET_ before it where another program could read the name (`CAPSNET_SEED=7`).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import re
import shlex
import signal
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from capsmodel import settings
from capsmodel.networks import table
from capsmodel.networks.table import NETWORKS
from components.datasets.errors import DatasetError
from components.datasets.tfds_dataset import name_and_version
from pipeline.presets import LARGEST_OF_FOLDER, PRESETS, of_preset
from pipeline.settings import Config

# Before a setting's name: the same setting, and it wins.
PREFIX = 'CAPSNET_'

# Continuous integration and other programs use variables of these names, too.
_COMMON = ('SEED', 'METADATA', 'STRATEGY')

# Settings that IMAGES takes the place of.
_OF_TFDS = ('dataset', 'dataset_version', 'train_split', 'eval_split', 'test_split')

# Of TFX, which refuses a longer one (tfx/orchestration/pipeline.py): Argo's names have no more.
_LONGEST_PIPELINE_NAME = 63

# TensorFlow looks files up by patterns (tf.io.gfile.glob), in which these are no letters.
_OF_PATTERNS = r'[*?\[\\]'

DECLARED = settings.declared(Config)
NAMES = {name.upper(): name for name in DECLARED}


class SettingError(ValueError):
    """A setting has a value that cannot be used: the message is for the person who set it."""


def from_preset(preset: str, **changes: Any) -> Config:
    """The settings of a preset.

    Args:
        preset: One of PRESETS.
        **changes: Fields of Config that differ from the preset, as values or as text.

    Raises:
        SettingError: An unknown preset, a value out of its bounds, or settings that exclude each
            other.
    """
    fixed = PRESETS.get(preset, {}).get('network')
    network = changes.get('network') or fixed or DECLARED['network'].default
    if fixed and network != fixed:
        raise SettingError(
            f'PRESET is {preset}, and NETWORK is {network}: this preset is for {fixed}. quick and '
            'tiny are for every network'
        )
    _check_has(network, changes)
    try:
        config = Config(**{'preset': preset, **of_preset(preset, network), **changes})
    except ValidationError as error:
        raise SettingError(settings.refusal(error)) from None
    if 'learning_rate_decay' in changes and config.learning_rate_schedule != 'exponential':
        raise SettingError(
            f'LEARNING_RATE_SCHEDULE is {config.learning_rate_schedule}, in which '
            'LEARNING_RATE_DECAY has no part: leave it out, or add '
            'LEARNING_RATE_SCHEDULE=exponential'
        )
    config = _own_images(config, changes) if config.images else _dataset(config, changes)
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
    var = _absolute(config.var)
    root = config.pipeline_root or os.path.join(var, 'pipeline_root', name)
    if '://' not in root:
        root = _absolute(root)
    for variable, folder in (('VAR', var), ('PIPELINE_ROOT', root)):
        if found := re.search(_OF_PATTERNS, folder):
            raise SettingError(
                f"{variable} is '{folder}': TensorFlow reads '{found[0]}' in a path as part of a "
                f'pattern. Name a folder without it: {variable}=/folder'
            )
    members = tuple(path if '://' in path else _absolute(path) for path in config.members)
    return dataclasses.replace(
        config, var=var, pipeline_name=name, pipeline_root=root, members=members
    )


def _check_has(network: str, changes: Mapping[str, Any]) -> None:
    """Raises SettingError if one of the changes is a setting that the network does not have."""
    for name in changes:
        if name in lacking(network):
            owners = [other for other in NETWORKS if name not in lacking(other)]
            raise SettingError(
                f'NETWORK is {network}, which has no {name.upper()}: leave it out, or take '
                f'{" or ".join(owners)}'
            )


def lacking(network: str) -> set[str]:
    """The settings that a network does not have; of one that is not in NETWORKS, none."""
    if network not in NETWORKS:
        return set()
    names = table.lacking(network)
    return names | ({'reconstruction_weight'} if 'decoder' in names else set())


def without_part(config: Config) -> set[str]:
    """The settings that have no part in a run: those that are refused if somebody gives them."""
    has_decay = config.learning_rate_schedule == 'exponential'
    return lacking(config.network) | (set() if has_decay else {'learning_rate_decay'})


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _dataset(config: Config, changes: Mapping[str, Any]) -> Config:
    """Checks what belongs to datasets of TFDS."""
    if config.preset == 'folder':
        raise SettingError('PRESET is folder: it needs IMAGES, the folder of your pictures')
    if not config.epochs:
        raise SettingError(f'EPOCHS is {changes["epochs"]!r}: it must be at least 1')
    try:
        dataset, version = name_and_version(config.dataset, config.dataset_version)
    except DatasetError as error:
        raise SettingError(str(error)) from None
    return dataclasses.replace(config, dataset=dataset, dataset_version=version or '')


def _own_images(config: Config, changes: Mapping[str, Any]) -> Config:
    """Fills in what follows from IMAGES, and refuses what belongs to datasets of TFDS."""
    for name in _OF_TFDS:
        if changes.get(name):
            raise SettingError(
                f'IMAGES and {name.upper()} exclude each other: your pictures come from the folder '
                'IMAGES, and its sub-folders train, eval and test are the splits'
            )
    is_remote = '://' in config.images
    images = config.images.rstrip('/') if is_remote else _absolute(config.images)
    derived: dict[str, Any] = {'images': images, 'dataset': ''}
    if config.preset == 'folder':
        if max(config.image_height, config.image_width) > LARGEST_OF_FOLDER:
            derived['decoder'] = bool(changes.get('decoder')) and config.decoder
        if config.epochs and 'learning_rate_decay' not in changes:
            derived['learning_rate_decay'] = config.learning_rate_decay ** (1 / config.epochs)
    return dataclasses.replace(config, **derived)


def from_environment(environment: Mapping[str, str] = os.environ) -> Config:
    """The settings that the environment asks for.

    Args:
        environment: Variable names to values.

    Raises:
        SettingError: A value that cannot be read, or is out of its bounds.
    """
    changes = {NAMES[name]: text for name, text in given(environment).items()}
    preset = 'folder' if 'images' in changes else DECLARED['preset'].default
    return from_preset(**{'preset': preset, **changes})


def from_environment_or_exit(environment: Mapping[str, str] = os.environ) -> Config:
    """`from_environment` for a command: a wrong setting ends the process with a sentence."""
    try:
        return from_environment(environment)
    except SettingError as error:
        sys.exit(f'Wrong setting: {error}')


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that an environment has, by their names in capitals.

    Args:
        environment: Variable names to values; an empty value counts as not set.

    Returns:
        What is set. CAPSNET_X counts as X, and wins over X.

    Raises:
        SettingError: A variable that begins with CAPSNET_ is nearly the name of a setting. Others
            are left alone: Kubernetes sets CAPSNET_PORT for a service that is called capsnet.
    """
    for name in environment:
        bare = name.removeprefix(PREFIX)
        if bare != name and bare not in NAMES and _like(bare, cutoff=0.85):
            raise SettingError(no_such_setting(name))
    texts = {name: environment.get(PREFIX + name) or environment.get(name) for name in NAMES}
    return {name: text for name, text in texts.items() if text}


def no_such_setting(name: str, others: Sequence[str] = ()) -> str:
    """Says that there is no setting of this name, and which one, or which of others, is meant."""
    prefix = PREFIX if name.startswith(PREFIX) else ''
    like = _like(name.removeprefix(PREFIX), others)
    question = f'; did you mean {prefix}{like}?' if like else '; `make settings` lists them.'
    return f'There is no setting {name}{question}'


def _like(name: str, others: Sequence[str] = (), cutoff: float = 0.6) -> str:
    known = [*others, *NAMES]
    return next(iter(difflib.get_close_matches(name.upper(), known, n=1, cutoff=cutoff)), '')


def notice(environment: Mapping[str, str] = os.environ) -> str:
    """Says which settings come from variables that continuous integration may have set for itself.

    Returns:
        A line; '' where CI is not true, or no such variable is in use.
    """
    if environment.get('CI') != 'true':
        return ''
    used = [n for n in _COMMON if environment.get(n) and not environment.get(PREFIX + n)]
    return f'These variables are used as settings: {", ".join(used)}' if used else ''


def print_notice() -> None:
    """Prints `notice` to standard error. Each command that reads settings calls it once."""
    if line := notice():
        print(line, file=sys.stderr)


def _default_name(config: Config) -> str:
    before, after = f'{config.network}-', '-tiny' if config.preset == 'tiny' else ''
    room = _LONGEST_PIPELINE_NAME - len(before + after)
    if config.images:
        folder = config.images.rpartition('/')[2]
        name = re.sub('[^A-Za-z0-9_.-]+', '-', folder).strip('-') or 'images'
        return before + _cut(name, folder, room) + after
    if config.dataset != 'mnist':
        return before + _cut(re.sub('[/+]', '-', config.dataset), config.dataset, room) + after
    return config.network + after


def _cut(name: str, origin: str, room: int) -> str:
    """A name that fits into `room` characters; one that does not ends in a hash of its origin."""
    digits = hashlib.sha256(os.fsencode(origin)).hexdigest()[:8]
    return name if len(name) <= room else f'{name[: room - 9]}-{digits}'


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


def text(config: Config, name: str) -> str:
    """A setting as an environment variable has it."""
    return as_text(getattr(config, name))


def as_text(value: Any) -> str:
    """A value of a setting as an environment variable has it: `yes` and `no`, commas."""
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def main() -> None:
    """Prints the settings in force as a table, or with names as arguments their values alone.

    With `--assign` before the names it prints assignments for a shell.
    """
    # Whoever reads only the beginning, such as `head`, ends this quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    config = from_environment_or_exit()
    names = [name for name in sys.argv[1:] if name != '--assign']
    for name in names:
        if not hasattr(config, name):
            sys.exit(no_such_setting(name))
        value = str(getattr(config, name))
        print(f'{name}={shlex.quote(value)}' if '--assign' in sys.argv else value)
    if names:
        return
    without = without_part(config)
    for variable, name in NAMES.items():
        if name in without:
            continue
        print(f'{variable:24} {text(config, name):24} {DECLARED[name].description}')


if __name__ == '__main__':
    main()
