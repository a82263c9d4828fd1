from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback import comparisons
from noisy_feedback.errors import InputError


def random_ratings(counts, generator):
    return generator.permutation(np.repeat(np.arange(len(counts)), counts))


def brute_force_most_lists(counts, size):
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
    most = brute_force_most_lists(counts, k + 1)
    assume(most > 0)
    generator = np.random.default_rng(seed)
    ratings = random_ratings(counts, generator)
    lists = comparisons.lists(ratings, k, len(counts), generator)
    assert lists.shape == (most, k + 1)
    assert (np.diff(ratings[lists], axis=1) < 0).all()  # pairwise different, best first
    assert len(np.unique(lists)) == lists.size  # each review at most once


def test_the_published_data_shares_give_the_most_lists_at_k_3():
    # 40 % of TripAdvisor's counts: the three rare ratings fill 2,159 places, so L = 2,159 / 2 lists.
    counts = [568, 717, 874, 2416, 3621]
    lists = comparisons.lists(random_ratings(counts, np.random.default_rng(0)), 3, 5, np.random.default_rng(0))
    assert len(lists) == 1079


def test_every_way_to_share_ratings_among_lists_is_equally_likely():
    used, length, size = np.array([2, 2, 1, 1]), 3, 2
    rows = [row for row in product([0, 1], repeat=4) if sum(row) == size]
    ways = [table for table in product(rows, repeat=length) if (np.sum(table, axis=0) == used).all()]
    generator = np.random.default_rng(0)
    drawn = Counter(comparisons.random_members(used, length, size, generator).tobytes() for _ in range(6000))
    assert len(drawn) == len(ways) == 15
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def matchings(counts, size):
    """Every way to make lists of `size` different ratings out of all reviews, as sets of sets of row numbers."""
    ratings = np.repeat(np.arange(len(counts)), counts)

    def cover(left):
        if not left:
            yield frozenset()
            return
        first, *others = left
        for rest in combinations(others, size - 1):
            if len({ratings[row] for row in (first, *rest)}) == size:
                for more in cover([row for row in others if row not in rest]):
                    yield more | {frozenset((first, *rest))}

    return ratings, set(cover(list(range(len(ratings)))))


@pytest.mark.parametrize(
    ("counts", "k", "ways"), [((2, 2, 2), 1, 8), ((2, 2, 1, 1), 1, 10), ((2, 2, 1, 1), 2, 4), ((3, 3), 1, 6)]
)
def test_every_set_of_lists_that_uses_all_reviews_is_equally_likely(counts, k, ways):
    ratings, possible = matchings(counts, k + 1)
    assert len(possible) == ways
    generator = np.random.default_rng(0)
    drawn = Counter(
        frozenset(map(frozenset, comparisons.lists(ratings, k, len(counts), generator).tolist())) for _ in range(6000)
    )
    assert set(drawn) == possible
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_every_pair_three_stars_apart_is_equally_likely():
    stars = np.array([1, 1, 1, 4, 4, 2, 5, 5])  # 2 of 3 rows of one star meet 2 of four stars; row 5 meets 6 or 7
    generator = np.random.default_rng(0)
    drawn = Counter(frozenset(map(tuple, comparisons.pairs(stars, 3, generator).tolist())) for _ in range(6000))
    assert len(drawn) == 6 * 2
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_lists_stand_in_random_order():
    ratings = np.arange(6) % 2
    generator = np.random.default_rng(0)
    first = Counter(comparisons.lists(ratings, 1, 2, generator)[0, 0] for _ in range(3000))
    assert stats.chisquare(list(first.values())).pvalue > 1e-3
    assert len(first) == 3


def test_every_review_of_a_rating_is_equally_likely_to_be_used():
    ratings = np.array([0] * 12 + [1] * 3)
    generator = np.random.default_rng(0)
    used = Counter()
    for _ in range(4000):
        used.update(comparisons.lists(ratings, 1, 2, generator)[:, 1].tolist())
    assert stats.chisquare([used[row] for row in range(12)]).pvalue > 1e-3


def test_a_spare_review_is_left_out_of_no_rating_in_particular():
    ratings = np.repeat(np.arange(3), 3)  # nine reviews make four pairs; one is spare
    generator = np.random.default_rng(0)
    left_out = Counter()
    for _ in range(3000):
        lists = comparisons.lists(ratings, 1, 3, generator)
        (row,) = set(range(9)) - set(lists.ravel().tolist())
        left_out[int(ratings[row])] += 1
    assert stats.chisquare(list(left_out.values())).pvalue > 1e-3


def test_renaming_the_ratings_upside_down_keeps_the_number_of_lists():
    ratings = random_ratings([5, 20, 3, 9, 40], np.random.default_rng(0))
    up, down = (comparisons.lists(r, 2, 5, np.random.default_rng(1)) for r in (ratings, 4 - ratings))
    assert len(up) == len(down)


def test_the_same_generator_state_gives_the_same_lists():
    ratings = random_ratings([50] * 5, np.random.default_rng(0))
    first, second = (comparisons.lists(ratings, 3, 5, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("k", [0, 5, 9])
def test_k_outside_the_scale_is_refused_by_name(k):
    with pytest.raises(InputError, match=f"^--k {k}: a list needs {k + 1} different .* are 5; k must be 1 to 4$"):
        comparisons.lists(np.arange(50) % 5, k, 5, np.random.default_rng(0))


def test_too_few_different_ratings_for_one_list_are_refused():
    with pytest.raises(InputError, match="no list of 4 different ratings can be made: only 3 occur"):
        comparisons.lists(np.arange(50) % 3, 3, 5, np.random.default_rng(0))


@given(counts=st.lists(st.integers(0, 30), min_size=5, max_size=5), seed=st.integers(0, 2**32))
def test_pairs_are_exactly_three_stars_apart_better_first_and_as_many_as_there_can_be(counts, seed):
    most = min(counts[0], counts[3]) + min(counts[1], counts[4])
    assume(most > 0)
    generator = np.random.default_rng(seed)
    stars = 1 + random_ratings(counts, generator)
    pairs = comparisons.pairs(stars, 3, generator)
    assert pairs.shape == (most, 2)
    assert (stars[pairs[:, 0]] - stars[pairs[:, 1]] == 3).all()
    assert len(np.unique(pairs)) == pairs.size


@given(counts=st.lists(st.integers(0, 6), min_size=10, max_size=10))
def test_on_a_longer_scale_pairs_are_a_largest_matching(counts):
    # Stars 1, 4, 7, 10 form a chain (2, 5, 8 and 3, 6, 9 too): try every split of the middle ones.
    def most_of_chain(chain):
        if len(chain) < 2:
            return 0
        return max(
            pairs + most_of_chain([chain[1] - pairs, *chain[2:]]) for pairs in range(min(chain[0], chain[1]) + 1)
        )

    most = sum(most_of_chain(counts[start::3]) for start in range(3))
    assume(most > 0)
    stars = 1 + random_ratings(counts, np.random.default_rng(0))
    assert len(comparisons.pairs(stars, 3, np.random.default_rng(0))) == most


def test_no_pair_three_apart_is_refused():
    with pytest.raises(InputError, match=r"no pair of ratings exactly 3 stars apart .* 1, 2, 3 "):
        comparisons.pairs(np.array([1, 2, 3, 3]), 3, np.random.default_rng(0))
