"""Matrix capsules with EM routing (Hinton, Sabour, Frosst 2018) as a Keras model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from capsmodel.networks.em_routing import Windows, em_routing
from capsmodel.networks.losses import spread_loss
from capsmodel.networks.network import Network
from capsmodel.networks.pieces import in_pieces
from capsmodel.networks.settings import MatrixCapsNetConfig
from capsmodel.networks.step import Step

# A pose is a matrix of 4 rows and 4 columns.
_SIDE = 4
_POSE = _SIDE * _SIDE
_CONVOLUTION_SIZE, _CONVOLUTION_STRIDE = 5, 2
_WINDOW = 3
# The first matrices are the identity and noise of this size. Without the identity, the votes of a
# window's children have nothing in common: their mean, the parent's pose, comes to a few percent of
# them, and two layers above all votes lie within the floor of the variance.
_STDDEV = 0.5
# The variance of the first poses and logits, as a multiple of that by Glorot's rule.
_PRIMARY_SCALE = 9.0
# Of beta_u: activations are then about 0.8 at first, where the logistic function is not flat.
_FIRST_BETA_U = 1.0
# lambda ends at 0.0014, and the optimizer changes a variable by about the learning rate a step:
# beta_a is this times its variable, and the amount of data counts this many times as much.
_SCALE = 100.0
# Images whose votes are there at a time: 3 MB an image, and some results of that size.
_IMAGES_AT_ONCE = 8
_FLOAT = 4


class PrimaryMatrixCaps(keras.layers.Layer):
    """A 1x1 convolution that makes a pose and an activation of each type at each position.

    float [n, height, width, channels] -> float32 [n, height, width, types, 17]: the pose, row by
    row, and the activation after the logistic function.

    Args:
        types: number of types.
    """

    def __init__(self, types: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.types = types

    def build(self, input_shape: Sequence[int | None]) -> None:
        outputs = self.types * (_POSE + 1)
        self.kernel = self.add_weight(
            name='kernel',
            shape=(input_shape[-1], outputs),
            initializer=keras.initializers.VarianceScaling(_PRIMARY_SCALE, 'fan_avg', 'uniform'),
        )
        self.bias = self.add_weight(name='bias', shape=(outputs,), initializer='zeros')

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        outputs = tf.cast(tf.matmul(inputs, kernel) + bias, tf.float32)
        shape = [tf.shape(inputs)[0], *inputs.shape[1:3], self.types, _POSE + 1]
        outputs = tf.reshape(outputs, shape)
        return tf.concat([outputs[..., :_POSE], tf.sigmoid(outputs[..., _POSE:])], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return *input_shape[:3], self.types, _POSE + 1

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), 'types': self.types}


class MatrixCaps(keras.layers.Layer):
    """Capsules of matrices above others, by EM routing: ConvCaps, or the capsules of the classes.

    float32 [n, height, width, child types, 17] -> float32 [n, rows, columns, types, 17].

    With `window`, each parent sees the children in a window of so many rows and columns, and has a
    matrix for each place and type in it. Without, there is one position, whose parents see all
    children. The matrices are then shared by all places, and the place of a child is added to the
    first two numbers in the right column of its vote (section 4, coordinate addition).

    Args:
        types: types of parents.
        iterations: of EM routing.
        window: rows and columns of a window; 0: all.
        stride: by which windows step.
        places: with `window` 0, the rows of the places in the image, and their columns, from 0 to
            1.
    """

    def __init__(
        self,
        types: int,
        iterations: int,
        window: int = 0,
        stride: int = 1,
        places: Sequence[Sequence[float]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.types = types
        self.iterations = iterations
        self.window = window
        self.stride = stride
        self.places = tuple(map(tuple, places))

    def build(self, input_shape: Sequence[Any]) -> None:
        _, height, width, child_types, _ = input_shape
        self.windows = (
            Windows((height, width), (self.window, self.window), self.stride)
            if self.window
            else Windows((height, width), (height, width), 1)
        )
        matrices = child_types * self.window**2 if self.window else child_types
        self.kernel = self.add_weight(
            name='kernel',
            shape=(matrices, _SIDE, self.types * _SIDE),
            initializer=_first_matrices,
            autocast=False,
        )
        first = {'beta_u': keras.initializers.Constant(_FIRST_BETA_U), 'beta_a': 'zeros'}
        self.beta_u, self.beta_a = (
            self.add_weight(name=name, shape=(self.types,), initializer=start, autocast=False)
            for name, start in first.items()
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.route(inputs, *map(tf.convert_to_tensor, self.weights))

    def route(
        self, inputs: tf.Tensor, kernel: tf.Tensor, beta_u: tf.Tensor, beta_a: tf.Tensor
    ) -> tf.Tensor:
        """The layer's outputs with the given weights instead of its own."""
        windows = self.windows
        positions, places = windows.cells.shape
        _, height, width, child_types, _ = inputs.shape
        children = places * child_types
        cells = tf.reshape(inputs, [-1, height * width, child_types, _POSE + 1])
        seen = tf.gather(cells, windows.cells, axis=1)
        seen = tf.reshape(seen, [-1, positions, children, _POSE + 1])
        votes = self._votes(seen[..., :_POSE], kernel)
        # All data, spread evenly over the parents, count as much as _SCALE active children.
        parents = positions * self.types
        poses, activations = em_routing(
            votes,
            seen[..., _POSE],
            beta_u,
            _SCALE * beta_a,
            windows,
            self.iterations,
            _SCALE * parents / (height * width * child_types),
        )
        outputs = tf.concat([poses, activations[..., tf.newaxis]], axis=-1)
        return tf.reshape(outputs, [-1, windows.rows, windows.columns, self.types, _POSE + 1])

    def _votes(self, poses: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """V_ij = M_i W_ij: [n, positions, children, 16] -> [n, positions, types, children, 16]."""
        _, positions, children, _ = poses.shape
        matrices = kernel.shape[0]
        places = children // matrices
        rows = tf.reshape(poses, [-1, places, matrices, _SIDE, _SIDE])
        rows = tf.reshape(tf.transpose(rows, [2, 0, 1, 3, 4]), [matrices, -1, _SIDE])
        votes = tf.matmul(rows, kernel)
        votes = tf.reshape(votes, [matrices, -1, places, _SIDE, self.types, _SIDE])
        votes = tf.transpose(votes, [1, 4, 2, 0, 3, 5])
        votes = tf.reshape(votes, [-1, positions, self.types, children, _POSE])
        return votes + self._coordinates(children) if self.places else votes

    def _coordinates(self, children: int) -> np.ndarray:
        """What is added to the votes of each child: float32 [children, 16]."""
        rows, columns = self.places
        added = np.zeros([len(rows), len(columns), _SIDE, _SIDE], np.float32)
        added[..., 0, -1] = np.array(rows)[:, np.newaxis]
        added[..., 1, -1] = columns
        types = children // (len(rows) * len(columns))
        return np.repeat(added.reshape(-1, _POSE), types, axis=0)

    def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[int | None, ...]:
        size = [1, 1]
        if self.window:
            size = [(each - self.window) // self.stride + 1 for each in input_shape[1:3]]
        return input_shape[0], *size, self.types, _POSE + 1

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            'types': self.types,
            'iterations': self.iterations,
            'window': self.window,
            'stride': self.stride,
            'places': [list(axis) for axis in self.places],
        }


def _first_matrices(shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
    """The identity and noise: [matrices, 4, types * 4]."""
    noise = keras.initializers.RandomNormal(stddev=_STDDEV)(shape, dtype)
    return noise + np.tile(np.eye(_SIDE, dtype=np.float32), (1, shape[-1] // _SIDE))


class MatrixCapsNet(Network):
    """A convolution, primary capsules, two layers of ConvCaps, and the capsules of the classes.

    uint8 [n, *config.image_shape] -> float32 [n, num_classes, 17]: a pose of 4x4 numbers, row by
    row, and an activation from 0 to 1, the score of the class. The sizes are those of the paper's
    small network: A = 64, B = 8, C = D = 16. No layer has padding, as in the paper's Figure 1.
    """

    loss_name = 'spread_loss'
    how_to_save_memory = 'lower BATCH_SIZE, or IMAGE_HEIGHT and IMAGE_WIDTH'
    config: MatrixCapsNetConfig

    def __init__(self, config: MatrixCapsNetConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.convolution = keras.layers.Conv2D(
            config.convolution_filters,
            _CONVOLUTION_SIZE,
            _CONVOLUTION_STRIDE,
            activation='relu',
            dtype=policy,
            name='convolution',
        )
        self.primary_caps = PrimaryMatrixCaps(
            config.primary_types, dtype=policy, name='primary_caps'
        )
        types, iterations = config.caps_types, config.routing_iterations
        self.conv_caps_1 = MatrixCaps(types, iterations, _WINDOW, 2, name='conv_caps_1')
        self.conv_caps_2 = MatrixCaps(types, iterations, _WINDOW, 1, name='conv_caps_2')
        self.class_caps = MatrixCaps(
            config.num_classes,
            iterations,
            places=[_centers(size) for size in config.image_shape[:2]],
            name='class_caps',
        )
        self.build((None, *config.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (*input_shape[:3], self.config.image_channels)
        for layer in (self.convolution, self.primary_caps, *self._routed()):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def _routed(self) -> tuple[MatrixCaps, ...]:
        return self.conv_caps_1, self.conv_caps_2, self.class_caps

    def forward(self, pixels: tf.Tensor, step: Step | None) -> tf.Tensor:
        capsules = self.primary_caps(self.convolution(pixels))
        weights = [
            tf.convert_to_tensor(weight) for layer in self._routed() for weight in layer.weights
        ]
        (routed,) = in_pieces(self._route, capsules, weights, _IMAGES_AT_ONCE)
        return tf.reshape(routed, [-1, self.config.num_classes, _POSE + 1])

    def _route(self, capsules: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor]:
        for layer in self._routed():
            capsules = layer.route(capsules, *weights[:3])
            weights = weights[3:]
        return (capsules,)

    def scores(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., _POSE]

    def classification_loss(
        self, labels: tf.Tensor, outputs: tf.Tensor, step: Step | None = None
    ) -> tf.Tensor:
        return spread_loss(labels, self.scores(outputs), 1.0 if step is None else step.progress)

    @property
    def capsule_dim(self) -> int:
        return _POSE

    def capsules(self, outputs: tf.Tensor) -> tf.Tensor:
        return outputs[..., :_POSE]

    def bytes_to_evaluate(self, exported: bool = False) -> tuple[int, int]:
        below, votes = self._floats()
        return _FLOAT * (self.count_params() + 6 * _IMAGES_AT_ONCE * votes), _FLOAT * 3 * below

    def bytes_to_train(self, images: int) -> int:
        below, votes = self._floats()
        at_once = min(images, _IMAGES_AT_ONCE)
        return _FLOAT * (4 * self.count_params() + 12 * at_once * votes + 6 * images * below)

    def _floats(self) -> tuple[int, int]:
        """For one image: the numbers in what is below the routing, and in all votes."""
        shape: Any = (1, *self.config.image_shape[:2], self.config.image_channels)
        below, votes = math.prod(shape), 0
        for layer in (self.convolution, self.primary_caps):
            shape = layer.compute_output_shape(shape)
            below += math.prod(shape)
        for layer in self._routed():
            votes += layer.windows.cells.size * shape[3] * layer.types * _POSE
            shape = layer.compute_output_shape(shape)
        return below, votes


def _centers(size: int) -> list[float]:
    """Where the fields of the capsules below those of the classes have their centers, 0 to 1.

    Args:
        size: Rows, or columns, of the image in pixels.
    """
    first, step, count = 0.5, 1, size
    layers = ((_CONVOLUTION_SIZE, _CONVOLUTION_STRIDE), (_WINDOW, 2), (_WINDOW, 1))
    for window, stride in layers:
        first += step * (window - 1) / 2
        step *= stride
        count = (count - window) // stride + 1
    return [(first + step * number) / size for number in range(count)]
