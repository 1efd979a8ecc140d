"""Gives a network the weights of exported ones, for a training or an ensemble."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from capsmodel.networks.network import Network
from capsmodel.summaries.console import reason
from capsmodel.training.errors import TrainingError


def exported_weights(directory: str) -> list[np.ndarray]:
    """The weights in a SavedModel of `signatures.export`, in the order of the variables.

    Raises:
        TrainingError: They are missing or damaged.
    """
    names = (f'_variables/{n}/.ATTRIBUTES/VARIABLE_VALUE' for n in itertools.count())
    try:
        reader = tf.train.load_checkpoint(os.path.join(directory, 'variables', 'variables'))
        return [reader.get_tensor(name) for name in itertools.takewhile(reader.has_tensor, names)]
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f'The weights of the model in {directory} cannot be read: {reason(error)}'
        ) from error


def assign(model: Network, weights: Sequence[np.ndarray]) -> None:
    """Gives a network the weights; without any, it keeps its own.

    Raises:
        TrainingError: The weights do not fit the network.
    """
    if not weights:
        return
    wanted = [tuple(variable.shape) for variable in model.variables]
    if wanted != [weight.shape for weight in weights]:
        if not model.config.is_trained:
            raise TrainingError(
                'MEMBERS: the weights of a member do not fit its network as this version makes it; '
                'train and push that member again'
            )
        raise TrainingError(
            'WARM_START: the last blessed model is a network with other layers than this one, and '
            'its weights do not fit; train without WARM_START, or with the settings of that model'
        )
    for variable, weight in zip(model.variables, weights, strict=True):
        variable.assign(weight)
