"""Efficient-CapsNet (Mazzia, Salvetti, Chiaberge 2021, arXiv:2101.12491) as a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.capsnet import lengths
from capsmodel.networks.decoder import Decoder
from capsmodel.networks.losses import margin_loss
from capsmodel.networks.network import Network
from capsmodel.networks.self_attention_routing import AttentionCaps, exponential_squash
from capsmodel.networks.settings import EfficientCapsNetConfig
from capsmodel.networks.step import Step

# Filters, kernel size and stride of each convolution.
_CONVOLUTIONS = ((32, 5, 1), (64, 3, 1), (64, 3, 1), (128, 3, 2))
_PRIMARY_DIM, _DIGIT_DIM = 8, 16


class NormalizedConvolutions(keras.layers.Layer):
    """Convolutions without padding, each followed by ReLU and batch normalization.

    float [n, height, width, channels] -> [n, rows, columns, filters of the last one].

    Args:
        convolutions: filters, kernel size and stride of each.
    """

    def __init__(self, convolutions: Sequence[Sequence[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolutions = tuple(map(tuple, convolutions))
        # Each layer is an attribute: tf.train.Checkpoint does not see layers in a Keras list.
        for number, (filters, size, stride) in enumerate(self.convolutions):
            convolution = keras.layers.Conv2D(
                filters,
                size,
                stride,
                activation='relu',
                kernel_initializer='he_normal',
                dtype=self.dtype_policy,
            )
            setattr(self, f'convolution_{number}', convolution)
            setattr(self, f'normalization_{number}', BatchNormalization(dtype=self.dtype_policy))

    def _pairs(self) -> list[tuple[keras.layers.Conv2D, BatchNormalization]]:
        return [
            (getattr(self, f'convolution_{number}'), getattr(self, f'normalization_{number}'))
            for number in range(len(self.convolutions))
        ]

    def build(self, input_shape: Sequence[int | None]) -> None:
        for convolution, normalization in self._pairs():
            convolution.build(input_shape)
            input_shape = convolution.compute_output_shape(input_shape)
            normalization.build(input_shape)

    def call(self, inputs: tf.Tensor, step: Step | None = None) -> tf.Tensor:
        x = inputs
        for convolution, normalization in self._pairs():
            x = normalization(convolution(x), step=step)
        return x

    def folded(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The outputs outside training, of which the last normalization is left to the caller.

        Outside training, a normalization is an affine map of each channel. The convolution behind
        it takes it into its weights: the results are the same to rounding, and it costs no time.

        Returns:
            x [n, rows, columns, filters], and factor and offset, float32 [filters]: the layer's
            outputs are factor x + offset.
        """
        x = tf.cast(inputs, self.compute_dtype)
        factor, offset = tf.ones(inputs.shape[-1]), tf.zeros(inputs.shape[-1])
        for convolution, normalization in self._pairs():
            # In mixed precision Keras has rounded both.
            kernel, bias = (
                tf.cast(tf.convert_to_tensor(weight), tf.float32)
                for weight in (convolution.kernel, convolution.bias)
            )
            bias += tf.einsum('yxcf,c->f', kernel, offset)
            kernel *= factor[:, tf.newaxis]
            kernel, bias = tf.cast(kernel, x.dtype), tf.cast(bias, x.dtype)
            x = tf.nn.conv2d(x, kernel, convolution.strides, 'VALID')
            x = tf.nn.relu(tf.nn.bias_add(x, bias))
            factor, offset = normalization.affine()
        return x, factor, offset

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        for convolution, _ in self._pairs():
            input_shape = convolution.compute_output_shape(input_shape)
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'convolutions': [list(each) for each in self.convolutions]}


class DepthwiseCaps(keras.layers.Layer):
    """A depthwise convolution that spans the whole map, whose outputs are squashed capsules.

    float [n, height, width, channels] -> float32 [n, channels // dim, dim]. Each channel has a
    kernel of height x width, which gives one number: the convolution is a weighted sum over the
    positions. That is how it is computed: TensorFlow's convolution does not know it.

    Args:
        dim: components of a capsule.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        # All is computed in float32: in mixed precision Keras would round the arguments of `call`.
        super().__init__(autocast=False, **kwargs)
        self.dim = dim

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(
            name='kernel', shape=input_shape[1:], initializer='glorot_uniform', autocast=False
        )
        self.bias = self.add_weight(
            name='bias', shape=input_shape[-1:], initializer='zeros', autocast=False
        )

    def call(
        self, inputs: tf.Tensor, factor: tf.Tensor | None = None, offset: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The capsules of the inputs or, with `factor` and `offset`, of factor x + offset."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if factor is not None:
            bias += offset * tf.reduce_sum(kernel, axis=[0, 1])
            kernel *= factor
        positions = [kernel.shape[0] * kernel.shape[1], kernel.shape[2]]
        x = tf.reshape(tf.cast(inputs, kernel.dtype), [tf.shape(inputs)[0], *positions])
        sums = tf.reduce_sum(x * tf.reshape(kernel, positions), axis=1) + bias
        return exponential_squash(tf.reshape(sums, [-1, positions[1] // self.dim, self.dim]))

    def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[int | None, ...]:
        return input_shape[0], input_shape[-1] // self.dim, self.dim

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'dim': self.dim}


class EfficientCapsNet(Network):
    """Normalized convolutions, DepthwiseCaps, AttentionCaps; a decoder with `config.decoder`.

    uint8 [n, *config.image_shape] -> capsules float32 [n, num_classes, 16]. 161,824 numbers are
    trained for MNIST without the decoder. The length of a capsule says how sure the network is of
    its class. The loss is the margin loss of `capsnet`. The authors weigh the mean squared
    reconstruction error by 0.392, which is 0.0005 for the sum over 28x28 pixels.
    """

    loss_name = 'margin_loss'
    score_name = 'length of capsule'
    config: EfficientCapsNetConfig

    def __init__(self, config: EfficientCapsNetConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.convolutions = NormalizedConvolutions(_CONVOLUTIONS, dtype=policy, name='convolutions')
        self.primary_caps = DepthwiseCaps(_PRIMARY_DIM, dtype=policy, name='primary_caps')
        self.digit_caps = AttentionCaps(
            config.num_classes, _DIGIT_DIM, dtype=policy, name='digit_caps'
        )
        if config.decoder:
            self.decoder = Decoder(
                config.decoder_units, config.image_shape, dtype=policy, name='decoder'
            )
        self.build((None, *config.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (*input_shape[:3], self.config.image_channels)
        for layer in (self.convolutions, self.primary_caps, self.digit_caps):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if self.decoder is not None:
            self.decoder.build((None, self.config.num_classes * _DIGIT_DIM))
        self.built = True

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        if step is None:
            return self.digit_caps(self.primary_caps(*self.convolutions.folded(pixels)))
        return self.digit_caps(self.primary_caps(self.convolutions(pixels, step=step)))

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return lengths(outputs)

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return margin_loss(labels, lengths(outputs))

    @property
    def capsule_dim(self) -> int:
        return _DIGIT_DIM

    def capsules(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs
