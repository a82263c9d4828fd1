"""What a preference accuracy means: its interval over pairs, and what a perfect model could reach."""

import numpy as np
from scipy.special import ndtri

CONFIDENCE = 0.95


def interval_over_pairs(right: np.ndarray, pairs: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of `right` (V,), 0..1 for each judgement; those of a pair are not independent.

    `pairs` (V,) are the numbers of their pairs. Source: the variance of a ratio of sums over pairs (Cochran 1977,
    Sampling techniques, equation 2.46 applied to clusters). NaN for fewer than two pairs.
    """
    _, own = np.unique(pairs, return_inverse=True)
    count = own.max() + 1 if len(own) else 0
    if count < 2:
        return float("nan"), float("nan")
    mean = right.mean()
    residuals = np.bincount(own, right - mean)
    half = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(count / (count - 1) * np.square(residuals).sum()) / len(right)
    return float(max(mean - half, 0)), float(min(mean + half, 1))
