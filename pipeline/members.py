"""The pushed models that a network is made of, which MEMBERS names."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from pydantic import ValidationError

from capsmodel import model_facts
from capsmodel.networks import table
from capsmodel.networks.settings import NetworkConfig
from capsmodel.settings import refusal
from capsmodel.summaries import console
from components.datasets.info import ImageDatasetInfo
from pipeline import image_settings
from pipeline.configs import SettingError
from pipeline.settings import Config

# What concerns a training, and a network that is not trained cannot have.
_OF_TRAINING = ('tuner', 'warm_start', 'profile_steps')


@dataclasses.dataclass(frozen=True)
class Member:
    """A pushed model that is part of another one.

    Attributes:
        folder: The folder of its version.
        network: What makes its network.
        fingerprint: Of the network and its weights.
        facts: What it must have in common with the run, in words for a person.
    """

    folder: str
    network: NetworkConfig
    fingerprint: str
    facts: Mapping[str, Any]


def read(config: Config, dataset: ImageDatasetInfo, are_here: bool = True) -> list[Member]:
    """Reads what the members are, from files beside their models.

    Args:
        config: The settings, with FRAMING and the images' size chosen.
        dataset: What is known of the dataset.
        are_here: False: they cannot be read here, as when a pipeline is compiled for a cluster.

    Returns:
        The members; none for a network that is trained, or if they are not here.

    Raises:
        SettingError: There are fewer than two; a model is missing, is there twice, or was not
            pushed by this pipeline; or its classes or images are not those of this run.
    """
    if not table.has_members(config.network):
        return []
    for name in _OF_TRAINING:
        if getattr(config, name):
            raise SettingError(
                f'NETWORK is {config.network}, which is not trained: leave out {name.upper()}'
            )
    if not are_here:
        return []
    if len(config.members) < 2:
        raise SettingError(
            f'NETWORK is {config.network}, which averages pushed models: name at least two in '
            'MEMBERS, such as MEMBERS=var/serving_model/capsnet,var/serving_model/cnn'
        )
    members = [_member(_version(path)) for path in config.members]
    folders = [os.path.normpath(member.folder) for member in members]
    for folder in folders:
        if folders.count(folder) > 1:
            raise SettingError(f'MEMBERS names {_shown(folder)} twice: name each model once')
    size, crop = (config.image_height, config.image_width), image_settings.crop(config)
    wanted = _facts(dataset.class_names, size, config.channels, crop, config.framing)
    for member in members:
        _check(member, wanted)
    return members


def _version(path: str) -> str:
    """The folder of the version that a path names, which may be of several versions."""
    versions = [path] if _is_model(path) else sorted(_versions(path), key=_number)
    if not versions:
        raise SettingError(
            f'MEMBERS: there is no pushed model in {_shown(path)}: name the folder of a version, '
            'such as var/serving_model/capsnet/1, or the folder of all versions'
        )
    return versions[-1]


def _versions(path: str) -> Iterator[str]:
    if tf.io.gfile.isdir(path):
        for name in (name.rstrip('/') for name in tf.io.gfile.listdir(path)):
            if name.isdecimal() and _is_model(os.path.join(path, name)):
                yield os.path.join(path, name)


def _number(version: str) -> int:
    return int(os.path.basename(version))


def _is_model(path: str) -> bool:
    return tf.io.gfile.exists(os.path.join(path, 'saved_model.pb'))


def _member(folder: str) -> Member:
    """What the files beside a model say of it."""
    try:
        found = model_facts.read_network(folder)
        if found:
            network = table.config_of(found['config'])
            names = model_facts.read(folder)['class_names']
            size = (network.image_height, network.image_width)
            facts = _facts(names, size, network.image_channels, network.crop, found['framing'])
            return Member(folder, network, model_facts.fingerprint(folder), facts)
    except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
        why = refusal(error) if isinstance(error, ValidationError) else console.reason(error)
        raise SettingError(
            f'MEMBERS: the network in {_shown(folder)} cannot be built: {why}; train and push it '
            'again'
        ) from None
    raise SettingError(
        f'MEMBERS: the model in {_shown(folder)} does not say how its network is built: this '
        'pipeline did not push it, or an earlier version did; train and push it again'
    )


def _check(member: Member, wanted: Mapping[str, Any]) -> None:
    """Raises SettingError if a member is not for the classes and the images of this run."""
    for what, value in wanted.items():
        if member.facts[what] != value:
            raise SettingError(
                f'MEMBERS: the model in {_shown(member.folder)} has {what} '
                f'{_short(member.facts[what])}, and this run has {_short(value)}: take members '
                'with the same, or give this run the settings that the members were trained with'
            )


def _facts(
    class_names: Sequence[str], size: tuple[int, int], channels: int, crop: int, framing: str
) -> dict[str, Any]:
    """What members must have in common with the run, in words for a person."""
    return {
        'the classes': ', '.join(class_names),
        'images of': f'{size[0]}x{size[1]} pixels',
        'CHANNELS': channels,
        'crops of': f'{crop}x{crop} pixels' if crop else 'the whole image',
        'FRAMING': framing,
    }


def _short(value: Any) -> str:
    return textwrap.shorten(str(value), 100, placeholder=' ...')


def _shown(path: str) -> str:
    return path if '://' in path else os.path.abspath(path)
