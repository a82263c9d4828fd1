"""Noise in ratings and in comparisons.

To add a kind, write a function here with the signature of `uniform`, add its name to NOISES in config.py, and, where
P(noisy rating | true rating) is known, its transition matrix to TRANSITION_MATRICES below.

Every kind leaves its input unchanged, changes exactly round(ratio * n) of n and draws the same random numbers whatever
the ratio: a larger ratio changes what a smaller one changes, in the same way, and more. The published code's two kinds,
`redrawn` and `redrawn_off_scale`, draw as many ratings anew, so that some stay as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


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
    return shift(reviews, order, ratio, shifts_to_other_classes(reviews, rng))


def adjacent(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy ratings (n,): some move to a neighbouring place on the scale, up or down alike, at its ends inwards."""
    order = rng.permutation(len(reviews.ratings))
    shifts = np.where(rng.random(len(reviews.ratings)) < 0.5, -1, 1)
    shifts = np.where(reviews.ratings == 0, 1, np.where(reviews.ratings == reviews.classes - 1, -1, shifts))
    return shift(reviews, order, ratio, shifts)


def least_confident(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Noisy ratings (n,): the reviews of which the model is least sure get another rating, uniformly.

    Noise that depends on the instance.
    """
    order = np.argsort(reviews.confidence, kind="stable")
    return shift(reviews, order, ratio, shifts_to_other_classes(reviews, rng))


def redrawn(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The published code's noise: round(ratio * n) ratings are drawn anew from all, so some stay as they were."""
    chosen = rng.permutation(len(reviews.ratings))[: round(ratio * len(reviews.ratings))]
    noisy = reviews.ratings.copy()
    noisy[chosen] = rng.integers(reviews.classes, size=len(chosen))
    return noisy


def redrawn_off_scale(reviews: RatedReviews, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """The published noise of `binary`: drawn from 1..5 where classes are 0..4, so a fifth of them leaves the scale.

    A rating off the scale is -1: its review is in no comparison.
    """
    chosen = rng.permutation(len(reviews.ratings))[: round(ratio * len(reviews.ratings))]
    noisy = reviews.ratings.copy()
    drawn = rng.integers(1, reviews.classes + 1, size=len(chosen))
    noisy[chosen] = np.where(drawn == reviews.classes, -1, drawn)
    return noisy


def reverse_lists(lists: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Reverse the order of some of the lists (L, k+1), drawn at random: the kind `reversed`."""
    chosen = rng.permutation(len(lists))[: round(ratio * len(lists))]
    noisy = lists.copy()
    noisy[chosen] = lists[chosen, ::-1]
    return noisy


def uniform_matrix(ratio: float, classes: int) -> np.ndarray:
    """P(noisy | true) of `uniform` noise, (C, C), true rating down."""
    return mix(ratio, 1 - np.eye(classes))


def adjacent_matrix(ratio: float, classes: int) -> np.ndarray:
    """P(noisy | true) of `adjacent` noise, (C, C), true rating down."""
    return mix(ratio, np.eye(classes, k=1) + np.eye(classes, k=-1))


def redrawn_matrix(ratio: float, classes: int) -> np.ndarray:
    """P(noisy | true) of `redrawn` noise, (C, C), true rating down."""
    return mix(ratio, np.ones((classes, classes)))


# least-confident counts as uniform: which reviews it changes depends on the texts, which ratings alone do not show.
TRANSITION_MATRICES: dict[str, Callable[[float, int], np.ndarray]] = {
    "uniform": uniform_matrix,
    "adjacent": adjacent_matrix,
    "least-confident": uniform_matrix,
    "redrawn": redrawn_matrix,
}


def flip_rates(matrix: np.ndarray, class_priors: np.ndarray, neighbours: np.ndarray) -> tuple[float, float]:
    """How often a comparison made from noisy ratings is wrong: (P(reversed | true ratings differ), P(wrong)).

    In the second, a pair of equal true ratings is wrong half the time. `matrix` (C, C) is P(noisy | true), true down;
    `class_priors` (C,) are the shares of the true ratings; `neighbours` (P, 2) are the noisy ratings of the compared
    reviews, better first. By Bayes' rule, review by review. NaN where all true ratings are equal.
    """
    joint = class_priors[:, None] * matrix  # (true, noisy)
    total = joint.sum(axis=0)
    # A noisy rating that has no probability: take it as true.
    posterior = np.where(total > 0, joint / np.where(total > 0, total, 1), np.eye(len(class_priors)))
    better, worse = posterior[:, neighbours[:, 0]], posterior[:, neighbours[:, 1]]  # (C, P)
    p_worse_is_higher = worse[::-1].cumsum(axis=0)[::-1] - worse  # than class c
    p_reversed = float((better * p_worse_is_higher).sum(axis=0).mean())
    p_equal = float((better * worse).sum(axis=0).mean())
    given_different = p_reversed / (1 - p_equal) if p_equal < 1 else float("nan")
    return given_different, p_reversed + p_equal / 2


def mix(ratio: float, changes: np.ndarray) -> np.ndarray:
    """With probability `ratio` a change in proportion to the rows of `changes` (C, C), else none."""
    return (1 - ratio) * np.eye(len(changes)) + ratio * changes / changes.sum(axis=1, keepdims=True)


def shifts_to_other_classes(reviews: RatedReviews, rng: np.random.Generator) -> np.ndarray:
    """Shifts (n,) that lead, around the scale, to each of the other classes with the same probability."""
    return rng.integers(1, reviews.classes, size=len(reviews.ratings))


def shift(reviews: RatedReviews, order: np.ndarray, ratio: float, shifts: np.ndarray) -> np.ndarray:
    """The ratings (n,), of which the first round(ratio * n) in `order` are shifted, around the scale."""
    chosen = order[: round(ratio * len(order))]
    noisy = reviews.ratings.copy()
    noisy[chosen] = (noisy[chosen] + shifts[chosen]) % reviews.classes
    return noisy
