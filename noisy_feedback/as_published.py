"""What the published code did otherwise than it said, each departure by itself, to show what it did to the curves.

Nothing here is right. `--as-published` switches on what it names, or all of it.
"""

import numpy as np


def labels(ratings: np.ndarray, train: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Ratings (m,) that the validation part (m,) is scored against: the first ones of the training part.

    Two independent draws of labels agree with probability sum_c p_c^2: the level of the published curves.
    """
    return ratings[train[: len(validation)]]


def noise(
    ratings: np.ndarray, ratio: float, classes: int, generator: np.random.Generator, first: int = 0
) -> np.ndarray:
    """Draw round(ratio * n) ratings (n,) anew from `first`..first+classes-1: some stay what they were.

    In `binary` the published code draws from 1..5 where ratings are 0..4: `first` is 1, and a rating of `classes` is
    off the scale.
    """
    changed = generator.permutation(len(ratings))[: round(ratio * len(ratings))]
    noisy = ratings.copy()
    noisy[changed] = first + generator.integers(classes, size=len(changed))
    return noisy


def order(lists: np.ndarray) -> np.ndarray:
    """Lists (L, k+1) in order of row number, whatever the ratings: about half of the pairs the wrong way round."""
    return np.sort(lists, axis=1)
