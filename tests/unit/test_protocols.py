"""Comparisons from noisy ratings, against what they should be of the true and the noisy ones."""

import numpy as np
import pytest
from scipy import stats

from noisy_feedback.config import NOISES, Config
from noisy_feedback.feedback.comparisons import build_pairs
from noisy_feedback.feedback.noise import RatedReviews, make_noisy
from noisy_feedback.feedback.protocols import compare, known_pairs
from noisy_feedback.rng import rng_for

SCALE = np.arange(1, 6)
RATINGS = np.random.default_rng(0).integers(5, size=200)


def compared(protocol="multiclass", ratings=RATINGS, rows=None, **options):
    """The comparisons of the reviews `rows`, by default all, and the noisy ratings (n,) of all: -9 of other ones."""
    config = Config(protocol, **options)
    rows = np.arange(len(ratings)) if rows is None else rows
    confidence = np.random.default_rng(1).random(len(rows))
    noisy = np.full(len(ratings), -9)
    noisy[rows] = make_noisy(config, RatedReviews(ratings[rows], 5, [], None, confidence))
    return compare(config, noisy[rows], ratings, rows, SCALE), noisy


@pytest.mark.parametrize("protocol", ["multiclass", "binary"])
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("order", ["rating", "row"])
def test_comparisons_claim_the_noisy_ratings_and_are_flipped_where_the_true_ones_say_the_opposite(
    protocol, kind, order
):
    rows = np.random.default_rng(2).permutation(200)[:160]
    found, noisy = compared(protocol, rows=rows, noise=kind, ratio=0.5, list_order=order)
    assert set(found.lists.ravel()) <= set(rows)
    better, worse = (RATINGS[items] for items in (found.lists[:, :-1], found.lists[:, 1:]))
    assert (found.flipped == np.where(better == worse, 0.5, better < worse)).all()
    assert order == "row" or (np.diff(found.ratings, axis=1) < 0).all()
    assert found.ratings.min() >= 0  # none off the scale, which -1 stands for
    if kind == "reversed":
        assert (found.changed, found.total) == (round(0.5 * len(found.lists)), len(found.lists))
        assert (np.sort(found.ratings, axis=1) == np.sort(noisy[found.lists], axis=1)).all()
    else:
        assert (found.changed, found.total) == ((noisy[rows] != RATINGS[rows]).sum(), 160)
        assert (found.ratings == noisy[found.lists]).all()


def test_binary_builds_pairs_by_stars_and_not_by_classes():
    ratings, scale = np.array([0, 1, 2, 2, 1]), np.array([1, 2, 5])  # classes 1 and 2 are three stars apart
    found = compare(Config("binary"), ratings, ratings, np.arange(5), scale)
    assert (found.lists == build_pairs(scale[ratings], 3, rng_for(84, "comparisons"))).all()
    assert found.ratings.tolist() == [[2, 1], [2, 1]]


# --- how many lists


@pytest.mark.parametrize("options", [{"k": 2}, {"protocol": "binary"}])
@pytest.mark.parametrize("rounds", [2, 5])
def test_lists_are_drawn_anew_as_often_as_asked_for_after_those_of_one_round(options, rounds):
    (once, _), (several, _) = compared(**options), compared(lists_per_review=rounds, **options)
    count = len(once.lists)
    assert len(several.lists) == rounds * count
    assert np.unique(several.lists, return_counts=True)[1].max() == rounds
    assert (np.diff(np.sort(several.lists, axis=1), axis=1) > 0).all()  # a review is in a list once
    assert (several.lists[:count] == once.lists).all()
    assert (several.lists[count : 2 * count] != once.lists).any()


def test_a_limit_that_one_round_could_fill_keeps_lists_of_every_round_alike_in_their_order():
    ratings, kept = np.random.default_rng(3).integers(5, size=2000), []
    for seed in range(20):
        everything, some = (
            compared(ratings=ratings, seed=seed, lists_per_review=2, lists=lists)[0].lists.tolist()
            for lists in (None, 100)
        )
        place = {tuple(found): number for number, found in enumerate(everything)}
        places = [place[tuple(found)] for found in some]
        assert places == sorted(places)
        kept += [2 * number // len(everything) for number in places]
    assert stats.chisquare(np.bincount(kept, minlength=2)).pvalue > 1e-3


# --- pairs whose order is known


def test_where_nothing_can_be_compared_there_is_no_known_pair():
    for config, ratings in ((Config("binary"), [0, 1, 2]), (Config("multiclass", k=2), [0, 1])):
        assert known_pairs(config, np.array(ratings), SCALE).shape == (0, 2)
