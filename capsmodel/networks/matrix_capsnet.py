"""Matrix capsules with EM routing (Hinton, Sabour, Frosst 2018) as a Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.em_routing import Patches, em_routing
from capsmodel.networks.losses import spread_loss
from capsmodel.networks.network import Network
from capsmodel.networks.settings import MatrixCapsNetConfig
from capsmodel.networks.step import Step

_SIDE = 4
_DIM = _SIDE * _SIDE
_FILTERS, _PRIMARY_TYPES, _TYPES = 64, 8, (16, 16)
LAMBDA = 1.0
INIT = 'normal'
STD = 0.5


class MatrixCaps(keras.layers.Layer):
    def __init__(self, types, patches, iterations, has_coordinates=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.types, self.patches, self.iterations = types, patches, iterations
        self.has_coordinates = has_coordinates

    def build(self, input_shape):
        """input_shape: of poses [n, rows, columns, types, 16]."""
        children = input_shape[3] * (1 if self.has_coordinates else int(np.prod(self.patches.seen)))
        shape = (children, _SIDE, self.types * _SIDE)

        def initial(shape, dtype=None):
            noise = keras.initializers.RandomNormal(stddev=STD)(shape, dtype)
            if INIT == 'identity':
                noise += tf.tile(tf.eye(_SIDE), [1, self.types])[tf.newaxis]
            return noise

        kw = {'autocast': False}
        self.kernel = self.add_weight(name='kernel', shape=shape, initializer=initial, **kw)
        self.beta_u = self.add_weight(name='beta_u', shape=(self.types,), initializer='zeros', **kw)
        self.beta_a = self.add_weight(name='beta_a', shape=(self.types,), initializer='zeros', **kw)

    def call(self, poses, logits):
        patches = self.patches
        children = poses.shape[3]
        poses = patches.of(poses)  # [n, P, seen, types, 16]
        log_a = tf.math.log_sigmoid(patches.of(logits))
        positions, seen = poses.shape[1:3]
        n = tf.shape(poses)[0]
        count = seen * children
        if self.has_coordinates:
            # [types, n*seen*4, 4]
            m = tf.transpose(tf.reshape(poses, [n * seen, children, _SIDE, _SIDE]), [1, 0, 2, 3])
            m = tf.reshape(m, [children, n * seen * _SIDE, _SIDE])
            v = tf.matmul(m, self.kernel.value)
            v = tf.reshape(v, [children, n, seen, _SIDE, self.types, _SIDE])
            v = tf.transpose(v, [1, 4, 2, 0, 3, 5])
            v = tf.reshape(v, [n, self.types, seen, children, _DIM])
            v += self._coordinates()
            v = tf.reshape(v, [n, 1, self.types, count, _DIM])
        else:
            m = tf.reshape(poses, [n * positions, count, _SIDE, _SIDE])
            m = tf.reshape(tf.transpose(m, [1, 0, 2, 3]), [count, n * positions * _SIDE, _SIDE])
            v = tf.matmul(m, self.kernel.value)
            v = tf.reshape(v, [count, n * positions, _SIDE, self.types, _SIDE])
            v = tf.transpose(v, [1, 3, 0, 2, 4])
            v = tf.reshape(v, [n, positions, self.types, count, _DIM])
        log_a = tf.reshape(log_a, [n, positions, count])
        rows, columns = patches.parents
        per_parent = np.prod(patches.size) * children / (rows * columns * self.types)
        lambdas = [LAMBDA / per_parent * (1 - 0.95 ** (i + 1)) for i in range(self.iterations)]
        scaled_a = self.beta_a.value * per_parent
        pose, logit = em_routing(v, log_a, self.beta_u.value, scaled_a, lambdas, patches)
        return (
            tf.reshape(pose, [n, rows, columns, self.types, _DIM]),
            tf.reshape(logit, [n, rows, columns, self.types]),
        )

    def _coordinates(self):
        rows, columns = self.patches.size
        c = np.zeros([rows, columns, 1, _DIM], np.float32)
        c[..., 3] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        c[..., 7] = ((np.arange(columns) + 0.5) / columns)[:, None]
        return c.reshape(rows * columns, 1, _DIM)


class MatrixCapsNet(Network):
    loss_name = 'spread_loss'
    config: MatrixCapsNetConfig

    def __init__(self, config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.convolution = keras.layers.Conv2D(
            _FILTERS, 5, 2, activation='relu', kernel_initializer='he_normal', dtype=policy
        )
        self.normalization = BatchNormalization(dtype=policy)
        self.primary = keras.layers.Conv2D(_PRIMARY_TYPES * (_DIM + 1), 1, dtype=policy)
        self.build((None, *config.image_shape))

    def build(self, input_shape):
        shape = (*input_shape[:3], self.config.image_channels)
        self.convolution.build(shape)
        shape = self.convolution.compute_output_shape(shape)
        self.normalization.build(shape)
        self.primary.build(shape)
        size, types = tuple(shape[1:3]), _PRIMARY_TYPES
        rounds = self.config.routing_iterations
        for number, (after, stride) in enumerate(zip(_TYPES, (2, 1), strict=True)):
            layer = MatrixCaps(after, Patches(size, 3, stride), rounds)
            setattr(self, f'caps{number + 1}', layer)
            layer.build((None, *size, types, _DIM))
            size, types = layer.patches.parents, after
        self.class_caps = MatrixCaps(self.config.num_classes, Patches(size), rounds, True)
        self.class_caps.build((None, *size, types, _DIM))
        self.built = True

    def forward(self, pixels, step):
        x = self.normalization(self.convolution(pixels), step=step)
        x = tf.cast(self.primary(x), tf.float32)
        n, (rows, columns) = tf.shape(x)[0], x.shape[1:3]
        poses = tf.reshape(x[..., : _PRIMARY_TYPES * _DIM], [n, rows, columns, _PRIMARY_TYPES, _DIM])
        logits = x[..., _PRIMARY_TYPES * _DIM :]
        for layer in (self.caps1, self.caps2, self.class_caps):
            poses, logits = layer(poses, logits)
        classes = self.config.num_classes
        return {
            'poses': tf.reshape(poses, [n, classes, _DIM]),
            'activations': tf.sigmoid(tf.reshape(logits, [n, classes])),
        }

    def scores(self, outputs):
        return outputs['activations']

    def classification_loss(self, labels, outputs, step=None):
        return spread_loss(labels, outputs['activations'], 0.2 + 0.7 * (1 if step is None else step.progress))

    @property
    def capsule_dim(self) -> int:
        return _DIM

    def capsules(self, outputs):
        return outputs['poses']
