"""The pictures of a network in TensorBoard, and the images that they are made from."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from capsmodel.calibration import Reliability
from capsmodel.data import dataset
from capsmodel.networks import memory
from capsmodel.networks.network import Network
from capsmodel.networks.settings import NetworkConfig
from capsmodel.summaries import figures, reliability

# The paper's figure 4.
OFFSETS = tuple(round(0.05 * number, 2) for number in range(-5, 6))

_RECONSTRUCTIONS = 16
_MISTAKES = 12
_LONGEST_NAME = 16  # characters
_PERTURBED_CLASSES = 10
_PERTURBED_NUMBERS = 32  # of a capsule


@dataclasses.dataclass(frozen=True)
class Picture:
    """One kind of picture.

    Attributes:
        name: Its title.
        description: What it shows.
        draw: Makes the picture, uint8 [height, width, channels], from the network, the evaluation
            images, their scores, float32 [n, classes], and the classes' names
            as `readable` makes them.
        needs_decoder: Whether the picture needs a network with a decoder.
    """

    name: str
    description: str
    draw: Callable[[Network, dataset.LabeledImages, np.ndarray, Sequence[str]], np.ndarray]
    needs_decoder: bool = False


def of(config: NetworkConfig) -> list[Picture]:
    """The pictures of a network with this config."""
    return [picture for picture in _PICTURES if config.has_decoder or not picture.needs_decoder]


def readable(class_names: Sequence[str]) -> list[str]:
    """The classes' names in letters that the figures' font has, and not too long for a figure.

    Letters lose their accents. A name in another script becomes the number of its class.
    """
    names = []
    for label, name in enumerate(class_names):
        decomposed = unicodedata.normalize('NFKD', name)
        plain = ''.join(each for each in decomposed if not unicodedata.combining(each))
        if not plain.isascii() or not plain.isprintable():
            plain = str(label)
        names.append(f'{plain[: _LONGEST_NAME - 1]}…' if len(plain) > _LONGEST_NAME else plain)
    return names


def _confusion_matrix(
    model: Network,
    labeled: dataset.LabeledImages,
    scores: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    classes = model.config.num_classes
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labeled.labels, np.argmax(scores, axis=1)), 1)
    return figures.confusion_matrix(counts, names)


def _reliability(
    model: Network,
    labeled: dataset.LabeledImages,
    scores: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    del model, names
    return reliability.diagram(Reliability.of(labeled.labels, scores))


def _worst_mistakes(
    model: Network,
    labeled: dataset.LabeledImages,
    scores: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    chosen = worst(labeled.labels, scores)
    images, labels = labeled.images[chosen], labeled.labels[chosen]
    reconstructed = np.zeros((0, *images.shape[1:]))
    if model.config.has_decoder:
        reconstructed = _reconstructed(model, images, np.argmax(scores[chosen], axis=1))
    return figures.mistakes(images, reconstructed, labels, scores[chosen], names)


def _reconstructions(
    model: Network,
    labeled: dataset.LabeledImages,
    scores: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    images, labels = (part[:_RECONSTRUCTIONS] for part in labeled)
    predictions = np.argmax(scores[:_RECONSTRUCTIONS], axis=1)
    reconstructed = _reconstructed(model, images, predictions)
    return figures.reconstructions(images, reconstructed, labels, predictions, names)


def _capsule_dimensions(
    model: Network,
    labeled: dataset.LabeledImages,
    scores: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    present, firsts = np.unique(labeled.labels, return_index=True)
    present, firsts = present[:_PERTURBED_CLASSES], firsts[:_PERTURBED_CLASSES]
    varied = perturbed(model, labeled.images[firsts], present)
    return figures.capsule_dimensions(varied, [names[label] for label in present], OFFSETS)


def worst(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the images whose longest wrong capsule exceeds the label's by most, in order."""
    others = scores.copy()
    rows = np.arange(len(labels))
    others[rows, labels] = -np.inf
    excess = others.max(axis=1) - scores[rows, labels]
    return np.argsort(-excess, kind='stable')[:_MISTAKES]


def _capsules(model: Network, images: np.ndarray) -> np.ndarray:
    """float32 [n, classes, dim], computed for as many images at once as fit into memory."""
    pieces = -(-len(images) // memory.images_at_once(model))
    return np.concatenate(
        [model.capsules(model(piece)) for piece in np.array_split(images, pieces)]
    )


def _reconstructed(model: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return model.reconstruct(_capsules(model, images), labels).numpy()


def perturbed(model: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Reconstructions with one number in the label's capsule changed by one of OFFSETS.

    Args:
        model: A network with a decoder.
        images: uint8 [n, height, width].
        labels: integers [n].

    Returns:
        float32 [n, dims, offsets, height, width] in (0, 1), of 32 dims at most.
    """
    capsules = _capsules(model, images)
    dims = min(capsules.shape[2], _PERTURBED_NUMBERS)
    reconstructed = []
    for capsule, label in zip(capsules, labels, strict=True):
        varied = np.tile(capsule, (dims, len(OFFSETS), 1, 1))
        for dim in range(dims):
            varied[dim, :, label, dim] += OFFSETS
        varied = varied.reshape(-1, *capsule.shape)
        reconstructed.append(model.reconstruct(varied, np.repeat(label, len(varied))))
    return np.reshape(reconstructed, (len(images), dims, len(OFFSETS), *images.shape[1:]))


_PICTURES = (
    Picture(
        'confusion matrix',
        'Counts of the evaluation images by their class and the predicted class. If there are '
        'many classes, only those with the most mistakes have a row each.',
        _confusion_matrix,
    ),
    Picture(
        'reliability',
        'How often the network is right, by its highest score: the bars of a perfectly calibrated '
        'network end at the line. The expected calibration error is the mean distance from it '
        '(Guo, Pleiss, Sun, Weinberger 2017).',
        _reliability,
    ),
    Picture(
        'inputs over reconstructions',
        'Below each image is the reconstruction from its longest capsule.',
        _reconstructions,
        needs_decoder=True,
    ),
    Picture(
        'capsule dimensions',
        'Reconstructions of an image of each class. In each row, one number of its capsule is '
        'changed by -0.25 to 0.25, in steps of 0.05 (Sabour, Frosst, Hinton 2017, figure 4).',
        _capsule_dimensions,
        needs_decoder=True,
    ),
    Picture(
        'worst mistakes',
        'The images whose longest wrong capsule exceeds the right one by most: the label and the '
        'length of its capsule, the predicted class and the length of its capsule; the image and '
        'its reconstruction; the scores of the capsules between 0 and 1. If there are many '
        'classes, only the longest capsules and that of the label are shown.',
        _worst_mistakes,
    ),
)
