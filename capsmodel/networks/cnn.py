"""The convolutional networks that capsule networks are compared with."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.losses import cross_entropy
from capsmodel.networks.network import Network
from capsmodel.networks.settings import CnnConfig, CnnLargeKernelsConfig, CnnSettings
from capsmodel.networks.step import Step, dropout

# Section 5 of Sabour, Frosst, Hinton 2017; it does not say the part that dropout leaves out, which
# is that of Hinton et al. 2012 (arXiv:1207.0580) here.
_CHANNELS = (256, 256, 128)
_KERNEL_SIZE = 5
_UNITS = (328, 192)
_DROPOUT = 0.5

# The convolutions of CapsNet itself: conv1 and that of the primary capsules.
_LARGE_CHANNELS = 256
_LARGE_KERNEL_SIZE = 9


class _Convolutional(Network):
    """Layers in turn, the last of which gives a logit for each class; softmax, cross-entropy.

    uint8 [n, *config.image_shape] -> logits, float32 [n, num_classes].
    """

    loss_name = 'cross_entropy'

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape: Any = (*input_shape[:3], self.config.image_channels)
        for layer in self.layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(outputs)

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return cross_entropy(labels, outputs)


def _scaled(channels: int, settings: CnnSettings) -> int:
    return max(1, round(settings.cnn_width * channels))


class Cnn(_Convolutional):
    """The baseline of Sabour, Frosst, Hinton 2017, section 5.

    Three 5x5 convolutions of 256, 256 and 128 channels, times `config.cnn_width`, with ReLU; two
    layers of 328 and 192 units with ReLU; dropout; softmax. With SAME padding it has the paper's
    35.4 million parameters on 28x28 pixels.
    """

    how_to_save_memory = 'lower BATCH_SIZE, CNN_WIDTH, or IMAGE_HEIGHT and IMAGE_WIDTH'

    def __init__(self, config: CnnConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        for number, channels in enumerate(_CHANNELS):
            convolution = keras.layers.Conv2D(
                _scaled(channels, config),
                _KERNEL_SIZE,
                padding='same',
                activation='relu',
                dtype=policy,
                name=f'conv{number + 1}',
            )
            setattr(self, f'conv{number + 1}', convolution)
        self.flatten = keras.layers.Flatten(dtype=policy)
        for number, units in enumerate(_UNITS):
            dense = keras.layers.Dense(
                units, activation='relu', dtype=policy, name=f'dense{number + 1}'
            )
            setattr(self, f'dense{number + 1}', dense)
        self.logits = keras.layers.Dense(config.num_classes, dtype=policy, name='logits')
        self.build((None, *config.image_shape))

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        x = pixels
        for layer in self.layers[:-1]:
            x = layer(x)
        return tf.cast(self.logits(dropout(x, _DROPOUT, step, stream=0)), tf.float32)


class CnnLargeKernels(_Convolutional):
    """CapsNet's own convolutions without capsules: 9x9 kernels, average pooling, softmax.

    Two 9x9 convolutions of 256 channels, times `config.cnn_width`, the second with stride 2, both
    with ReLU and without padding; the mean over all positions; a logit for each class. On 28x28 grey pixels and ten
    classes it has 5,332,234 parameters. Gu, Tresp, Hu 2021 (arXiv:2103.15459) found that such a
    network withstands affine changes better than CapsNet; their channels are not known here.
    """

    how_to_save_memory = Cnn.how_to_save_memory

    def __init__(self, config: CnnLargeKernelsConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        for number, stride in enumerate((1, 2)):
            convolution = keras.layers.Conv2D(
                _scaled(_LARGE_CHANNELS, config),
                _LARGE_KERNEL_SIZE,
                strides=stride,
                activation='relu',
                dtype=policy,
                name=f'conv{number + 1}',
            )
            setattr(self, f'conv{number + 1}', convolution)
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=policy)
        self.logits = keras.layers.Dense(config.num_classes, dtype=policy, name='logits')
        self.build((None, *config.image_shape))

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        x = pixels
        for layer in self.layers:
            x = layer(x)
        return tf.cast(x, tf.float32)
