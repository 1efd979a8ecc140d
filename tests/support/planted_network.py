"""A network with batch normalization and dropout, as one may add to NETWORKS."""

import math

import keras
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.losses import cross_entropy
from capsmodel.networks.network import Network
from capsmodel.networks.step import dropout


class PlantedNetwork(Network):
    """Eight units, normalized, of which training leaves out a quarter; a logit for each class."""

    loss_name = 'cross_entropy'

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.units = keras.layers.Dense(8, dtype=self.dtype_policy)
        self.normalization = BatchNormalization(dtype=self.dtype_policy)
        self.logits = keras.layers.Dense(config.num_classes, dtype=self.dtype_policy)
        self.build((None, *config.image_shape))

    def build(self, input_shape):
        self.units.build((None, math.prod(self.config.image_shape)))
        self.normalization.build((None, 1, 1, 8))
        self.logits.build((None, 8))
        self.built = True

    def forward(self, pixels, step):
        flat = tf.reshape(pixels, [tf.shape(pixels)[0], math.prod(self.config.image_shape)])
        units = self.units(flat)[:, tf.newaxis, tf.newaxis]
        x = tf.nn.relu(self.normalization(units, step=step))[:, 0, 0]
        return tf.cast(self.logits(dropout(x, 0.25, step, stream=0)), tf.float32)

    def scores(self, outputs):
        return tf.nn.softmax(outputs)

    def classification_loss(self, labels, outputs, step=None):
        return cross_entropy(labels, outputs)
