"""Lists and pairs by counting all that there can be; comparisons by the true and the noisy ratings of their reviews."""

from collections import Counter
from itertools import chain, combinations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback.config import NOISES, Config
from noisy_feedback.feedback.comparisons import build_lists, build_pairs, compare, known_pairs
from noisy_feedback.feedback.noise import RatedReviews, make_noisy
from noisy_feedback.rng import rng_for


def random_ratings(counts, rng):
    return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def brute_force_max_lists(counts, size):
    """Take the fullest ratings, list after list: the greedy rule that is known to make the most lists."""
    counts, lists = sorted(counts, reverse=True), 0
    while len(counts) >= size and counts[size - 1] > 0:
        counts = sorted([count - 1 for count in counts[:size]] + counts[size:], reverse=True)
        lists += 1
    return lists


counts_strategy = st.lists(st.integers(0, 40), min_size=2, max_size=7)


@given(counts=counts_strategy, k=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_lists_are_valid_and_as_many_as_there_can_be(counts, k, seed):
    assume(k < len(counts))
    most = brute_force_max_lists(counts, k + 1)
    assume(most > 0)
    rng = np.random.default_rng(seed)
    ratings = random_ratings(counts, rng)
    lists = build_lists(ratings, k, len(counts), rng)
    assert lists.shape == (most, k + 1)
    assert (np.diff(ratings[lists], axis=1) < 0).all()  # pairwise different, best first
    assert len(np.unique(lists)) == lists.size  # each review at most once


def sets_of_lists(rows, ratings, size):
    """Every way to put all these rows into lists of `size` different ratings, as sets of sets of row numbers."""
    if not rows:
        return [frozenset()]
    first, *others = rows
    return [
        more | {frozenset((first, *rest))}
        for rest in combinations(others, size - 1)
        if len({ratings[row] for row in (first, *rest)}) == size
        for more in sets_of_lists([row for row in others if row not in rest], ratings, size)
    ]


def documented_probabilities(ratings, k):
    """P(set of lists), by enumeration: usable reviews, then the unused among them, then lists; each step uniform."""
    counts = np.bincount(ratings)
    length = brute_force_max_lists(counts, k + 1)
    of_class = [np.flatnonzero(ratings == c).tolist() for c in range(len(counts))]
    usable = [list(chain(*rows)) for rows in product(*(combinations(r, min(len(r), length)) for r in of_class))]
    probabilities = Counter()
    for rows in usable:
        unused = list(combinations(rows, len(rows) - (k + 1) * length))
        for spare in unused:
            possible = sets_of_lists([row for row in rows if row not in spare], ratings, k + 1)
            for lists in possible:
                probabilities[lists] += 1 / (len(usable) * len(unused) * len(possible))
    return probabilities


@pytest.mark.parametrize(
    ("counts", "k"),
    [
        ((3, 2, 2), 1),  # one review is spare: of any rating
        ((3, 2, 2, 1), 2),  # and a rating has more reviews than there are lists
        ((2, 2, 2, 2), 2),  # two are spare
        ((2, 1, 1, 1, 1), 2),  # none is spare, and one rating is in every list
        ((4, 1, 1), 1),  # none is spare, but a rating has more reviews than there are lists
    ],
)
def test_a_spare_review_is_any_of_the_usable_ones_and_the_others_form_lists_uniformly(counts, k):
    ratings = np.repeat(np.arange(len(counts)), counts)
    probabilities = documented_probabilities(ratings, k)
    assert sum(probabilities.values()) == pytest.approx(1)
    rng, draws = np.random.default_rng(0), 2000
    built = (build_lists(ratings, k, len(counts), rng).tolist() for _ in range(draws))
    drawn = Counter(frozenset(map(frozenset, lists)) for lists in built)
    assert set(drawn) <= set(probabilities)
    observed = [drawn[lists] for lists in probabilities]
    assert stats.chisquare(observed, draws * np.array(list(probabilities.values()))).pvalue > 1e-3


PAIRS_OF = np.array([1, 1, 1, 4, 4, 2, 5, 5])  # 2 of 3 rows of one star meet 2 of four stars; row 5 meets 6 or 7


@pytest.mark.parametrize(
    ("build", "seen", "possible"),
    [
        (lambda rng: build_pairs(PAIRS_OF, 3, rng), lambda pairs: frozenset(map(tuple, pairs.tolist())), 6 * 2),
        (lambda rng: build_pairs(np.array([4, 4, 5, 5, 1, 1, 2, 2]), 3, rng), lambda pairs: pairs[0, 0], 4),
        (lambda rng: build_lists(np.arange(6) % 2, 1, 2, rng), lambda lists: lists[0, 0], 3),
    ],
    ids=["pairs", "the first pair", "the first list"],
)
def test_every_pair_three_stars_apart_is_equally_likely_and_lists_and_pairs_stand_in_random_order(
    build, seen, possible
):
    rng = np.random.default_rng(0)
    drawn = Counter(seen(build(rng)) for _ in range(2000))
    assert len(drawn) == possible
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def most_pairs(chain):
    """The largest number of pairs of neighbours in a chain of counts, by trying every split of the middle ones."""
    if len(chain) < 2:
        return 0
    return max(pairs + most_pairs([chain[1] - pairs, *chain[2:]]) for pairs in range(min(chain[:2]) + 1))


@given(
    counts=st.lists(st.integers(0, 30), min_size=5, max_size=5) | st.lists(st.integers(0, 6), min_size=10, max_size=10),
    seed=st.integers(0, 2**32),
)
def test_pairs_are_exactly_three_stars_apart_better_first_and_as_many_as_there_can_be(counts, seed):
    most = sum(most_pairs(counts[start::3]) for start in range(3))  # stars 1, 4, 7, 10 form a chain; 2, 5, 8 too
    assume(most > 0)
    rng = np.random.default_rng(seed)
    stars = 1 + random_ratings(counts, rng)
    pairs = build_pairs(stars, 3, rng)
    assert pairs.shape == (most, 2)
    assert (stars[pairs[:, 0]] - stars[pairs[:, 1]] == 3).all()
    assert len(np.unique(pairs)) == pairs.size


# --- what each protocol compares

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


@pytest.mark.parametrize(("protocol", "k"), [("multiclass", 2), ("binary", 1)])
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("order", ["rating", "row"])
def test_comparisons_claim_the_noisy_ratings_and_are_flipped_where_the_true_ones_say_the_opposite(
    protocol, k, kind, order
):
    rows = np.random.default_rng(2).permutation(200)[:160]
    found, noisy = compared(protocol, rows=rows, k=k, noise=kind, ratio=0.5, list_order=order)
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
