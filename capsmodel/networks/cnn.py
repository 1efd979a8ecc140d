"""The convolutional networks that capsule networks are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.losses import cross_entropy
from capsmodel.networks.network import FLOAT, Network
from capsmodel.networks.settings import CnnConfig, CnnLargeKernelsConfig, CnnSettings
from capsmodel.networks.step import Step, dropout
from capsmodel.networks.strided_convolution import StridedConvolution, after_first

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
    with ReLU and without padding; the mean over all positions; a logit for each class. On 28x28
    grey pixels and ten classes it has 5,332,234 parameters. Gu, Tresp, Hu 2021 (arXiv:2103.15459)
    found that such a network withstands affine changes better than CapsNet; their channels are not
    known here.
    """

    how_to_save_memory = Cnn.how_to_save_memory

    def __init__(self, config: CnnLargeKernelsConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        channels = _scaled(_LARGE_CHANNELS, config)
        self.conv1 = keras.layers.Conv2D(
            channels, _LARGE_KERNEL_SIZE, activation='relu', dtype=policy, name='conv1'
        )
        self.conv2 = StridedConvolution(
            channels, _LARGE_KERNEL_SIZE, strides=2, dtype=policy, name='conv2'
        )
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=policy)
        self.logits = keras.layers.Dense(config.num_classes, dtype=policy, name='logits')
        self.build((None, *config.image_shape))

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        return self._logits(pixels)

    def _logits(
        self, pixels: tf.Tensor, prepared: Callable[[], tf.Tensor] | None = None
    ) -> tf.Tensor:
        features = tf.nn.relu(after_first(self.conv1, self.conv2, pixels, prepared))
        return tf.cast(self.logits(self.pool(features)), tf.float32)

    def weights_to_prepare(self) -> dict[str, Callable[[], tf.Tensor]]:
        inputs = self._between()
        if not self.conv2.transformed_floats(inputs):
            return {}
        return {'conv2': lambda: self.conv2.prepare(inputs)}

    def answer(
        self, images: tf.Tensor, prepared: Mapping[str, Callable[[], tf.Tensor]]
    ) -> tf.Tensor:
        return self._of_any_number(
            images, lambda pixels: self._logits(pixels, prepared.get('conv2'))
        )

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        once, each = super().bytes_to_evaluate(exported)
        inputs = self._between()
        kernel = self.conv2.transformed_kernel_floats(inputs)
        if kernel:
            once, each = once + FLOAT * kernel, FLOAT * self.conv2.floats_to_evaluate(inputs)
        return once, each

    def bytes_to_train(self, images: int) -> int:
        inputs = self._between(images)
        kernel = self.conv2.transformed_kernel_floats(inputs)
        if not kernel:
            return super().bytes_to_train(images)
        once = 4 * self.count_params() + 2 * kernel
        return FLOAT * (once + images * self.conv2.floats_to_train(inputs))

    def _between(self, images: int | None = None) -> tuple[Any, ...]:
        """The shape of what the second convolution reads."""
        pixels = images, *self.config.image_shape[:2], self.config.image_channels
        return self.conv1.compute_output_shape(pixels)
