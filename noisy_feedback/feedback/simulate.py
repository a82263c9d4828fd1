"""Simulated feedback: true ratings -> noisy ratings -> comparisons."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.comparisons import Feedback, wrong_order
from noisy_feedback.feedback.noise import RatedReviews
from noisy_feedback.feedback.protocols import protocol_of
from noisy_feedback.rng import rng_for

CALIBRATION_DRAWS = 10  # each uses every review once at most


def simulate_feedback(config: Config, reviews: RatedReviews, scale: np.ndarray) -> Feedback:
    """Add noise to the ratings of the fine-tuning part and build the comparisons that follow from them.

    Errors: InputError where no comparison is possible, or a kind of noise returns no ratings.
    """
    noise_rng, comparison_rng = rng_for(config.seed, "noise"), rng_for(config.seed, "comparisons")
    noisy = corrupt_ratings(config, reviews, noise_rng)
    lists = build_comparisons(config, noisy, scale, comparison_rng)
    ratings = noisy[lists]
    if config.noise != "reversed":
        changed = int((noisy != reviews.ratings).sum())
        return Feedback(lists, ratings, changed, len(noisy), wrong_order(reviews.ratings[lists]))
    # The annotator who reverses a list claims that its worst review is the best: the ratings stay best first.
    as_given = noise.reverse_lists(lists, config.ratio, noise_rng)
    changed = int((as_given != lists).any(axis=1).sum())
    return Feedback(as_given, ratings, changed, len(lists), wrong_order(reviews.ratings[as_given]))


def corrupt_ratings(config: Config, reviews: RatedReviews, rng: np.random.Generator) -> np.ndarray:
    """The noisy ratings (n,); -1 for a rating off the scale. With `reversed` noise they are the true ones."""
    if config.noise == "reversed":
        return reviews.ratings
    function = find_function(noise, "noise", config.noise)
    where = f"--noise {config.noise}: the function {function.__name__} in noisy_feedback/feedback/noise.py"
    try:
        noisy = function(replace(reviews, ratings=reviews.ratings.copy()), config.ratio, rng)
    except Exception as error:  # a user's own function can fail in any way; it is reported in one line
        raise InputError(f"{where} fails: {error!r}") from None
    valid = isinstance(noisy, np.ndarray) and noisy.shape == reviews.ratings.shape and noisy.dtype.kind in "iu"
    if not valid or noisy.min() < -1 or noisy.max() >= reviews.classes:
        raise InputError(f"{where} must return an array of {len(reviews.ratings)} classes, 0 to {reviews.classes - 1}")
    return noisy.astype(np.int64)  # what torch takes as an index


def build_comparisons(config: Config, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lists (L, k+1) of positions, best rating first; at most `config.lists` of them, drawn at random.

    With `lists_per_review` above 1 they are drawn as often anew, so that a review is in up to so many lists; those
    that are kept are then of all rounds.
    """
    on_scale = np.flatnonzero(ratings >= 0)
    rounds = [protocol_of(config).build(ratings[on_scale], scale, rng) for _ in range(config.lists_per_review)]
    lists = on_scale[np.concatenate(rounds)]
    if len(rounds) > 1:  # the lists of one round are in random order, but all rounds together are not
        lists = lists[np.sort(rng.permutation(len(lists))[: config.lists])]
    lists = lists[: config.lists]
    return np.sort(lists, axis=1) if config.list_order == "row" else lists


def draw_known_pairs(config: Config, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pairs (P, 2) of positions, the better first, that the protocol compares where these ratings (n,) are the truth.

    Drawn CALIBRATION_DRAWS times; none where no comparison is possible.
    """
    protocol = protocol_of(config)
    if not protocol.is_possible(ratings, scale):
        return np.empty((0, 2), dtype=np.int64)
    lists = np.concatenate([protocol.build(ratings, scale, rng) for _ in range(CALIBRATION_DRAWS)])
    return np.stack([lists[:, :-1].ravel(), lists[:, 1:].ravel()], axis=1)


def has_comparison(config: Config, ratings: np.ndarray, scale: np.ndarray) -> bool:
    """Do these ratings (n,) allow one comparison at least?"""
    return protocol_of(config).is_possible(ratings[ratings >= 0], scale)


def find_function(module: ModuleType, option: str, name: str) -> Callable[..., Any]:
    """The function that a name in config.py stands for."""
    function = getattr(module, name.replace("-", "_"), None)
    if function is None:
        raise InputError(f"--{option} {name}: there is no function {name.replace('-', '_')} in {module.__name__}")
    return function
