"""Changes to images that are small in each pixel and made to mislead a network.

The attacker knows the network and its weights, but not the guard: an attack that minds the
reconstruction, too, gets past a guard more often (Qin et al. 2019, arXiv:1907.02957). The result of
an attack is rounded to whole levels before it is judged, so that a file can hold it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from capsmodel import guard
from capsmodel.data.dataset import LabeledImages
from capsmodel.networks import memory, table
from capsmodel.networks.network import Network
from capsmodel.summaries.console import progress_bar, say
from study.measure import Measure

# Of the images of the classes, the guard may refuse this fraction.
FALSE_ALARMS = 0.05
EPSILONS = (0.1, 0.3)

# Madry et al. 2018 attack MNIST with 40 steps of 0.01, for an epsilon of 0.3.
_STEPS = 40
_STEP_SIZE = 0.01
_LEVELS = 255
# Below this loss, float32 has rounded the gradient of a cross-entropy away.
_FLAT = 1e-6
# More images at once are hardly faster.
_MOST_IMAGES = 100
_SHARE_OF_MEMORY = 0.5

# Images and labels to attacked images; the generator draws what is random.
Attack = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


class Attacker:
    """Attacks a network by the gradient of its classification loss.

    Epsilon is the most that a pixel changes, where 1 is the whole range from black to white. It
    counts in whole levels of 255, rounded down: 0.1 is 25 levels.

    The margin loss is 0, and so is its gradient, where the label's capsule is longer than m+ and
    all others are shorter than m-. A network does not resist because its loss is flat: attacks
    that stop there overestimate it ("gradient masking", Athalye, Carlini, Wagner 2018,
    arXiv:1802.00420). So where an image's loss is 0, the attack goes down the loss that the image
    would have if its label were the class with the second highest score.

    The gradient goes through all iterations of the routing, even for a network that was trained
    with `routing_gradient` 'last'. The members of an ensemble keep their setting.

    Args:
        model: The network.
    """

    def __init__(self, model: Network) -> None:
        self._ascent = _ascent(_with_whole_gradient(model))

    def fgsm(self, images: np.ndarray, labels: np.ndarray, epsilon: float) -> np.ndarray:
        """The fast gradient sign method: x + epsilon sign(gradient of the loss for x).

        Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572, section 4.

        Args:
            images: uint8 [n, height, width], or [n, height, width, 3] in colour; n is not 0.
            labels: integers [n].
            epsilon: The most that a pixel changes, from 0 to 1.

        Returns:
            uint8, of the same shape.
        """
        low, high = _ball(images, epsilon)
        levels = images.astype(np.float32)
        return _rounded(levels + _levels(epsilon) * self._sign(levels, labels), low, high)

    def pgd(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        epsilon: float,
        random: np.random.Generator,
        steps: int = _STEPS,
        step_size: float = _STEP_SIZE,
    ) -> np.ndarray:
        """Projected gradient descent: steps along the sign, each moved back to within epsilon.

        Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv:1706.06083, section 2.1. It starts once,
        at a random place within epsilon of the image.

        Args:
            images: See `fgsm`.
            labels: See `fgsm`.
            epsilon: See `fgsm`.
            random: Draws the start.
            steps: How many steps it takes.
            step_size: How far a step moves a pixel, from 0 to 1.

        Returns:
            uint8, of the same shape.
        """
        low, high = _ball(images, epsilon)
        most = _levels(epsilon)
        levels = images + random.uniform(-most, most, images.shape).astype(np.float32)
        levels = np.clip(levels, low, high)
        for _ in range(steps):
            moved = levels + np.float32(step_size * _LEVELS) * self._sign(levels, labels)
            levels = np.clip(moved, low, high)
        return _rounded(levels, low, high)

    def _sign(self, levels: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.sign(self._ascent(levels, labels).numpy())


def noise(images: np.ndarray, epsilon: float, random: np.random.Generator) -> np.ndarray:
    """Adds or subtracts epsilon at random, whatever the network: as large as FGSM, but blind.

    Args:
        images: See `Attacker.fgsm`.
        epsilon: See `Attacker.fgsm`.
        random: Draws the signs.

    Returns:
        uint8, of the same shape.
    """
    signs = random.choice(np.array([-1, 1], np.float32), images.shape)
    return _rounded(images + _levels(epsilon) * signs, *_ball(images, epsilon))


def measure(
    model: Network,
    evaluation_data: LabeledImages,
    test_data: LabeledImages,
    seed: int,
    count: int = 1000,
) -> list[Measure]:
    """How often a network is wrong about attacked images, and how many of them its guard refuses.

    A bar on standard error shows the progress of each condition.

    Args:
        model: The network.
        evaluation_data: Images for the guard's thresholds.
        test_data: The images to attack.
        seed: Decides all that is random, for batches of any size.
        count: The first of the test images are used, at most this number.

    Returns:
        For 'clean' images, 'noise, epsilon 0.3', and FGSM and PGD with each of EPSILONS.

    Raises:
        ValueError: There are no test images.
    """
    count = min(count, len(test_data.labels))
    if count < 1:
        raise ValueError('There is no test image to attack.')
    thresholds = guard.thresholds(model, evaluation_data.images, FALSE_ALARMS)
    size = _images_at_once(model)
    measures = []
    for condition, attack in _conditions(Attacker(model)).items():
        random = np.random.default_rng(seed)
        wrong = refused = unchanged = 0
        with progress_bar(0, count) as bar:
            bar.set_description(condition, refresh=False)
            for start in range(0, count, size):
                part = slice(start, min(start + size, count))
                images, labels = test_data.images[part], test_data.labels[part]
                attacked = attack(images, labels, random)
                outputs = model(attacked)
                predicted = tf.argmax(model.scores(outputs), axis=-1).numpy()
                measured = guard.measured_by(model, attacked, outputs)
                wrong += np.sum(predicted != labels)
                refused += np.sum(~guard.is_known(attacked, measured, thresholds).numpy())
                unchanged += np.sum((attacked == images).reshape(len(images), -1).all(1))
                bar.update(len(images))
        if unchanged and condition != 'clean':
            say(f'{condition}: {unchanged} of {count} images have no gradient and did not change')
        measures.append(Measure(condition, 100 * wrong / count, 100 * refused / count))
    return measures


def _conditions(attacker: Attacker) -> dict[str, Attack]:
    """The attacks by their names."""

    def fgsm(epsilon: float) -> Attack:
        return lambda images, labels, random: attacker.fgsm(images, labels, epsilon)

    def pgd(epsilon: float) -> Attack:
        return lambda images, labels, random: attacker.pgd(images, labels, epsilon, random)

    highest = max(EPSILONS)
    return {
        'clean': lambda images, labels, random: images,
        f'noise, epsilon {highest}': lambda images, labels, random: noise(images, highest, random),
        **{f'FGSM, epsilon {epsilon}': fgsm(epsilon) for epsilon in EPSILONS},
        **{f'PGD, epsilon {epsilon}': pgd(epsilon) for epsilon in EPSILONS},
    }


def _ascent(model: Network) -> Any:
    """A function of levels, float32 [n, *image_shape], and labels [n].

    It returns the gradient of each image's loss by its levels, of the levels' shape.
    """
    # The number of images stays unknown: where CapsNet knows it, on a CPU, its first convolution
    # is `phases.first_convolution`, through which pixels have no gradient.
    signature = [
        tf.TensorSpec([None, *model.config.image_shape], tf.float32),
        tf.TensorSpec([None], tf.int64),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def ascent(levels: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(levels)
            # Not model(levels): in mixed precision Keras would round them.
            outputs = model.call(levels)
            loss = model.classification_loss(labels, outputs)
            scores = model.scores(outputs)
            others = scores - tf.one_hot(labels, model.config.num_classes, on_value=2.0)
            second = model.classification_loss(tf.argmax(others, axis=-1), outputs)
            objective = tf.where(loss > _FLAT, loss, -second)
        return tape.gradient(objective, levels)

    return ascent


def _with_whole_gradient(model: Network) -> Network:
    """The network, or one with the same weights whose gradient goes through all iterations."""
    config: Any = model.config
    if getattr(config, 'routing_gradient', 'all') == 'all':
        return model
    copy = table.create(dataclasses.replace(config, routing_gradient='all'))
    copy.set_weights(model.get_weights())
    return copy


def _images_at_once(model: Network) -> int:
    """How many images may be attacked at once, from the memory that is free now."""
    most = _SHARE_OF_MEMORY * memory.free()
    count = _MOST_IMAGES
    while count > 1 and model.bytes_to_train(count) > most:
        count //= 2
    return count


def _levels(epsilon: float) -> int:
    """Epsilon in whole levels, rounded down."""
    return math.floor(epsilon * _LEVELS)


def _ball(images: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most level of each pixel: float32, of the images' shape."""
    levels, most = images.astype(np.float32), _levels(epsilon)
    return np.maximum(levels - most, 0), np.minimum(levels + most, _LEVELS)


def _rounded(levels: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The nearest images within bounds, which are whole levels."""
    return np.rint(np.clip(levels, low, high)).astype(np.uint8)
