"""Random numbers and dropout: functions of the seed, the step and the image's place."""

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks.step import Step, dropout


def _step(seed=1, number=3, replicas=1, replica=0):
    zero = tf.constant(0.0)
    return Step(seed, tf.constant(number), zero, 8, replicas, tf.constant(replica), zero)


def test_numbers_depend_on_seed_step_and_stream_only():
    numbers = _step().uniform(0, [5])
    np.testing.assert_array_equal(numbers, _step().uniform(0, [5]))
    for other in (_step(seed=2), _step(number=4)):
        assert not np.any(other.uniform(0, [5]) == numbers)
    assert not np.any(_step().uniform(1, [5]) == numbers)
    assert len(np.unique(numbers)) == 8 * 5


def test_replicas_have_the_numbers_of_their_part_of_the_batch():
    parts = [_step(replicas=4, replica=replica).uniform(2, [3]) for replica in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), _step().uniform(2, [3]))


def test_progress_goes_from_0_to_1():
    progress = [
        float(Step.on_this_replica(0, tf.constant(number), 4, 8).progress) for number in (0, 1, 4)
    ]
    assert progress == [0, 0.25, 1]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_dropout_keeps_the_mean_and_leaves_answers_alone(dtype):
    x = tf.ones([8, 4000], dtype)
    dropped = tf.cast(dropout(x, 0.25, _step(), stream=0), tf.float32).numpy()
    assert set(np.unique(dropped)) == {0, float(tf.cast(1 / 0.75, dtype))}
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.01)
    for same in (dropout(x, 0.25, None, stream=0), dropout(x, 0.0, _step(), stream=0)):
        np.testing.assert_array_equal(same, x)
