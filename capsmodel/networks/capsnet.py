"""The Capsule Network of Sabour, Frosst, Hinton 2017 as a Keras model."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.layers import Decoder, DigitCaps, PrimaryCaps
from capsmodel.networks.routing import norm
from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.stem import Stem


class CapsNet(keras.Model):
    """Conv1, PrimaryCaps, DigitCaps; a stem before large images, a decoder with `config.decoder`.

    uint8 [n, *config.image_shape] -> capsules float32 [n, num_classes, digit_dim]; n may be unknown
    or 0. The length of a capsule says how sure the network is that its class is in the image.

    All variables exist after construction. Keras initializers give them their first values, so two
    networks that are made after the same `keras.utils.set_random_seed` are equal.

    Args:
        config: The settings.
        **kwargs: Arguments of keras.Model; the default dtype policy is `config.precision`.
    """

    def __init__(self, config: NetworkConfig, **kwargs: Any) -> None:
        super().__init__(**{'dtype': config.precision, **kwargs})
        self.config = config
        strides = config.stem_strides
        self.stem = Stem(strides, dtype=self.dtype_policy, name='stem') if strides else None
        self.conv1 = keras.layers.Conv2D(
            config.conv1_filters,
            config.conv1_kernel_size,
            activation='relu',
            dtype=self.dtype_policy,
            name='conv1',
        )
        self.primary_caps = PrimaryCaps(
            channels=config.primary_channels,
            dim=config.primary_dim,
            kernel_size=config.primary_kernel_size,
            strides=config.primary_stride,
            algorithm=config.primary_algorithm,
            dtype=self.dtype_policy,
            name='primary_caps',
        )
        self.digit_caps = DigitCaps(
            parents=config.num_classes,
            dim=config.digit_dim,
            iterations=config.routing_iterations,
            gradient=config.routing_gradient,
            algorithm=config.routing_algorithm,
            none_of_the_above=config.none_of_the_above,
            dtype=self.dtype_policy,
            name='digit_caps',
        )
        self.decoder = (
            Decoder(
                config.decoder_units,
                config.image_shape,
                dtype=self.dtype_policy,
                name='decoder',
            )
            if config.decoder
            else None
        )
        self.build((None, *config.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (*input_shape[:3], self.config.image_channels)
        for layer in filter(None, (self.stem, self.conv1, self.primary_caps, self.digit_caps)):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if self.decoder is not None:
            self.decoder.build((None, self.config.num_classes * self.config.digit_dim))
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        # TensorFlow's oneDNN convolutions return wrong shapes for an empty batch: add an image.
        n = tf.shape(images)[0]
        no_more = [[0, 0]] * len(self.config.image_shape)
        images = tf.pad(images, [[0, tf.cast(n == 0, tf.int32)], *no_more])
        return self.digit_caps(self.primary_capsules(images))[:n]

    def primary_capsules(self, images: tf.Tensor) -> tf.Tensor:
        """The primary capsules, which are routed to the capsules of the classes.

        Args:
            images: uint8 [n, *image_shape]; n must not be 0.

        Returns:
            float32 [n, children, primary_dim].

        Raises:
            tf.errors.InvalidArgumentError: the images have another shape.
        """
        images = tf.ensure_shape(images, [None, *self.config.image_shape])
        if self.config.image_channels == 1:
            images = images[..., tf.newaxis]
        pixels = tf.cast(images, tf.float32) / 255
        if self.config.standardize:
            pixels = tf.image.per_image_standardization(pixels)
        if self.stem is not None:
            pixels = self.stem(pixels)
        return self.primary_caps(self.conv1(pixels))

    def reconstruct(self, capsules: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Reconstructs images from the capsules of the given classes (Section 4.1).

        Args:
            capsules: float32 [n, num_classes, digit_dim], the output of the network.
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
        features = self.config.num_classes * self.config.digit_dim
        return self.decoder(tf.reshape(masked, [tf.shape(capsules)[0], features]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'config': dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> 'CapsNet':
        return cls(**{**config, 'config': NetworkConfig(**config['config'])})


def lengths(capsules: tf.Tensor) -> tf.Tensor:
    """Lengths of capsules: float [n, classes, dim] -> float32 [n, classes] in [0, 1)."""
    return tf.cast(norm(capsules), tf.float32)
