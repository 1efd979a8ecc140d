"""The network as textbooks write it: what the layers of `capsmodel` are measured against."""

import tensorflow as tf

from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.routing import check_routing_options, squash


class TextbookCapsNet(CapsNet):
    """A CapsNet with the same variables, direct convolutions, and every prediction u_hat stored.

    It is no straw man: batched matrix products, in the order of axes that suits a CPU, make u_hat
    and route it.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        features = self.conv1(tf.cast(images, tf.float32)[..., tf.newaxis] / 255)
        primary = self.primary_caps
        features = tf.nn.conv2d(features, primary.kernel.value, primary.strides, 'VALID')
        features = tf.nn.bias_add(features, primary.bias.value)
        children, _, child_dim, _ = self.digit_caps.kernel.shape
        u = squash(tf.reshape(features, [-1, children, child_dim]))
        u_hat = predictions(u, self.digit_caps.kernel.value)
        config = self.config
        return routing_of_predictions(u_hat, config.routing_iterations, config.routing_gradient)[0]


def predictions(u: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """u_hat_j|i = W_ij u_i (Eq. 2 of Sabour, Frosst, Hinton 2017).

    Args:
        u: float [n, children, child_dim].
        kernel: W, of the same type, [children, parents, child_dim, dim].

    Returns:
        [n, children, parents, dim].
    """
    # One matrix product a child, for all its parents at once, is the fastest form on a CPU.
    kernel = tf.transpose(kernel, [0, 2, 1, 3])
    children, child_dim, parents, dim = kernel.shape
    u_hat = tf.matmul(
        tf.transpose(u, [1, 0, 2]), tf.reshape(kernel, [children, child_dim, parents * dim])
    )
    return tf.transpose(tf.reshape(u_hat, [children, -1, parents, dim]), [1, 0, 2, 3])


def routing_of_predictions(
    u_hat: tf.Tensor, iterations: int, gradient: str = 'all'
) -> tuple[tf.Tensor, tf.Tensor]:
    """Routing between two layers of capsules (Procedure 1 of Sabour, Frosst, Hinton 2017).

    From b_ij = 0, each iteration computes c_i = softmax over the parents j of b_i (Eq. 3),
    s_j = sum_i c_ij u_hat_j|i (Eq. 2), v_j = squash(s_j) (Eq. 1), and, except the last one,
    b_ij += u_hat_j|i . v_j.

    Args:
        u_hat: predictions, float32 or float64 [n, children, parents, dim]; n may be unknown or 0.
        iterations: how often the coupling coefficients are computed, at least 1.
        gradient: 'all' differentiates through every iteration; 'last' takes the coupling
            coefficients of the last iteration for constants.

    Returns:
        The parents' capsules v [n, parents, dim] and the coupling coefficients
        c [n, children, parents] that they were made with.

    Raises:
        ValueError: `iterations` or `gradient` is not as above.
    """
    check_routing_options(iterations, gradient)
    # With parents before children both sums of an iteration are batched matrix products, which
    # take half the time of products written out and then summed.
    u_hat = tf.transpose(u_hat, [0, 2, 1, 3])
    u_hat_in_loop = u_hat if gradient == 'all' else tf.stop_gradient(u_hat)
    logits = tf.zeros_like(u_hat_in_loop[..., 0])
    for _ in range(iterations - 1):
        v = squash(_weighted_sum(tf.nn.softmax(logits, axis=1), u_hat_in_loop))
        logits += tf.linalg.matvec(u_hat_in_loop, v)
    coupling = tf.nn.softmax(logits, axis=1)
    v = squash(_weighted_sum(coupling, u_hat))
    return v, tf.transpose(coupling, [0, 2, 1])


def _weighted_sum(coupling: tf.Tensor, u_hat: tf.Tensor) -> tf.Tensor:
    """Eq. 2: [n, parents, children], [n, parents, children, dim] -> [n, parents, dim]."""
    return tf.linalg.matvec(u_hat, coupling, transpose_a=True)
