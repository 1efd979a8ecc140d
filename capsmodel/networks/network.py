"""What all networks have in common; `networks.table` says what the rest of the project asks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.decoder import Decoder
from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.step import Step

FLOAT = 4  # bytes


class Network(keras.Model):
    """uint8 [n, *config.image_shape] -> outputs, float32 [n, ...] each, in a structure of its own.

    n may be unknown or 0. All variables exist after construction. Keras initializers give them
    their first values, so two networks that are made after the same
    `keras.utils.set_random_seed` are equal. Sub-classes make their layers in `__init__`, call
    `build` at its end, and have `build`, `forward`, `scores` and `classification_loss`.

    Args:
        config: What makes the network.
        **kwargs: Arguments of keras.Model; the default dtype policy is `config.precision`.

    Attributes:
        loss_name: What TensorBoard calls the classification loss.
        score_name: What TensorBoard calls a score, before the name of its class.
        how_to_save_memory: What to do where training takes too much, for a message.
        decoder: What reconstructs images from capsules; None if nothing does.
    """

    loss_name: ClassVar[str]
    score_name: ClassVar[str] = 'score of'
    how_to_save_memory: ClassVar[str] = 'lower BATCH_SIZE, or IMAGE_HEIGHT and IMAGE_WIDTH'
    decoder: Decoder | None = None

    def __init__(self, config: NetworkConfig, **kwargs: Any) -> None:
        super().__init__(**{'dtype': config.precision, **kwargs})
        self.config = config

    def call(self, images: tf.Tensor, step: Step | None = None) -> Any:
        return self._of_any_number(images, lambda pixels: self.forward(pixels, step))

    def weights_to_prepare(self) -> dict[str, Callable[[], tf.Tensor]]:
        """What an exported model computes from the weights once, when it is loaded, by name."""
        return {}

    def answer(self, images: tf.Tensor, prepared: Mapping[str, Callable[[], tf.Tensor]]) -> Any:
        """The same as `call`, up to rounding, in an exported model.

        Args:
            images: uint8 [n, *image_shape].
            prepared: Functions that return what those of `weights_to_prepare` have returned.
        """
        return self(images)

    def _of_any_number(self, images: tf.Tensor, forward: Callable[[tf.Tensor], Any]) -> Any:
        # TensorFlow's oneDNN convolutions return wrong shapes for an empty batch: add an image.
        n = tf.shape(images)[0]
        no_more = [[0, 0]] * len(self.config.image_shape)
        images = tf.pad(images, [[0, tf.cast(n == 0, tf.int32)], *no_more])
        return tf.nest.map_structure(lambda x: x[:n], forward(self.pixels(images)))

    def outputs_spec(self) -> Any:
        """The outputs' types and shapes, with an unknown number of images."""
        spec = tf.TensorSpec([None, *self.config.image_shape], tf.uint8)
        answer = tf.function(self.call, autograph=False).get_concrete_function(spec)
        return tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), answer.structured_outputs
        )

    def pixels(self, images: tf.Tensor) -> tf.Tensor:
        """What the first layer is given.

        Args:
            images: uint8 [n, *image_shape]; n must not be 0. They may be float32, from 0 to 255,
                which has a gradient.

        Returns:
            float32 [n, height, width, channels], 0 to 1 or, with `standardize`, of mean 0 and
            variance 1 in each image.

        Raises:
            tf.errors.InvalidArgumentError: the images have another shape.
        """
        images = tf.ensure_shape(images, [None, *self.config.image_shape])
        if self.config.image_channels == 1:
            images = images[..., tf.newaxis]
        pixels = tf.cast(images, tf.float32) / 255
        if self.config.standardize:
            pixels = tf.image.per_image_standardization(pixels)
        return pixels

    def forward(self, pixels: tf.Tensor, step: Step | None) -> Any:
        """The outputs for what `pixels` returns; `step` is None except in training."""
        raise NotImplementedError

    def scores(self, outputs: Any) -> tf.Tensor:
        """How sure the network is of each class: float32 [n, classes] in [0, 1]."""
        raise NotImplementedError

    def classification_loss(
        self, labels: tf.Tensor, outputs: Any, step: Step | None = None
    ) -> tf.Tensor:
        """The loss of each image, float32 [n], for labels, integers [n]."""
        raise NotImplementedError

    @property
    def capsule_dim(self) -> int:
        """The numbers in a class's capsule; 0 where the network has no capsules."""
        return 0

    def capsules(self, outputs: Any) -> tf.Tensor:
        """The capsules of the classes: float32 [n, classes, capsule_dim]."""
        raise NotImplementedError

    def reconstruct(self, capsules: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Reconstructs images from the capsules of the given classes (Section 4.1).

        Args:
            capsules: float32 [n, num_classes, capsule_dim].
            labels: integers [n], the class of each image whose capsule is used; the others are
                masked. It is the true class in training and the predicted class otherwise.

        Returns:
            float32 [n, *image_shape] in (0, 1), 0 being black.

        Raises:
            ValueError: the network has no decoder.
        """
        if self.decoder is None:
            raise ValueError('this network has no decoder: its config says decoder=False')
        mask = tf.one_hot(labels, self.config.num_classes, dtype=capsules.dtype)
        masked = capsules * mask[..., tf.newaxis]
        features = self.config.num_classes * self.capsule_dim
        return self.decoder(tf.reshape(masked, [tf.shape(capsules)[0], features]))

    @property
    def coupled_floats(self) -> int:
        """The numbers that `coupling_coefficients` stores for an image; 0 where it has none."""
        return 0

    def coupling_coefficients(self, images: np.ndarray) -> tf.Tensor:
        """How much of its output each capsule sends to each capsule of a class.

        Args:
            images: uint8 [n, *image_shape]; n must not be 0.

        Returns:
            float32 [iterations, n, classes, children]; the sum over the classes is at most 1.
        """
        raise NotImplementedError

    def size(self) -> str:
        """How large the network is, in words for a person."""
        return f'{self.count_params():,} parameters'

    def exported(self) -> Network:
        """The network as models are exported: itself, or a copy that needs TensorFlow alone."""
        config = self.config.exported
        if config == self.config:
            return self
        copy = type(self)(config)
        copy.set_weights(self.get_weights())
        return copy

    def slowed_by(self) -> str:
        """What makes the network slower here than it could be, in words; empty: nothing.

        Raises:
            RuntimeError: It cannot be computed on this machine; the message says why.
        """
        return ''

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        """Estimates the memory of an evaluation: in any case, and for each image.

        Args:
            exported: Whether the graph does not know the number of images, as in exported models.
        """
        return FLOAT * self.count_params(), FLOAT * self._floats_of_an_image()

    def bytes_to_train(self, images: int) -> int:
        """Estimates the memory of a step of training with this number of images.

        The network, the optimizer's averages and the best weights are not counted: they are there
        before.
        """
        return FLOAT * (4 * self.count_params() + 3 * images * self._floats_of_an_image())

    def _floats_of_an_image(self) -> int:
        """The numbers in the results of all operations for one image."""
        spec = tf.TensorSpec([1, *self.config.image_shape], tf.uint8)
        graph = tf.function(self.call, autograph=False).get_concrete_function(spec).graph
        weights = {tuple(variable.shape) for variable in self.variables}
        return sum(
            math.prod(output.shape)
            for operation in graph.get_operations()
            for output in operation.outputs
            if operation.type not in ('Const', 'ReadVariableOp', 'Placeholder')
            and output.dtype.is_floating
            and output.shape.is_fully_defined()
            and tuple(output.shape) not in weights
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'config': dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Network:
        from capsmodel.networks.table import config_of

        return cls(**{**config, 'config': config_of(config['config'])})
