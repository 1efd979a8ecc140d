"""Adam with one operation for each variable's update."""

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """keras.optimizers.Adam (Kingma, Ba 2015) with TensorFlow's own kernel for the update.

    Keras computes the update in a dozen operations, each of which reads and writes all weights.
    Results differ in rounding only; arguments, variables and checkpoints are the same.

    Raises:
        ValueError: `amsgrad` is set, which the kernel does not support.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError('FusedAdam knows no amsgrad: use keras.optimizers.Adam')

    def update_step(self, gradient: Any, variable: Any, learning_rate: tf.Tensor) -> None:
        """Updates a variable, and its two moments, by its gradient."""
        if isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations.value + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


def _handle(variable: Any) -> tf.Tensor:
    """The handle of a Keras variable or, in a replica's update, of a TensorFlow variable."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
