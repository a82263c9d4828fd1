"""Noise in ratings. (`reversed` noise is in comparisons: `Feedback.reverse_share`.)

To add a kind, write a function with the signature of `uniform`, and add it to RATING_NOISE below and to NOISES in
config.py.

Every kind leaves its input unchanged, changes exactly round(ratio * n) of n and draws the same random numbers whatever
the ratio: a larger ratio changes what a smaller one changes, in the same way, and more. The published code's two kinds,
`redrawn` and `redrawn_off_scale`, draw as many ratings anew, so that some stay as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.rng import rng_for


@dataclass(frozen=True)
class RatedReviews:
    """The reviews whose ratings are made noisy: all that a kind of noise may depend on.

    `ratings` (n,) are the true classes 0..classes-1, `embeddings` (n, d) are on the device that computes,
    `confidence` (n,) is the trained model's probability of its most probable rating.
    """

    ratings: np.ndarray
    classes: int
    texts: Sequence[str]
    embeddings: Tensor
    confidence: np.ndarray


def uniform(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy ratings (n,): some reviews, drawn at random, get another rating, uniform over the other ones."""
    order = rng.permutation(len(reviews.ratings))
    return shift(reviews, order, ratio, rng.integers(1, reviews.classes, size=len(order)))


def adjacent(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy ratings (n,): some move to a neighbouring place on the scale, up or down alike, at its ends inwards."""
    order = rng.permutation(len(reviews.ratings))
    shifts = np.where(rng.random(len(order)) < 0.5, -1, 1)
    shifts = np.where(reviews.ratings == 0, 1, np.where(reviews.ratings == reviews.classes - 1, -1, shifts))
    return shift(reviews, order, ratio, shifts)


def least_confident(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy ratings (n,): as `uniform`, but of the reviews of which the model is least sure (instance-dependent)."""
    order = np.argsort(reviews.confidence, kind="stable")
    return shift(reviews, order, ratio, rng.integers(1, reviews.classes, size=len(order)))


def redrawn(reviews: RatedReviews, ratio: float, rng: np.random.Generator, lowest: int = 0) -> np.ndarray:
    """The published code's noise: round(ratio * n) ratings are drawn anew from all, so some stay as they were.

    A rating off the scale, which it draws where the `lowest` class is above 0, is -1: its review is in no comparison.
    """
    chosen = rng.permutation(len(reviews.ratings))[: round(ratio * len(reviews.ratings))]
    noisy = reviews.ratings.copy()
    drawn = rng.integers(lowest, lowest + reviews.classes, size=len(chosen))
    noisy[chosen] = np.where(drawn < reviews.classes, drawn, -1)
    return noisy


def redrawn_off_scale(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The published noise of `binary`: drawn from 1..5 where classes are 0..4, so a fifth of them leaves the scale."""
    return redrawn(reviews, ratio, rng, lowest=1)


def shift(reviews: RatedReviews, order: np.ndarray, ratio: float, shifts: np.ndarray) -> np.ndarray:
    """The ratings (n,), of which the first round(ratio * n) in `order` are shifted, around the scale."""
    chosen = order[: round(ratio * len(order))]
    noisy = reviews.ratings.copy()
    noisy[chosen] = (noisy[chosen] + shifts[chosen]) % reviews.classes
    return noisy


def transition_matrix(ratio: float, changes: np.ndarray) -> np.ndarray:
    """P(noisy | true), (C, C), true down: with probability `ratio` a change in proportion to a row of `changes`."""
    return (1 - ratio) * np.eye(len(changes)) + ratio * changes / changes.sum(axis=1, keepdims=True)


def uniform_matrix(ratio: float, classes: int) -> np.ndarray:
    return transition_matrix(ratio, 1 - np.eye(classes))


class RatingNoise(NamedTuple):
    """A kind of noise in ratings, and its transition_matrix of a ratio and a number of classes, where it has one."""

    add: Callable[[RatedReviews, float, np.random.Generator], np.ndarray]
    matrix: Callable[[float, int], np.ndarray] | None = None


RATING_NOISE = {  # by the names in NOISES
    "uniform": RatingNoise(uniform, uniform_matrix),
    "adjacent": RatingNoise(adjacent, lambda ratio, c: transition_matrix(ratio, np.eye(c, k=1) + np.eye(c, k=-1))),
    # Counts as uniform: which reviews it changes depends on the texts, which ratings alone do not show.
    "least-confident": RatingNoise(least_confident, uniform_matrix),
    "redrawn": RatingNoise(redrawn, lambda ratio, c: transition_matrix(ratio, np.ones((c, c)))),
    "redrawn-off-scale": RatingNoise(redrawn_off_scale),
}


def make_noisy(config: Config, reviews: RatedReviews) -> np.ndarray:
    """The noisy ratings (n,) of a run; -1 for a rating off the scale. With `reversed` noise they are the true ones.

    Errors: InputError where a kind of noise fails or returns no ratings.
    """
    if config.noise == "reversed":
        return reviews.ratings
    function = RATING_NOISE[config.noise].add
    where = f"--noise {config.noise}: the function {function.__name__} in noisy_feedback/feedback/noise.py"
    try:
        noisy = function(replace(reviews, ratings=reviews.ratings.copy()), config.ratio, rng_for(config.seed, "noise"))
    except Exception as error:  # a user's own function can fail in any way; it is reported in one line
        raise InputError(f"{where} fails: {error!r}") from None
    valid = isinstance(noisy, np.ndarray) and noisy.shape == reviews.ratings.shape and noisy.dtype.kind in "iu"
    if not valid or noisy.min() < -1 or noisy.max() >= reviews.classes:
        raise InputError(f"{where} must return an array of {len(reviews.ratings)} classes, 0 to {reviews.classes - 1}")
    return noisy.astype(np.int64)  # what torch takes as an index


def expected_flip_rates(
    matrix: np.ndarray, class_priors: np.ndarray, adjacent_pairs: np.ndarray
) -> tuple[float, float]:
    """How often a comparison made from noisy ratings is wrong: (P(reversed | true ratings differ), P(wrong)).

    In the second, a pair of equal true ratings is wrong half the time. `matrix` (C, C) is P(noisy | true), true down;
    `class_priors` (C,) are the shares of the true ratings; `adjacent_pairs` (P, 2) are the noisy ratings of compared
    reviews, the better first. By Bayes' rule, review by review. NaN where all true ratings are equal.
    """
    joint = class_priors[:, None] * matrix  # (true, noisy)
    total = joint.sum(axis=0)
    # A noisy rating that has no probability: take it as true.
    posterior = np.where(total > 0, joint / np.where(total > 0, total, 1), np.eye(len(class_priors)))
    better, worse = posterior[:, adjacent_pairs[:, 0]], posterior[:, adjacent_pairs[:, 1]]  # (C, P)
    p_worse_is_higher = worse[::-1].cumsum(axis=0)[::-1] - worse  # than class c
    p_reversed = float((better * p_worse_is_higher).sum(axis=0).mean())
    p_equal = float((better * worse).sum(axis=0).mean())
    given_different = p_reversed / (1 - p_equal) if p_equal < 1 else float("nan")
    return given_different, p_reversed + p_equal / 2
