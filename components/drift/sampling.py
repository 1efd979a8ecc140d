"""Which elements of a long stream are looked at."""

import random

# Enough that chance hardly changes a distance; a model answers them in seconds.
MOST_IMAGES = 2000


def chosen(count: int, most: int = MOST_IMAGES) -> frozenset[int]:
    """The places of `most` of `count` elements, each with the same chance; of all if they are few.

    The same numbers give the same places.
    """
    return frozenset(random.Random(count).sample(range(count), min(count, most)))
