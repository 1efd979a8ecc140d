"""What a trained network of the study is tested on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from capsmodel.data.dataset import LabeledImages
from capsmodel.networks.network import Network
from capsmodel.summaries import coupling
from capsmodel.training import evaluation
from study import attacks
from study.data import Sets
from study.measure import Measure
from study.plan import Training

# Images whose coupling coefficients are looked at, and at a time.
_COUPLED, _AT_A_TIME = 1000, 50


def measures(network: Network, training: Training, sets: Sets) -> list[Measure]:
    """The figures of a trained network for each of `training.tests`.

    Args:
        network: The network.
        training: How it was trained, and what to test it on.
        sets: The images of its dataset.
    """
    if training.tests[0] in _SETS:
        return [
            _plain(network, sets.images('test', training.side, _SETS[test]), test)
            for test in training.tests
        ]
    side = training.side
    return attacks.measure(
        network, sets.images('eval', side), sets.images('test', side), training.seed
    )


# The node that wrote the images of a test.
_SETS = {
    'test images': 'Transform',
    'shifted test images': 'Shifted',
    'affNIST-like test images': 'Affine',
}


def _plain(network: Network, images: LabeledImages, condition: str) -> Measure:
    return Measure(
        condition,
        100 * (1 - evaluation.evaluate(network, images).accuracy),
        coupling_entropy=_coupling_entropy(network, images),
    )


def _coupling_entropy(network: Network, images: LabeledImages) -> float | None:
    """Of the last iteration, the mean over the capsules of the first images, in bits."""
    if not network.coupled_floats:
        return None
    means = []
    for first in range(0, min(_COUPLED, len(images.labels)), _AT_A_TIME):
        pixels = np.asarray(images.images[first : first + _AT_A_TIME])
        coefficients = network.coupling_coefficients(pixels)[-1]
        means.append(tf.reduce_mean(coupling.entropy(coefficients)).numpy())
    return float(np.mean(means))
