"""The Capsule Network of Sabour, Frosst, Hinton 2017: its settings and the Keras model."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.choices import (
    PRECISIONS,
    PRIMARY_ALGORITHMS,
    ROUTINGS,
    check_choice,
    check_routing_options,
)
from capsmodel.networks.layers import Decoder, DigitCaps, PrimaryCaps
from capsmodel.networks.routing import norm


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Settings of a CapsNet; the defaults are the paper's.

    Attributes:
        image_height: rows of an image, in pixels.
        image_width: columns of an image, in pixels.
        num_classes: number of classes, each of which gets a capsule; at least 2.
        conv1_filters: filters of the first convolution, which has stride 1 and ReLU.
        conv1_kernel: its kernel size.
        primary_channels: primary capsules at each position of the grid.
        primary_dim: components of a primary capsule.
        primary_kernel: kernel size of the convolution that makes primary capsules.
        primary_stride: its stride; 2 gives the paper's 6x6 grid on 28x28 images.
        primary_algorithm: 'conv2d' or 'winograd': how that convolution is computed; 'auto' takes
            the faster one. Results differ in rounding only.
        digit_dim: components of the capsule of a class.
        routing_iterations: iterations of routing by agreement, at least 1.
        routing_gradient: 'all' differentiates through every iteration, 'last' through the last
            one only.
        routing_algorithm: 'matmul'; 'fused' for GPUs, where XLA then compiles the routing; or
            'reference', which is the paper's Procedure 1 as written there and slower. Results
            differ in rounding only, and exported models use 'matmul' for all three.
        decoder: whether there is a decoder, which draws images from capsules.
        decoder_units: sizes of the decoder's hidden layers.
        precision: 'float32', or 'mixed_bfloat16' for hardware that multiplies bfloat16 fast:
            convolutions and the decoder's products are in bfloat16 then; weights, capsules,
            routing, losses and everything that comes out stay float32.

    Raises:
        ValueError: a setting makes no sense; the message says which and why.
    """

    image_height: int
    image_width: int
    num_classes: int
    conv1_filters: int = 256
    conv1_kernel: int = 9
    primary_channels: int = 32
    primary_dim: int = 8
    primary_kernel: int = 9
    primary_stride: int = 2
    primary_algorithm: str = 'auto'
    digit_dim: int = 16
    routing_iterations: int = 3
    routing_gradient: str = 'all'
    routing_algorithm: str = 'matmul'
    decoder: bool = True
    decoder_units: tuple[int, ...] = (512, 1024)
    precision: str = 'float32'

    def __post_init__(self) -> None:
        check_routing_options(self.routing_iterations, self.routing_gradient)
        check_choice('the routing algorithm', self.routing_algorithm, ROUTINGS)
        check_choice('the primary algorithm', self.primary_algorithm, PRIMARY_ALGORITHMS)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and not _is_positive_int(value):
                raise ValueError(
                    f'{field.name} must be a whole number of at least 1, not {value!r}'
                )
        if self.num_classes < 2:
            raise ValueError(f'num_classes must be at least 2, not {self.num_classes}')
        if not isinstance(self.decoder, bool):
            raise ValueError(f'decoder must be True or False, not {self.decoder!r}')
        if not isinstance(self.decoder_units, tuple) or not all(
            _is_positive_int(size) for size in self.decoder_units
        ):
            raise ValueError(
                'decoder_units must be a tuple of whole numbers of at least 1, '
                f'not {self.decoder_units!r}'
            )
        check_choice('precision', self.precision, PRECISIONS)
        smallest = self.conv1_kernel + self.primary_kernel - 1
        if min(self.image_height, self.image_width) < smallest:
            raise ValueError(
                f'images of {self.image_height}x{self.image_width} pixels are too small: kernels '
                f'of size {self.conv1_kernel} and {self.primary_kernel} need at least '
                f'{smallest}x{smallest}'
            )

    def to_json_dict(self) -> dict[str, Any]:
        """The settings as values that JSON keeps as they are."""
        return {**dataclasses.asdict(self), 'decoder_units': list(self.decoder_units)}

    @classmethod
    def from_json_dict(cls, settings: dict[str, Any]) -> 'NetworkConfig':
        """The config that `to_json_dict` gave `settings` for.

        Raises:
            ValueError: a setting is unknown, missing or senseless; the message names it.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(settings.keys() - fields.keys())
        missing = sorted(
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING and name not in settings
        )
        if unknown:
            raise ValueError(f'unknown network settings: {", ".join(unknown)}')
        if missing:
            raise ValueError(f'missing network settings: {", ".join(missing)}')
        settings = dict(settings)
        if isinstance(settings.get('decoder_units'), list):
            settings['decoder_units'] = tuple(settings['decoder_units'])
        return cls(**settings)


class CapsNet(keras.Model):
    """Conv1, PrimaryCaps, DigitCaps and, with `config.decoder`, the decoder.

    uint8 [n, height, width] -> capsules float32 [n, num_classes, digit_dim]; n may be unknown or 0.
    The length of a capsule says how sure the network is that its class is in the image.

    All variables exist after construction. Keras initializers give them their first values, so two
    networks that are made after the same `keras.utils.set_random_seed` are equal.

    Args:
        config: The settings.
        **kwargs: Arguments of keras.Model; the default dtype policy is `config.precision`.
    """

    def __init__(self, config: NetworkConfig, **kwargs: Any) -> None:
        super().__init__(**{'dtype': config.precision, **kwargs})
        self.config = config
        self.conv1 = keras.layers.Conv2D(
            config.conv1_filters,
            config.conv1_kernel,
            activation='relu',
            dtype=self.dtype_policy,
            name='conv1',
        )
        self.primary_caps = PrimaryCaps(
            config.primary_channels,
            config.primary_dim,
            config.primary_kernel,
            config.primary_stride,
            config.primary_algorithm,
            dtype=self.dtype_policy,
            name='primary_caps',
        )
        self.digit_caps = DigitCaps(
            config.num_classes,
            config.digit_dim,
            config.routing_iterations,
            config.routing_gradient,
            config.routing_algorithm,
            dtype=self.dtype_policy,
            name='digit_caps',
        )
        self.decoder = (
            Decoder(
                config.decoder_units,
                config.image_height,
                config.image_width,
                dtype=self.dtype_policy,
                name='decoder',
            )
            if config.decoder
            else None
        )
        self.build((None, config.image_height, config.image_width))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (*input_shape, 1)
        for layer in (self.conv1, self.primary_caps, self.digit_caps):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if self.decoder is not None:
            self.decoder.build((None, self.config.num_classes * self.config.digit_dim))
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        # TensorFlow's oneDNN convolutions return wrong shapes for an empty batch: add an image.
        n = tf.shape(images)[0]
        images = tf.pad(images, [[0, tf.cast(n == 0, tf.int32)], [0, 0], [0, 0]])
        return self.digit_caps(self.primary_capsules(images))[:n]

    def primary_capsules(self, images: tf.Tensor) -> tf.Tensor:
        """The primary capsules, which are routed to the capsules of the classes.

        Args:
            images: uint8 [n, height, width]; n must not be 0.

        Returns:
            float32 [n, children, primary_dim].

        Raises:
            tf.errors.InvalidArgumentError: the images have another height or width.
        """
        shape = [None, self.config.image_height, self.config.image_width]
        pixels = tf.cast(tf.ensure_shape(images, shape), tf.float32)[..., tf.newaxis] / 255
        return self.primary_caps(self.conv1(pixels))

    def reconstruct(self, capsules: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Reconstructs images from the capsules of the given classes (Section 4.1).

        Args:
            capsules: float32 [n, num_classes, digit_dim], the output of the network.
            labels: integers [n], the class of each image whose capsule is used; the others are
                masked. It is the true class in training and the predicted class otherwise.

        Returns:
            float32 [n, height, width] in (0, 1), 0 being black.

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
        return {**super().get_config(), 'config': self.config.to_json_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> 'CapsNet':
        return cls(**{**config, 'config': NetworkConfig.from_json_dict(config['config'])})


def lengths(capsules: tf.Tensor) -> tf.Tensor:
    """Lengths of capsules: float [n, classes, dim] -> float32 [n, classes] in [0, 1)."""
    return tf.cast(norm(capsules), tf.float32)


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
