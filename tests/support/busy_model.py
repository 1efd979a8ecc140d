"""A SavedModel that takes as long as it is asked to."""

import tensorflow as tf
from saved_models import export


def busy_model(directory: str, version: int = 1) -> str:
    """serving_default: seconds float32 [n] -> the same, after as many seconds as the largest.

    `pair` is the same with n = 2.
    """

    def busy(seconds):
        now = tf.timestamp()
        end = now + tf.cast(tf.reduce_max(seconds), now.dtype)
        while now < end:
            now = tf.timestamp()
        with tf.control_dependencies([now]):
            return {'waited': tf.identity(seconds)}

    def of_size(n):
        spec = tf.TensorSpec([n], tf.float32, 'seconds')
        return tf.function(busy, input_signature=[spec]).get_concrete_function()

    return export(directory, version, {'serving_default': of_size(None), 'pair': of_size(2)})
