"""Matrix capsules with EM routing (Hinton, Sabour, Frosst 2018) as a Keras model: the small size.

The paper is at openreview.net/forum?id=HJWLfGWRb. It has A=64, B=8, C=D=16 for this size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.batch_normalization import BatchNormalization
from capsmodel.networks.capsule_patches import Patches
from capsmodel.networks.em_routing import EmRouting
from capsmodel.networks.losses import SPREAD_MARGINS, spread_loss
from capsmodel.networks.network import FLOAT, Network
from capsmodel.networks.settings import MatrixCapsNetConfig
from capsmodel.networks.step import Step

# A pose is a matrix of 4x4.
_SIDE = 4
_DIM = _SIDE * _SIDE

# A: a convolution of 5x5 with stride 2. B: types of primary capsules. C and D: types of each layer
# of convolutional capsules; kernel and stride.
_FILTERS, _KERNEL_SIZE, _STRIDE = 64, 5, 2
_PRIMARY_TYPES = 8
_CONVOLUTIONAL = ((16, 3, 2), (16, 3, 1))

# Transformation matrices start near the identity, so that in the beginning the votes of children
# with similar poses agree.
_DEVIATION = 0.1

# lambda in iteration t, counted from 1, is 1 - 0.95^t. The authors' program has 0.01 times that,
# for costs that grow with the children of a parent; here these are divided by their mean number.
_LAMBDA_DECAY = 0.95


class MatrixCaps(keras.layers.Layer):
    """Capsules whose poses are routed by EM from the votes of those of the layer below.

    A vote is V_ij = M_i W_ij, the child's pose times a matrix for each pair of types and, with
    `patches.kernel`, each place in the patch. Without it, as in the class capsules, all positions
    share their matrices, and each adds its own row and column, from 0 to 1, to the first two
    numbers of the vote's last column: "Coordinate Addition".

    Args:
        types: of capsules at each position.
        patches: which positions feed which.
        iterations: of EM.
        sharpness: see EmRouting.
    """

    def __init__(
        self, types: int, patches: Patches, iterations: int, sharpness: float, **kwargs: Any
    ) -> None:
        # All is computed in float32: in mixed precision Keras would round the arguments of `call`.
        super().__init__(autocast=False, **kwargs)
        self.types = types
        self.patches = patches
        self.iterations = iterations
        self.sharpness = sharpness

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights for poses [n, rows, columns, types of children, 16]."""
        children = input_shape[3]
        assert children is not None
        matrices = children * (math.prod(self.patches.seen) if self.patches.kernel else 1)

        def near_identity(shape: Any, dtype: Any = None) -> tf.Tensor:
            noise = keras.initializers.RandomNormal(stddev=_DEVIATION)(shape, dtype)
            return tf.tile(tf.eye(_SIDE), [1, self.types]) + noise

        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> Any:
            return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

        self.kernel = weight('kernel', (matrices, _SIDE, self.types * _SIDE), near_identity)
        self.beta_u = weight('beta_u', (self.types,), 'zeros')
        self.beta_a = weight('beta_a', (self.types,), 'zeros')
        rows, columns = self.patches.parents
        fed = math.prod(self.patches.size) * children
        # The data of a parent when all children are active and all parents have as much.
        self.mean_data = fed / (rows * columns * self.types)
        children_seen = math.prod(self.patches.seen) * children
        self.votes_of_an_image = rows * columns * self.types * children_seen * _DIM
        self.routing = EmRouting(
            self.types,
            self.patches,
            [(1 - _LAMBDA_DECAY**t) / self.mean_data for t in range(1, self.iterations + 1)],
            self.sharpness,
        )

    def call(self, poses: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The capsules of this layer.

        Args:
            poses: float32 [n, rows, columns, types of children, 16]; n must not be 0.
            logits: of the activations [n, rows, columns, types of children].

        Returns:
            The same of the parents.
        """
        poses, logits = self.routing(*self._routed(poses, logits))
        shape = [tf.shape(poses)[0], *self.patches.parents, self.types]
        return tf.reshape(poses, [*shape, _DIM]), tf.reshape(logits, shape)

    def assignments(self, poses: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """How each child is shared out: see EmRouting; the arguments are those of `call`."""
        return self.routing.assignments(*self._routed(poses, logits))

    def _routed(self, poses: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The arguments of the routing."""
        log_a = tf.math.log_sigmoid(self.patches.of(logits))
        n, (positions, seen, types) = tf.shape(log_a)[0], log_a.shape[1:]
        log_a = tf.reshape(log_a, [n, positions, seen * types])
        betas = tf.convert_to_tensor(self.beta_u), tf.convert_to_tensor(self.beta_a)
        # beta_a is in units of the mean data, as the cost is after lambda's division.
        return self.votes(poses), log_a, betas[0], betas[1] * self.mean_data

    def votes(self, poses: tf.Tensor) -> tf.Tensor:
        """V [n, positions of parents, types, children that one sees, 16]."""
        children = poses.shape[3]
        poses = self.patches.of(poses)
        n, (positions, seen) = tf.shape(poses)[0], poses.shape[1:3]
        kernel = tf.convert_to_tensor(self.kernel)
        # A matrix product for each W_ij, of all poses that it transforms below each other.
        matrices = kernel.shape[0]
        rest = positions * seen * children // matrices
        stacked = tf.reshape(poses, [n * rest, matrices, _SIDE, _SIDE])
        stacked = tf.reshape(tf.transpose(stacked, [1, 0, 2, 3]), [matrices, -1, _SIDE])
        votes = tf.reshape(
            tf.matmul(stacked, kernel), [matrices, n, rest, _SIDE, self.types, _SIDE]
        )
        if self.patches.kernel:
            votes = tf.transpose(votes, [1, 2, 4, 0, 3, 5])
            return tf.reshape(votes, [n, positions, self.types, matrices, _DIM])
        votes = tf.transpose(votes, [1, 4, 2, 0, 3, 5])
        votes = tf.reshape(votes, [n, self.types, seen, children, _DIM])
        votes += self._coordinates()
        return tf.reshape(votes, [n, 1, self.types, seen * children, _DIM])

    def _coordinates(self) -> np.ndarray:
        """What is added to the votes of each position: float32 [positions, 1, 16]."""
        rows, columns = self.patches.size
        added = np.zeros([rows, columns, _SIDE, _SIDE], np.float32)
        added[..., 0, -1] = ((np.arange(rows) + 0.5) / rows)[:, np.newaxis]
        added[..., 1, -1] = (np.arange(columns) + 0.5) / columns
        return added.reshape(rows * columns, 1, _DIM)


class MatrixCapsNet(Network):
    """A normalized convolution, primary capsules, two MatrixCaps with 3x3 patches, class capsules.

    uint8 [n, *config.image_shape] -> poses, float32 [n, num_classes, 16], 4x4 matrices row by row;
    and activations, float32 [n, num_classes]. 68,572 numbers are trained for MNIST, 128 of which
    are those of batch normalization, which the paper's network does not have.
    """

    loss_name = 'spread_loss'
    score_name = 'activation of capsule'
    config: MatrixCapsNetConfig

    def __init__(self, config: MatrixCapsNetConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.convolution = keras.layers.Conv2D(
            _FILTERS,
            _KERNEL_SIZE,
            _STRIDE,
            activation='relu',
            kernel_initializer='he_normal',
            dtype=policy,
            name='convolution',
        )
        self.normalization = BatchNormalization(dtype=policy, name='normalization')
        self.primary_caps = keras.layers.Conv2D(
            _PRIMARY_TYPES * (_DIM + 1), 1, dtype=policy, name='primary_caps'
        )
        how = config.routing_iterations, config.routing_sharpness
        shape = self.convolution.compute_output_shape((None, *config.image_shape[:2], 1))
        size = (shape[1], shape[2])
        for number, (types, kernel, stride) in enumerate(_CONVOLUTIONAL, start=1):
            patches = Patches(size, kernel, stride)
            setattr(self, f'caps{number}', MatrixCaps(types, patches, *how, name=f'caps{number}'))
            size = patches.parents
        self.class_caps = MatrixCaps(config.num_classes, Patches(size), *how, name='class_caps')
        self.build((None, *config.image_shape))

    def _routed(self) -> list[MatrixCaps]:
        return [getattr(self, f'caps{number + 1}') for number in range(len(_CONVOLUTIONAL))]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape: Any = (*input_shape[:3], self.config.image_channels)
        self.convolution.build(shape)
        shape = self.convolution.compute_output_shape(shape)
        self.normalization.build(shape)
        self.primary_caps.build(shape)
        types = _PRIMARY_TYPES
        for layer in (*self._routed(), self.class_caps):
            layer.build((None, *layer.patches.size, types, _DIM))
            types = layer.types
        self.built = True

    def forward(self, pixels: tf.Tensor, step: Step | None) -> dict[str, tf.Tensor]:
        poses, logits = self.class_caps(*self._children(pixels, step))
        n, classes = tf.shape(poses)[0], self.config.num_classes
        activations = tf.sigmoid(tf.reshape(logits, [n, classes]))
        return {'poses': tf.reshape(poses, [n, classes, _DIM]), 'activations': activations}

    def _children(self, pixels: tf.Tensor, step: Step | None) -> tuple[tf.Tensor, tf.Tensor]:
        """The capsules that the class capsules see: poses, and logits of their activations."""
        x = self.normalization(self.convolution(pixels), step=step)
        x = tf.cast(self.primary_caps(x), tf.float32)
        shape = [tf.shape(x)[0], *x.shape[1:3], _PRIMARY_TYPES]
        poses, logits = tf.split(x, [_PRIMARY_TYPES * _DIM, _PRIMARY_TYPES], axis=-1)
        poses = tf.reshape(poses, [*shape, _DIM])
        for layer in self._routed():
            poses, logits = layer(poses, logits)
        return poses, logits

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        return super().bytes_to_evaluate()[0], FLOAT * 5 * max(self._votes_of_an_image())

    def bytes_to_train(self, images: int) -> int:
        # The votes of all layers are kept for the gradient.
        votes = self._votes_of_an_image()
        of_an_image = 2 * sum(votes) + 6 * max(votes)
        return FLOAT * (4 * self.count_params() + images * of_an_image)

    def _votes_of_an_image(self) -> list[int]:
        """The numbers in the votes of each layer."""
        layers = (*self._routed(), self.class_caps)
        return [layer.votes_of_an_image for layer in layers]

    def scores(self, outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return outputs['activations']

    def classification_loss(
        self, labels: tf.Tensor, outputs: dict[str, tf.Tensor], step: Step | None = None
    ) -> tf.Tensor:
        first, last = SPREAD_MARGINS
        # Without a step the training is over, and the margin is the last one.
        progress = step.progress if step else 1.0
        return spread_loss(labels, outputs['activations'], first + (last - first) * progress)

    @property
    def capsule_dim(self) -> int:
        return _DIM

    def capsules(self, outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return outputs['poses']

    @property
    def coupled_floats(self) -> int:
        children = math.prod(self.class_caps.patches.size) * _CONVOLUTIONAL[-1][0]
        return self.config.routing_iterations * self.config.num_classes * children

    def coupling_coefficients(self, images: np.ndarray) -> tf.Tensor:
        children = self._children(self.pixels(tf.convert_to_tensor(images)), None)
        return self.class_caps.assignments(*children)[:, :, 0]
