"""Tests of FusedAdam against Keras's own Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.training.optimizer import FusedAdam

_SHAPES = ((3, 4), (5,), ())


def _trained(
    optimizer_class: type[keras.optimizers.Adam],
    strategy: tf.distribute.Strategy,
    **settings: object,
) -> list[np.ndarray]:
    """The weights, and the optimizer's variables, after 20 steps of settled gradients."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in _SHAPES]
    gradients = [
        [rng.normal(size=shape).astype(np.float32) for shape in _SHAPES] for _ in range(20)
    ]
    with strategy.scope():
        weights = [keras.Variable(value) for value in start]
        schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 7, 0.5)
        optimizer = optimizer_class(schedule, **settings)
        optimizer.build(weights)

    def replica_step(gradients: list[tf.Tensor]) -> None:
        with tf.GradientTape() as tape:
            pairs = zip(weights, gradients, strict=True)
            loss = tf.add_n([tf.reduce_sum(weight * gradient) for weight, gradient in pairs])
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    step = tf.function(lambda gradients: strategy.run(replica_step, (gradients,)))
    for values in gradients:
        step([tf.constant(value) for value in values])
    return [variable.numpy() for variable in [*weights, *optimizer.variables[2:]]]


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'beta_1': 0.5, 'epsilon': 0.1},
        {'use_ema': True, 'ema_momentum': 0.9},
        {'clipnorm': 0.1},
    ],
    ids=str,
)
def test_it_is_adam(settings):
    strategy = tf.distribute.get_strategy()
    fused = _trained(FusedAdam, strategy, **settings)
    for ours, theirs in zip(
        fused, _trained(keras.optimizers.Adam, strategy, **settings), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_is_adam_under_a_strategy_with_one_replica():
    # `train_on_two_replicas.py` has two.
    mirrored = _trained(FusedAdam, tf.distribute.MirroredStrategy(['CPU:0']))
    for ours, theirs in zip(
        mirrored, _trained(FusedAdam, tf.distribute.get_strategy()), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_it_takes_sparse_gradients():
    table = keras.Variable(np.ones((4, 2), np.float32))
    optimizer = FusedAdam(0.1)
    gradient = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([2]), tf.constant([4, 2]))
    optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_allclose(table.numpy()[:, 0], [1, 1, 0.9, 1], atol=1e-4)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match='no amsgrad'):
        FusedAdam(amsgrad=True)
