"""A perceptron with two layers: the least that a network needs. Copy it to make another one."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from capsmodel.networks.losses import cross_entropy
from capsmodel.networks.network import Network
from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.step import Step

# As in LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 9: 4.7%
# error on MNIST.
_UNITS = 300


class Mlp(Network):
    """Pixels -> 300 units with ReLU -> a logit for each class, whose softmax are the scores.

    uint8 [n, *config.image_shape] -> logits, float32 [n, num_classes].
    """

    loss_name = 'cross_entropy'

    def __init__(self, config: NetworkConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.hidden = keras.layers.Dense(_UNITS, activation='relu', dtype=policy, name='hidden')
        self.logits = keras.layers.Dense(config.num_classes, dtype=policy, name='logits')
        self.build((None, *config.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build((None, math.prod(self.config.image_shape)))
        self.logits.build((None, _UNITS))
        self.built = True

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        flat = tf.reshape(pixels, [tf.shape(pixels)[0], math.prod(self.config.image_shape)])
        return tf.cast(self.logits(self.hidden(flat)), tf.float32)

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(outputs)

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return cross_entropy(labels, outputs)
