"""Ratings -> noisy ratings; lists -> lists in the wrong order. A new kind is a function and a name in settings.py.

Whatever the kind, exactly round(ratio * n) of n change, what is given is left as it was, and with the same generator
state a larger ratio changes what a smaller one changes, in the same way, and more: ratios compare on common random
numbers.
"""

import numpy as np

from noisy_feedback.errors import InputError


def uniform(ratings: np.ndarray, ratio: float, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Give some of the ratings (n,), 0..classes-1, another value, uniform over the other classes."""
    order = generator.permutation(len(ratings))
    return move(ratings, order, ratio, other_classes(len(ratings), classes, generator), classes)


def adjacent(ratings: np.ndarray, ratio: float, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Move some of the ratings (n,) by one, up or down alike, at the ends of the scale inwards."""
    order = generator.permutation(len(ratings))
    shifts = np.where(generator.random(len(ratings)) < 0.5, -1, 1)
    shifts = np.where(ratings == 0, 1, np.where(ratings == classes - 1, -1, shifts))
    return move(ratings, order, ratio, shifts, classes)


def hard(
    ratings: np.ndarray, ratio: float, classes: int, generator: np.random.Generator, certainty: np.ndarray
) -> np.ndarray:
    """Change the ratings (n,) of which a model is least sure, to another class, uniformly.

    `certainty` (n,) is the model's probability of its most probable class: instance-dependent noise.
    """
    order = np.argsort(certainty, kind="stable")
    return move(ratings, order, ratio, other_classes(len(ratings), classes, generator), classes)


def pairs(lists: np.ndarray, ratio: float, generator: np.random.Generator) -> np.ndarray:
    """Turn the order of some of the lists (L, k+1) around; ratings are untouched."""
    reversed_ones = generator.permutation(len(lists))[: round(ratio * len(lists))]
    noisy = lists.copy()
    noisy[reversed_ones] = lists[reversed_ones, ::-1]
    return noisy


def flip_rate(kind: str, ratio: float, shares: np.ndarray, neighbours: np.ndarray) -> float:
    """The expected share of reversed comparisons: pairs whose better item has the lower true rating.

    `shares` (C,) are those of the true ratings, `neighbours` (P, 2) the noisy ratings of the compared items, better
    first. By Bayes' rule, from P(noisy | true) and the shares, item by item. A pair whose true ratings are equal is not
    reversed. `hard` counts as uniform noise: how it depends on the items is not known from the ratings.
    """
    if kind == "pairs":
        return ratio
    joint = shares[:, None] * transition(kind, ratio, len(shares))  # (true, noisy)
    total = joint.sum(axis=0)
    # A noisy rating that cannot be: what it says is all that is known of the true one.
    posterior = np.where(total > 0, joint / np.where(total > 0, total, 1), np.eye(len(shares)))
    better, worse = posterior[:, neighbours[:, 0]], posterior[:, neighbours[:, 1]]  # (C, P)
    above = worse[::-1].cumsum(axis=0)[::-1] - worse  # P(the worse one's true rating is higher than c)
    return float((better * above).sum(axis=0).mean())


def transition(kind: str, ratio: float, classes: int) -> np.ndarray:
    """P(noisy | true) as a table (C, C). Errors: InputError for a kind whose table is not written here."""
    if kind in ("uniform", "hard"):
        moved = 1 - np.eye(classes)
    elif kind == "adjacent":
        moved = np.eye(classes, k=1) + np.eye(classes, k=-1)
    else:
        raise InputError(f"--noise {kind}: what it changes into what is not known; give --flip-rate")
    return (1 - ratio) * np.eye(classes) + ratio * moved / moved.sum(axis=1, keepdims=True)


def other_classes(n: int, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Shifts (n,) that lead, around the scale, to any other class alike."""
    return generator.integers(1, classes, size=n)


def move(ratings: np.ndarray, order: np.ndarray, ratio: float, shifts: np.ndarray, classes: int) -> np.ndarray:
    """The ratings with the first round(ratio * n) of `order` moved by their shifts, around the scale."""
    changed = order[: round(ratio * len(ratings))]
    noisy = ratings.copy()
    noisy[changed] = (ratings[changed] + shifts[changed]) % classes
    return noisy
