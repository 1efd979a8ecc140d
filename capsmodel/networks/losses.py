"""The losses of the networks, one value for each image."""

import tensorflow as tf

# Section 3 of Sabour, Frosst, Hinton 2017: m+, m- and lambda.
M_PLUS = 0.9
M_MINUS = 0.1
DOWN_WEIGHT = 0.5

# Section 3 of Hinton, Sabour, Frosst 2018: the margin of the spread loss, in the first and in the
# last step.
SPREAD_MARGINS = (0.2, 0.9)


def margin_loss(
    labels: tf.Tensor,
    lengths: tf.Tensor,
    m_plus: float = M_PLUS,
    m_minus: float = M_MINUS,
    down_weight: float = DOWN_WEIGHT,
) -> tf.Tensor:
    """Margin loss, Eq. 4 of Sabour, Frosst, Hinton 2017, summed over the classes k.

    L_k = T_k max(0, m_plus - |v_k|)^2 + down_weight (1 - T_k) max(0, |v_k| - m_minus)^2, where T_k
    is 1 for the classes of the labels and 0 for the others.

    Args:
        labels: integers [n], or [n, m] if each image has m labels, all different.
        lengths: capsule lengths |v_k|, float [n, classes].
        m_plus: the loss of a label's capsule is 0 from this length on.
        m_minus: the loss of any other capsule is 0 up to this length.
        down_weight: lambda, which keeps the many absent classes from shrinking all the capsules
            early in training.

    Returns:
        float32 [n].
    """
    lengths = tf.cast(lengths, tf.float32)
    present = present_classes(labels, lengths.shape[-1])
    too_short = tf.square(tf.nn.relu(m_plus - lengths))
    too_long = tf.square(tf.nn.relu(lengths - m_minus))
    return tf.reduce_sum(present * too_short + down_weight * (1 - present) * too_long, axis=-1)


def present_classes(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """T_k of Eq. 4: 1 for the classes that are in an image and 0 for the others.

    Args:
        labels: integers [n], or [n, m] if each image has m labels, all different.
        classes: the number of classes.

    Returns:
        float32 [n, classes].
    """
    present = tf.one_hot(labels, classes, dtype=tf.float32)
    return tf.reduce_sum(present, axis=1) if len(present.shape) == 3 else present


def reconstruction_loss(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """Sum of squared differences over the pixels (Section 4.1), not scaled down yet.

    Args:
        images: uint8 [n, height, width], or [n, height, width, 3] in colour.
        reconstructions: float of the same shape, in [0, 1].

    Returns:
        float32 [n], between 0 and the numbers in an image.
    """
    difference = tf.cast(images, tf.float32) / 255 - tf.cast(reconstructions, tf.float32)
    return tf.reduce_sum(tf.square(difference), axis=range(1, len(images.shape)))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the softmax, Eq. 4.108 of Bishop 2006, "Pattern recognition".

    L = -log softmax(logits)_t = log sum over k of exp(z_k) - z_t, where t is the label's class and
    z are the logits.

    Args:
        labels: integers [n].
        logits: float [n, classes].

    Returns:
        float32 [n], at least 0.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))


def squared_error(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """The score of Brier 1950, "Verification of forecasts expressed in terms of probability".

    L = sum over the classes k of (s_k - T_k)^2, where s are the scores and T_k is 1 for the class
    of the label and 0 for the others.

    Args:
        labels: integers [n].
        scores: float [n, classes], in [0, 1].

    Returns:
        float32 [n].
    """
    scores = tf.cast(scores, tf.float32)
    present = tf.one_hot(labels, scores.shape[-1], dtype=tf.float32)
    return tf.reduce_sum(tf.square(scores - present), axis=-1)


def spread_loss(labels: tf.Tensor, activations: tf.Tensor, margin: tf.Tensor | float) -> tf.Tensor:
    """Spread loss, Eq. 3 of Hinton, Sabour, Frosst 2018, "Matrix capsules with EM routing".

    L = sum over the wrong classes i of max(0, m - (a_t - a_i))^2, where t is the label's class.

    Args:
        labels: integers [n].
        activations: a, float [n, classes].
        margin: m, a scalar: by how much the label's activation must exceed each other one.

    Returns:
        float32 [n].
    """
    activations = tf.cast(activations, tf.float32)
    present = tf.one_hot(labels, activations.shape[-1], dtype=tf.float32)
    target = tf.reduce_sum(present * activations, axis=-1, keepdims=True)
    too_close = tf.nn.relu(margin - (target - activations))
    return tf.reduce_sum((1 - present) * tf.square(too_close), axis=-1)
