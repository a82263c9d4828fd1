"""Ratings -> noisy ratings."""

import numpy as np


def uniform(ratings: np.ndarray, ratio: float, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Give exactly round(ratio * n) ratings another value, uniform over the other classes.

    `ratings` (n,) in 0..classes-1, left as they are; returns the noisy ones (n,). With the same generator
    state a larger ratio changes the ratings that a smaller one changes, to the same values, and more:
    ratios compare on common random numbers.
    """
    n = len(ratings)
    order = generator.permutation(n)
    shifts = generator.integers(1, classes, size=n)  # 1..classes-1: never back to the same rating
    changed = order[: round(ratio * n)]
    noisy = ratings.copy()
    noisy[changed] = (ratings[changed] + shifts[changed]) % classes
    return noisy
