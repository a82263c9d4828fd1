"""What a preference accuracy means: its interval over pairs, and what a perfect model could reach."""

import numpy as np
from scipy.special import ndtri

CONFIDENCE = 0.95


def interval_over_pairs(right: np.ndarray, pairs: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of `right` (V,), 0..1 for each judgement; those of a pair are not independent.

    `pairs` (V,) are the numbers of their pairs. The variance of a ratio of sums over pairs (Cochran 1977, Sampling techniques,
    equation 6.13). NaN for fewer than two pairs.
    """
    _, own = np.unique(pairs, return_inverse=True)
    count = own.max() + 1 if len(own) else 0
    if count < 2:
        return float("nan"), float("nan")
    mean = right.mean()
    residuals = np.bincount(own, right - mean)
    half = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(count / (count - 1) * np.square(residuals).sum()) / len(right)
    return float(max(mean - half, 0)), float(min(mean + half, 1))


def disagreement(first_preferred: np.ndarray, pairs: np.ndarray) -> tuple[float, int]:
    """The share of two judgements of the same pair that disagree, and the number of such twos.

    `first_preferred` (J,) says whether a judgement prefers the text with the lower number. Pairs with more judgements
    count by their number of twos. NaN where no pair has two judgements.
    """
    _, own = np.unique(pairs, return_inverse=True)
    total, agree = np.bincount(own), np.bincount(own, first_preferred)
    twos = total * (total - 1) / 2
    different = agree * (total - agree)
    return (float(different.sum() / twos.sum()) if twos.sum() else float("nan")), int(twos.sum())


def implied_flip_rate(disagreement: float) -> float:
    """The flip rate e at which independent errors disagree so often, 2 e (1 - e); 1/2 where they do more often."""
    return (1 - np.sqrt(max(1 - 2 * disagreement, 0.0))) / 2


def attainable_accuracy(first_preferred: np.ndarray, pairs: np.ndarray) -> float:
    """The most that any model can expect to agree with single judgements of these pairs; NaN without repeated ones.

    Knowing each pair's true share p of judgements for one text, a model is right in max(p, 1 - p). By Jensen's
    inequality its mean is at most (1 + sqrt(1 - 2 d)) / 2, d = mean of 2 p (1 - p), the disagreement.
    """
    share, twos = disagreement(first_preferred, pairs)
    return 1 - implied_flip_rate(share) if twos else float("nan")
