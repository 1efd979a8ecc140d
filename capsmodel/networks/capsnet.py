"""The Capsule Network of Sabour, Frosst, Hinton 2017 as a Keras model."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks import capsnet_memory, native_library
from capsmodel.networks.choices import is_by_agreement
from capsmodel.networks.decoder import Decoder
from capsmodel.networks.layers import DigitCaps, PrimaryCaps
from capsmodel.networks.losses import margin_loss
from capsmodel.networks.network import Network
from capsmodel.networks.reference_routing import predictions, procedure_1
from capsmodel.networks.routing import norm
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.networks.stem import Stem
from capsmodel.networks.step import Step
from capsmodel.networks.strided_convolution import after_first


class CapsNet(Network):
    """Conv1, PrimaryCaps, DigitCaps; a stem before large images, a decoder with `config.decoder`.

    uint8 [n, *config.image_shape] -> capsules float32 [n, num_classes, digit_dim]; n may be unknown
    or 0. The length of a capsule says how sure the network is that its class is in the image.

    The decoder is section 4.1, the loss Eq. 4, and the coupling coefficients are Eq. 3.
    """

    loss_name = 'margin_loss'
    score_name = 'length of capsule'
    how_to_save_memory = (
        f'lower BATCH_SIZE or what makes the network large ({CapsNetConfig.sizes}), leave out the '
        'decoder (DECODER=no), or let STEM be auto'
    )
    config: CapsNetConfig

    def __init__(self, config: CapsNetConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
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
            use_bias=config.digit_bias,
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
        if self.config.initial_values == 'authors':
            self._start_as_the_authors()
        self.built = True

    def _start_as_the_authors(self) -> None:
        """Sets the first values of github.com/Sarasra/models, research/capsules/models/layers."""
        for layer in filter(None, (self.conv1, self.primary_caps, self.digit_caps, self.decoder)):
            stddev = 0.05 if layer is self.conv1 else 0.1
            for variable in layer.weights:
                if variable.name == 'bias':
                    variable.assign(tf.fill(variable.shape, 0.1))
                else:
                    first = keras.initializers.TruncatedNormal(stddev=stddev)
                    variable.assign(first(variable.shape))

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        return self.digit_caps(self._primary_capsules(pixels))

    def weights_to_prepare(self) -> dict[str, Callable[[], tf.Tensor]]:
        rows, columns = (
            size - self.config.conv1_kernel_size + 1 for size in self.config.conv1_size
        )
        inputs = (None, rows, columns, self.config.conv1_filters)
        to_prepare = {}
        if self.primary_caps.transformed_floats(inputs):
            to_prepare['primary_caps'] = lambda: self.primary_caps.prepare(inputs)
        if self.digit_caps.algorithm == 'matmul':
            to_prepare['digit_caps'] = self.digit_caps.prepare
        return to_prepare

    def answer(
        self, images: tf.Tensor, prepared: Mapping[str, Callable[[], tf.Tensor]]
    ) -> tf.Tensor:
        def forward(pixels: tf.Tensor) -> tf.Tensor:
            primary = self._primary_capsules(pixels, prepared.get('primary_caps'))
            return self.digit_caps(primary, prepared=prepared.get('digit_caps'))

        return self._of_any_number(images, forward)

    def primary_capsules(self, images: tf.Tensor) -> tf.Tensor:
        """The primary capsules, which are routed to the capsules of the classes.

        Args:
            images: uint8 [n, *image_shape]; n must not be 0.

        Returns:
            float32 [n, children, primary_dim].

        Raises:
            tf.errors.InvalidArgumentError: the images have another shape.
        """
        return self._primary_capsules(self.pixels(images))

    def _primary_capsules(
        self, pixels: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None
    ) -> tf.Tensor:
        if self.stem is not None:
            return self.primary_caps(self.conv1(self.stem(pixels)), prepared=prepared)
        return after_first(self.conv1, self.primary_caps, pixels, prepared)

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return lengths(outputs)

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return margin_loss(labels, lengths(outputs))

    @property
    def capsule_dim(self) -> int:
        return self.config.digit_dim

    def capsules(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs

    @property
    def coupled_floats(self) -> int:
        if not is_by_agreement(self.config.routing_algorithm):
            return 0
        children, parents, _, dim = self.digit_caps.kernel.shape
        return children * parents * dim

    def coupling_coefficients(self, images: np.ndarray) -> tf.Tensor:
        # The network's own routing may not keep them.
        layer = self.digit_caps
        u_hat = predictions(self.primary_capsules(images), tf.convert_to_tensor(layer.kernel))
        return procedure_1(u_hat, *layer.options())[1]

    def size(self) -> str:
        return f'{self.digit_caps.kernel.shape[0]:,} primary capsules and {super().size()}'

    def slowed_by(self) -> str:
        algorithm = self.config.routing_algorithm
        if algorithm not in ('auto', 'native') or tf.config.list_logical_devices('GPU'):
            return ''
        why_not = native_library.why_not()
        if why_not and algorithm == 'native':
            raise RuntimeError(
                f'ROUTING_ALGORITHM=native cannot be had, since {why_not}; auto takes matmul then'
            )
        return why_not and f'routing is matmul, which takes longer than native, since {why_not}'

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        return capsnet_memory.needed(self.config, exported)

    def bytes_to_train(self, images: int) -> int:
        return capsnet_memory.needed_to_train(self.config, images, self.count_params())


def lengths(capsules: tf.Tensor) -> tf.Tensor:
    """Lengths of capsules: float [n, classes, dim] -> float32 [n, classes] in [0, 1)."""
    return tf.cast(norm(capsules), tf.float32)
