"""What TensorBoard shows of a network in pictures, and of which images it makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from capsmodel.data import dataset
from capsmodel.networks import capsnet, memory
from capsmodel.networks.settings import NetworkConfig
from capsmodel.summaries import figures

# The paper's figure 4.
OFFSETS = tuple(round(0.05 * number, 2) for number in range(-5, 6))

_RECONSTRUCTIONS = 16
_MISTAKES = 12
_PERTURBED_CLASSES = 10
_PERTURBED_NUMBERS = 32  # of a capsule


@dataclasses.dataclass(frozen=True)
class Picture:
    """One kind of picture.

    Attributes:
        name: What it is called.
        description: What it shows.
        draw: Makes it, uint8 [height, width, channels], of the network, the evaluation images and
            the lengths of their capsules, float32 [n, classes].
        needs_decoder: Whether a network without one has no such picture.
    """

    name: str
    description: str
    draw: Callable[[capsnet.CapsNet, dataset.LabeledImages, np.ndarray], np.ndarray]
    needs_decoder: bool = False


def of(config: NetworkConfig) -> list[Picture]:
    """The pictures that there are of such a network."""
    return [picture for picture in _PICTURES if config.decoder or not picture.needs_decoder]


def _confusion_matrix(
    model: capsnet.CapsNet, labeled: dataset.LabeledImages, lengths: np.ndarray
) -> np.ndarray:
    classes = model.config.num_classes
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labeled.labels, np.argmax(lengths, axis=1)), 1)
    return figures.confusion_matrix(counts)


def _worst_mistakes(
    model: capsnet.CapsNet, labeled: dataset.LabeledImages, lengths: np.ndarray
) -> np.ndarray:
    chosen = worst(labeled.labels, lengths)
    images, labels = labeled.images[chosen], labeled.labels[chosen]
    drawings = np.zeros((0, *images.shape[1:]))
    if model.config.decoder:
        drawings = _drawings(model, images, np.argmax(lengths[chosen], axis=1))
    return figures.mistakes(images, drawings, labels, lengths[chosen])


def _reconstructions(
    model: capsnet.CapsNet, labeled: dataset.LabeledImages, lengths: np.ndarray
) -> np.ndarray:
    images, labels = (part[:_RECONSTRUCTIONS] for part in labeled)
    predictions = np.argmax(lengths[:_RECONSTRUCTIONS], axis=1)
    drawings = _drawings(model, images, predictions)
    return figures.reconstructions(images, drawings, labels, predictions)


def _capsule_dimensions(
    model: capsnet.CapsNet, labeled: dataset.LabeledImages, lengths: np.ndarray
) -> np.ndarray:
    present, firsts = np.unique(labeled.labels, return_index=True)
    present, firsts = present[:_PERTURBED_CLASSES], firsts[:_PERTURBED_CLASSES]
    varied = perturbed(model, labeled.images[firsts], present)
    return figures.capsule_dimensions(varied, present, OFFSETS)


def worst(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of the images whose longest other capsule exceeds the label's by most, in order."""
    others = lengths.copy()
    rows = np.arange(len(labels))
    others[rows, labels] = -np.inf
    excess = others.max(axis=1) - lengths[rows, labels]
    return np.argsort(-excess, kind='stable')[:_MISTAKES]


def _capsules(model: capsnet.CapsNet, images: np.ndarray) -> np.ndarray:
    """float32 [n, classes, dim]: to as many images at once as there is memory for."""
    pieces = -(-len(images) // memory.images_at_once(model.config))
    return np.concatenate([model(piece) for piece in np.array_split(images, pieces)])


def _drawings(model: capsnet.CapsNet, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return model.reconstruct(_capsules(model, images), labels).numpy()


def perturbed(model: capsnet.CapsNet, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the decoder draws when one number in the label's capsule is changed by one of OFFSETS.

    Args:
        model: A network with a decoder.
        images: uint8 [n, height, width].
        labels: integers [n].

    Returns:
        float32 [n, dims, offsets, height, width] in (0, 1), of 32 dims at most.
    """
    capsules = _capsules(model, images)
    dims = min(capsules.shape[2], _PERTURBED_NUMBERS)
    drawings = []
    for capsule, label in zip(capsules, labels, strict=True):
        varied = np.tile(capsule, (dims, len(OFFSETS), 1, 1))
        for dim in range(dims):
            varied[dim, :, label, dim] += OFFSETS
        varied = varied.reshape(-1, *capsule.shape)
        drawings.append(model.reconstruct(varied, np.repeat(label, len(varied))))
    return np.reshape(drawings, (len(images), dims, len(OFFSETS), *images.shape[1:]))


_PICTURES = (
    Picture(
        'confusion matrix',
        'All evaluation images by their class and the class they are taken for. Where there are '
        'many classes, those with the most mistakes have a row each.',
        _confusion_matrix,
    ),
    Picture(
        'inputs over reconstructions',
        'Below a digit what the decoder makes of its longest capsule.',
        _reconstructions,
        needs_decoder=True,
    ),
    Picture(
        'capsule dimensions',
        'A digit of each class as the decoder draws it when one number of its capsule, a row each, '
        'is changed by -0.25 to 0.25, in steps of 0.05 (Sabour, Frosst, Hinton 2017, figure 4).',
        _capsule_dimensions,
        needs_decoder=True,
    ),
    Picture(
        'worst mistakes',
        'Where the longest wrong capsule exceeds the right one by most: the label with the length '
        "of its capsule, what was read and that one's length; the digit and what the network saw "
        'in it; the lengths of the capsules between 0 and 1. Where there are many classes, those '
        'of the longest capsules and of the label.',
        _worst_mistakes,
    ),
)
