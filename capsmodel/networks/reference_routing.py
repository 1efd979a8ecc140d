"""Routing by agreement as the paper writes it, to be read line by line beside the paper.

Sabour, Frosst, Hinton 2017, "Dynamic Routing Between Capsules" (arXiv:1710.09829): Procedure 1 and
Equations 1 to 3. `routing.py` and `fused_routing.py` compute the same capsules without storing the
predictions.

Indices are the paper's: i is a child, a capsule of the layer below, and j is a parent. In arrays,
j comes before i: u_hat[n, j, i] is u_hat_j|i of image n, and c[n, j, i] is c_ij.
"""

import tensorflow as tf

from capsmodel.networks.choices import check_routing_options
from capsmodel.networks.routing import at_least_float32, squash


def reference_routing(
    u: tf.Tensor,
    kernel: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """The capsules v of `procedure_1`; see `routing_by_agreement` for the arguments."""
    v, _ = procedure_1(predictions(u, kernel), iterations, gradient, none_of_the_above, bias)
    return v


def predictions(u: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """What each child predicts for each parent: u_hat_j|i = W_ij u_i (Eq. 2, right).

    Args:
        u: The children's capsules, float [n, children, child_dim].
        kernel: W, float [children, parents, child_dim, dim].

    Returns:
        u_hat [n, parents, children, dim]; float64 where `u` is float64, float32 otherwise.
    """
    u = at_least_float32(u)
    children, parents, child_dim, dim = kernel.shape
    # einsum('nic,ijcd->njid') in its fastest form on a CPU: a matrix product for each child.
    w = tf.transpose(tf.cast(kernel, u.dtype), [0, 2, 1, 3])
    u = tf.transpose(u, [1, 0, 2])
    u_hat = tf.matmul(u, tf.reshape(w, [children, child_dim, parents * dim]))
    return tf.transpose(tf.reshape(u_hat, [children, -1, parents, dim]), [1, 2, 0, 3])


def procedure_1(
    u_hat: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Procedure 1.

    Args:
        u_hat: Predictions, float [n, parents, children, dim]; n may be unknown or 0.
        iterations: How often the coupling coefficients are computed, at least 1.
        gradient: 'all' differentiates through every iteration; 'last' treats the coupling
            coefficients as constants.
        none_of_the_above: Whether one more logit, which is always 0, takes part in the softmax
            (section 7).
        bias: Is added to s, float [parents, dim]; None: nothing is. The paper has none.

    Returns:
        The parents' capsules v [n, parents, dim], and the coupling coefficients c of every
        iteration, [iterations, n, parents, children]. v was made with the last of them.

    Raises:
        ValueError: `iterations` or `gradient` is not as above.
    """
    check_routing_options(iterations, gradient)
    coefficients = []
    b = tf.zeros_like(u_hat[..., 0])  # line 2: b_ij <- 0
    none = b[:, :1]
    for _ in range(iterations):  # line 3
        logits = tf.concat([b, none], axis=1) if none_of_the_above else b
        # line 4: c_i <- softmax(b_i), over the parents (Eq. 3)
        c = tf.nn.softmax(logits, axis=1)[:, : b.shape[1]]
        if gradient == 'last':
            c = tf.stop_gradient(c)
        s = tf.linalg.matvec(u_hat, c, transpose_a=True)  # line 5: s_j <- sum_i c_ij u_hat_j|i
        if bias is not None:
            s += tf.cast(bias, s.dtype)
        v = squash(s)  # line 6: v_j <- squash(s_j) (Eq. 1)
        b += tf.linalg.matvec(u_hat, v)  # line 7: b_ij <- b_ij + u_hat_j|i . v_j
        coefficients.append(c)
    return v, tf.stack(coefficients)
