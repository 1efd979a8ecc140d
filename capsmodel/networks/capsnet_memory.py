"""The memory that a CapsNet takes, estimated from the shapes in it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow as tf

from capsmodel.networks import choices, layers, routing
from capsmodel.networks.network import FLOAT
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.networks.stem import Stem


def needed(config: CapsNetConfig, exported: bool = False) -> tuple[int, int]:
    """Estimates the bytes that an evaluation takes: in any case, and for each image.

    The counts come from the shapes in the network. Their factors were fitted to the peak of the
    resident memory of evaluations on a CPU (`python -m benchmarks.memory`) and are rather too large
    than too small.

    Args:
        config: The settings of the network.
        exported: Whether the graph does not know the number of images, as in exported models.
    """
    counts = _Counts.of(config)
    # Numbers for all pairs of child and parent. A CPU routes the children in parts, which are
    # bounded for all images together, or for each image if their number is unknown.
    routed = counts.primary * config.num_classes
    if choices.ROUTINGS[config.routing_algorithm].stores_predictions:
        routed = counts.predictions
    elif not tf.config.list_logical_devices('GPU'):
        routed = min(routed, routing.CACHED_FLOATS) if exported else 0
    each = 2 * counts.stem + counts.to_evaluate + 3 * routed + counts.decoded
    once = 3 * counts.routing_weights + 24 * routing.CACHED_FLOATS
    return FLOAT * once, FLOAT * each


def needed_to_train(config: CapsNetConfig, images: int, parameters: int) -> int:
    """Estimates the bytes that a training step takes.

    The network, the optimizer's averages and the best weights are not counted: they are there
    before. The factors were fitted as those of `needed`, by `python -m benchmarks.memory --train`.

    Args:
        config: The settings of the network.
        images: How many images of the step are computed with the same memory.
        parameters: How many numbers the network learns.
    """
    counts = _Counts.of(config, images)
    # Coupling coefficients and, by the native routing, their gradients.
    routed = 2 * counts.coupling * (config.routing_iterations - 1)
    if choices.ROUTINGS[config.routing_algorithm].stores_predictions:
        routed += 3 * counts.predictions
    elif tf.config.list_logical_devices('GPU'):
        routed += 3 * counts.primary * config.num_classes
    each = 3 * counts.stem + counts.to_train + routed + 2 * counts.decoded
    once = 4 * parameters + 8 * counts.routing_weights + 2 * counts.transformed_weights
    return FLOAT * (once + images * each)


@dataclasses.dataclass(frozen=True)
class _Counts:
    """How many numbers the parts of a network hold, for one image where nothing else is said.

    Attributes:
        stem: The pixels and what the stem makes of them; 0 without a stem.
        to_evaluate: The primary capsules and their inputs, as often as an evaluation stores them.
        to_train: The same, as often as training stores them.
        transformed_weights: The kernel of the primary capsules, transformed, for all images; or 0.
        primary: The primary capsules.
        coupling: The coupling coefficients of one iteration.
        predictions: All predictions, which only some ways to route store.
        routing_weights: The weights of the predictions, for all images.
        decoded: The layers of the decoder.
    """

    stem: int
    to_evaluate: int
    to_train: int
    transformed_weights: int
    primary: int
    coupling: int
    predictions: int
    routing_weights: int
    decoded: int

    @classmethod
    def of(cls, config: CapsNetConfig, images: int | None = None) -> _Counts:
        """Counts the numbers in the shapes of the layers.

        Args:
            config: The settings of the network.
            images: How many images a step has; None: the graph does not know.
        """
        stem = 0
        if config.stem_strides:
            pixels = (1, *config.image_shape[:2], config.image_channels)
            outputs: list[Any] = Stem(config.stem_strides).output_shapes(pixels)
            stem = sum(map(math.prod, [pixels, *outputs]))
        rows, columns = (size - config.conv1_kernel_size + 1 for size in config.conv1_size)
        primary_caps = layers.PrimaryCaps(
            config.primary_channels,
            config.primary_dim,
            config.primary_kernel_size,
            config.primary_stride,
            config.primary_algorithm,
            dtype=config.precision,
        )
        inputs = (images, rows, columns, config.conv1_filters)
        primary = math.prod(primary_caps.compute_output_shape(inputs)[1:])
        children = primary // config.primary_dim
        decoded = 0
        if config.decoder:
            decoded = 3 * config.num_classes * config.digit_dim + sum(config.decoder_units)
            decoded += 3 * math.prod(config.image_shape)
        return cls(
            stem=stem,
            to_evaluate=primary_caps.floats_to_evaluate(inputs),
            to_train=primary_caps.floats_to_train(inputs),
            transformed_weights=primary_caps.transformed_kernel_floats(inputs),
            primary=primary,
            coupling=children * config.num_classes,
            predictions=children * config.num_classes * config.digit_dim,
            routing_weights=primary * config.num_classes * config.digit_dim,
            decoded=decoded,
        )
