"""The networks, and what the rest of the project may ask of one.

This module imports no TensorFlow: whoever checks settings reads the names here in no time.

To add a network, write its class, which extends `networks.network.Network`, in a file of its own,
and give it an entry in NETWORKS; `networks/mlp.py` is an example. Nothing else in the project names
a network. It asks what a network has:

- `config.num_classes`, `config.image_shape`, and `config.has_decoder`;
- `config.is_trained`: whether it learns from images, or is made of networks that did;
- `network(images)`: outputs in a form of the network's own, which its other methods take:
- `scores(outputs)`: how sure it is of each class, 0 to 1; the highest score is the answer, and
  TensorBoard calls each `score_name`;
- `classification_loss(labels, outputs)`, which TensorBoard calls `loss_name`;
- where `capsule_dim` is not 0, `capsules(outputs)`: a vector of that many numbers for each class;
- with a decoder, `reconstruct(capsules, labels)`;
- where `coupled_floats` is not 0, `coupling_coefficients(images)`;
- `bytes_to_evaluate` and `bytes_to_train`: the memory that it takes;
- `slowed_by()`: what this machine lacks for its fastest form;
- `weights_to_prepare` and `answer(images, prepared)`: what an exported model computes from its
  weights when it is loaded, and how it answers with that; by default nothing, and as always.

A network that differs between training and answering, or draws random numbers, takes a
`networks.step.Step`, which only training gives it. A setting that is not in the entry's config is
refused for this network.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.dataclasses import dataclass

from capsmodel.networks.ensemble_settings import EnsembleConfig, EnsembleSettings
from capsmodel.networks.settings import (
    CapsNetConfig,
    CapsNetSettings,
    CnnConfig,
    CnnLargeKernelsConfig,
    CnnSettings,
    CommonSettings,
    EfficientCapsNetConfig,
    MatrixCapsNetConfig,
    MatrixCapsNetSettings,
    NetworkConfig,
)
from capsmodel.settings import STRICT, declared, setting

if TYPE_CHECKING:
    from capsmodel.networks.network import Network


class Entry(NamedTuple):
    """A network.

    Attributes:
        network: Dotted path of its class; a string, so that settings are read without TensorFlow.
        config: The dataclass of all that makes it; NetworkConfig for one without own settings.
        presets: What the presets `tiny`, `quick` and `folder` change in the defaults for this
            network, beside what they change for all networks.
    """

    network: str
    config: type[NetworkConfig] = NetworkConfig
    presets: Mapping[str, Mapping[str, Any]] = {}


NETWORKS = {
    'capsnet': Entry(
        'capsmodel.networks.capsnet.CapsNet',
        CapsNetConfig,
        {
            'tiny': {
                'conv1_filters': 32,
                'primary_channels': 8,
                'digit_dim': 8,
                'decoder_units': (64, 128),
            },
            # What gets furthest in one epoch of those in docs/results.md.
            'quick': {
                'learning_rate': 3e-3,
                'learning_rate_schedule': 'flat_linear',
                'learning_rate_warmup': 100,
                'augmentation': 'shift:1',
            },
        },
    ),
    'efficient_capsnet': Entry(
        'capsmodel.networks.efficient_capsnet.EfficientCapsNet',
        EfficientCapsNetConfig,
        {'tiny': {'decoder_units': (64, 128)}},
    ),
    'matrix_capsnet': Entry(
        'capsmodel.networks.matrix_capsnet.MatrixCapsNet',
        MatrixCapsNetConfig,
        {
            'tiny': {
                'epochs': 15,
                'batch_size': 20,
                'learning_rate': 3e-3,
                'learning_rate_decay': 0.85,
            },
            'quick': {
                'epochs': 3,
                'batch_size': 32,
                'learning_rate': 3e-3,
                'learning_rate_decay': 0.5,
                # It learns slowly: three epochs come to 96.7%, and 92.0% of the worst kind.
                'min_accuracy': 0.95,
                'min_class_accuracy': 0.92,
                'min_kind_accuracy': 0.88,
            },
        },
    ),
    'cnn': Entry(
        'capsmodel.networks.cnn.Cnn',
        CnnConfig,
        {'tiny': {'cnn_width': 0.03}, 'quick': {'learning_rate': 3e-4}},
    ),
    'cnn_large_kernels': Entry(
        'capsmodel.networks.cnn.CnnLargeKernels',
        CnnLargeKernelsConfig,
        {
            'tiny': {'cnn_width': 0.1, 'epochs': 20},
            # One epoch comes to 97.9%, and 96.5% of the worst class.
            'quick': {'min_accuracy': 0.97, 'min_class_accuracy': 0.94},
        },
    ),
    'mlp': Entry('capsmodel.networks.mlp.Mlp'),
    'ensemble': Entry('capsmodel.networks.ensemble.Ensemble', EnsembleConfig),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings(
    CapsNetSettings, MatrixCapsNetSettings, CnnSettings, EnsembleSettings, CommonSettings
):
    """The settings of all networks."""

    network: str = setting(
        'capsnet',
        'which network is trained; capsnet is that of the paper. A setting that a network does not '
        'have is refused',
        choices=NETWORKS,
    )


def lacking(network: str) -> set[str]:
    """The settings of other networks that a network of NETWORKS does not have."""
    return declared(NetworkSettings).keys() - declared(NETWORKS[network].config).keys()


def has_members(network: str) -> bool:
    """Whether a network of NETWORKS is made of pushed models instead of being trained."""
    return 'members' in declared(NETWORKS[network].config)


def config_of(values: Any) -> Any:
    """The config of a network from its JSON form, a mapping; others stay as is.

    Without `network` it is that of capsnet, as all were before there were others.

    Raises:
        ValueError: There is no such network, or a value cannot be used.
    """
    if not isinstance(values, dict):
        return values
    name = values.get('network', 'capsnet')
    if name not in NETWORKS:
        raise ValueError(f'its network must be one of {", ".join(NETWORKS)}, not {name!r}')
    return NETWORKS[name].config(**values)


def create(config: NetworkConfig) -> Network:
    """Makes the network that a config describes, with first weights from Keras' seed."""
    entry = NETWORKS[config.network]
    if type(config) is not entry.config:
        raise ValueError(
            f'{config.network} is made of {entry.config.__name__}, not {type(config).__name__}'
        )
    module, _, name = entry.network.rpartition('.')
    return getattr(importlib.import_module(module), name)(config)
