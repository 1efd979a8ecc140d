"""What is random in a set of images."""

import hashlib

import numpy as np


def generator(name: str, seed: int, identifier: str) -> np.random.Generator:
    """A generator for one image; all of its draws are a function of these three.

    Args:
        name: Of the set: two sets draw independently.
        seed: Another seed makes another set.
        identifier: The id of the image.
    """
    digest = hashlib.sha256(f'{name}/{seed}/{identifier}'.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], 'big'))
