"""How much the images of each class count in the loss."""

import numpy as np


def balanced(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights that give each class the same part in the loss: n / (classes * n of the class).

    Args:
        labels: int64 [n], of the training images.
        num_classes: The number of classes.

    Returns:
        float32 [num_classes]. The mean of the images' weights is 1; a class that has no image does
        not count as a class, and its weight is 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    shares = np.count_nonzero(counts) * counts / len(labels)
    return np.divide(1, shares, out=np.zeros(num_classes), where=counts > 0).astype(np.float32)
