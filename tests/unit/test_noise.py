from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback.config import NOISES
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.comparisons import build_lists
from noisy_feedback.feedback.noise import TRANSITION_MATRICES, RatedReviews

EXACT = ("uniform", "adjacent", "least-confident")  # kinds that change every rating they choose
ON_RATINGS = tuple(kind for kind in NOISES if kind != "reversed")
TRIPADVISOR = np.array([1421, 1793, 2184, 6039, 9054])  # reviews with 1 to 5 stars


def rated(ratings, classes=5, confidence=None):
    """Reviews with these ratings, without texts, about which the model is equally sure."""
    confidence = np.zeros(len(ratings)) if confidence is None else confidence
    return RatedReviews(np.asarray(ratings), classes, [], torch.empty(0), confidence)


def random_reviews(n, classes, rng):
    return rated(rng.integers(classes, size=n), classes, rng.random(n))


def function(kind):
    return getattr(noise, kind.replace("-", "_"))


reviews_of_any_size = given(
    n=st.integers(1, 300), ratio=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 2**32)
)


@pytest.mark.parametrize("kind", EXACT)
@reviews_of_any_size
def test_exactly_the_requested_share_changes_each_to_another_rating(kind, n, ratio, classes, seed):
    rng = np.random.default_rng(seed)
    reviews = random_reviews(n, classes, rng)
    noisy = function(kind)(reviews, ratio, rng)
    assert (noisy != reviews.ratings).sum() == round(ratio * n)
    assert noisy.min() >= 0
    assert noisy.max() < classes


@pytest.mark.parametrize("kind", [*EXACT, "reversed"])
def test_the_count_is_exact_over_thousands_of_draws(kind):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        n, classes, ratio = int(rng.integers(1, 60)), int(rng.integers(2, 9)), rng.random()
        if kind == "reversed":
            lists = np.stack([np.arange(n), np.arange(n) + n], axis=1)
            changed = (noise.reverse_lists(lists, ratio, rng) != lists).all(axis=1)
        else:
            reviews = random_reviews(n, classes, rng)
            changed = function(kind)(reviews, ratio, rng) != reviews.ratings
        assert changed.sum() == round(ratio * n)


@pytest.mark.parametrize("kind", ["redrawn", "redrawn-off-scale"])
@reviews_of_any_size
def test_of_redrawn_ratings_at_most_the_requested_share_changes(kind, n, ratio, classes, seed):
    rng = np.random.default_rng(seed)
    reviews = random_reviews(n, classes, rng)
    noisy = function(kind)(reviews, ratio, rng)
    assert (noisy != reviews.ratings).sum() <= round(ratio * n)
    assert noisy.min() >= (-1 if kind == "redrawn-off-scale" else 0)
    assert noisy.max() < classes


@pytest.mark.parametrize("kind", ON_RATINGS)
def test_the_input_is_unchanged(kind):
    ratings = np.arange(100) % 5
    function(kind)(rated(ratings), 1.0, np.random.default_rng(0))
    assert (ratings == np.arange(100) % 5).all()


def test_the_lists_that_are_reversed_are_copies():
    lists = np.arange(30).reshape(10, 3)
    noise.reverse_lists(lists, 1.0, np.random.default_rng(0))
    assert (lists == np.arange(30).reshape(10, 3)).all()


@pytest.mark.parametrize("kind", ON_RATINGS)
@pytest.mark.parametrize(("ratio", "larger"), [(0.0, 0.2), (0.2, 0.6), (0.6, 1.0)])
def test_more_noise_changes_the_same_ratings_and_more(kind, ratio, larger):
    reviews = rated(np.arange(200) % 5)
    some, more = (function(kind)(reviews, r, np.random.default_rng(3)) for r in (ratio, larger))
    assert set(np.flatnonzero(some != reviews.ratings)) < set(np.flatnonzero(more != reviews.ratings))


@pytest.mark.parametrize("kind", EXACT)
def test_more_noise_changes_ratings_in_the_same_way(kind):
    reviews = rated(np.arange(200) % 5)
    some, more = (function(kind)(reviews, ratio, np.random.default_rng(3)) for ratio in (0.2, 0.6))
    changed = some != reviews.ratings
    assert (more[changed] == some[changed]).all()


def test_more_noise_reverses_the_same_lists_and_more():
    lists = np.arange(300).reshape(100, 3)
    some, more = (noise.reverse_lists(lists, ratio, np.random.default_rng(3)) for ratio in (0.2, 0.6))
    reversed_by_some = (some != lists).any(axis=1)
    assert (more[reversed_by_some] == lists[reversed_by_some, ::-1]).all()


@pytest.mark.parametrize("kind", ["uniform", "least-confident"])
@pytest.mark.parametrize("rating", range(5))
def test_a_changed_rating_is_uniform_over_the_others(kind, rating):
    noisy = function(kind)(rated(np.full(40_000, rating)), 1.0, np.random.default_rng(rating))
    counts = np.bincount(noisy, minlength=5)
    assert counts[rating] == 0
    assert stats.chisquare(np.delete(counts, rating)).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["uniform", "adjacent"])
def test_every_review_is_equally_likely_to_change(kind):
    rng = np.random.default_rng(1)
    reviews = rated(np.arange(20) % 5)
    changed = sum(function(kind)(reviews, 0.3, rng) != reviews.ratings for _ in range(4000))
    # Exactly 6 of 20 change each time, so the counts vary a little less than chi-squared supposes.
    assert stats.chisquare(changed).pvalue > 1e-3


@reviews_of_any_size
def test_adjacent_noise_moves_ratings_by_one_within_the_scale(n, ratio, classes, seed):
    rng = np.random.default_rng(seed)
    reviews = random_reviews(n, classes, rng)
    noisy = noise.adjacent(reviews, ratio, rng)
    assert np.abs(noisy - reviews.ratings).sum() == round(ratio * n)


def test_adjacent_noise_goes_up_as_often_as_down():
    noisy = noise.adjacent(rated(np.full(20_000, 2)), 1.0, np.random.default_rng(0))
    assert stats.binomtest(int((noisy == 3).sum()), 20_000).pvalue > 1e-3


def test_least_confident_noise_changes_the_ratings_of_which_the_model_is_least_sure():
    rng = np.random.default_rng(0)
    ratings, confidence = rng.integers(5, size=100), rng.random(100)
    noisy = noise.least_confident(rated(ratings, confidence=confidence), 0.3, rng)
    assert set(np.flatnonzero(noisy != ratings)) == set(np.argsort(confidence)[:30])


def test_of_ratings_of_equal_confidence_the_first_change():
    rng = np.random.default_rng(0)
    confidence = rng.integers(2, size=1000).astype(float)
    noisy = noise.least_confident(rated(np.zeros(1000, dtype=int), confidence=confidence), 0.3, rng)
    assert np.flatnonzero(noisy).tolist() == np.flatnonzero(confidence == 0)[:300].tolist()


def test_redrawn_off_scale_draws_from_one_to_five_where_classes_are_zero_to_four():
    noisy = noise.redrawn_off_scale(rated(np.zeros(50_000, dtype=int)), 1.0, np.random.default_rng(0))
    counts = np.bincount(noisy + 1, minlength=6)  # of -1, 0, 1, 2, 3, 4
    assert counts[1] == 0
    assert stats.chisquare(np.delete(counts, 1)).pvalue > 1e-3


@given(n=st.integers(1, 200), ratio=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_exactly_the_requested_share_of_lists_is_reversed(n, ratio, seed):
    lists = np.arange(3 * n).reshape(n, 3)
    noisy = noise.reverse_lists(lists, ratio, np.random.default_rng(seed))
    changed = (noisy == lists[:, ::-1]).all(axis=1)
    assert changed.sum() == round(ratio * n)
    assert (noisy[~changed] == lists[~changed]).all()


@pytest.mark.parametrize("kind", ON_RATINGS)
def test_every_kind_that_the_option_takes_is_a_function(kind):
    assert callable(function(kind))


# --- transition matrices and flip rates


@pytest.mark.parametrize("kind", TRANSITION_MATRICES)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_transition_matrix_is_the_frequency_of_noisy_ratings(kind, classes, ratio):
    rng = np.random.default_rng(0)
    ratings, n = np.tile(np.arange(classes), 20_000), 20_000
    noisy = function(kind)(rated(ratings, classes, rng.random(len(ratings))), ratio, rng)
    counts = np.bincount(ratings * classes + noisy, minlength=classes**2).reshape(classes, classes)
    matrix = TRANSITION_MATRICES[kind](ratio, classes)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(classes))
    assert counts / n == pytest.approx(matrix, abs=0.015)  # four standard deviations
    assert (counts[matrix == 0] == 0).all()


@cache
def noisy_lists(kind, ratio, k, n=60_000):
    """True and noisy ratings of lists (L, k+1) that are built from the noisy ratings of reviews in these shares."""
    rng = np.random.default_rng(0)
    ratings = rng.choice(5, size=n, p=TRIPADVISOR / TRIPADVISOR.sum())
    noisy = function(kind)(rated(ratings, confidence=rng.random(n)), ratio, rng)
    lists = build_lists(noisy, k, 5, rng)
    return ratings[lists], noisy[lists]


def derived_flip_rates(kind, ratio, k):
    noisy = noisy_lists(kind, ratio, k)[1]
    neighbours = np.stack([noisy[:, :-1].ravel(), noisy[:, 1:].ravel()], axis=1)
    return noise.flip_rates(TRANSITION_MATRICES[kind](ratio, 5), TRIPADVISOR / TRIPADVISOR.sum(), neighbours)


CASES = [("uniform", ratio) for ratio in (0.0, 0.2, 0.4, 0.8, 1.0)]
CASES += [("adjacent", 0.2), ("adjacent", 0.8), ("least-confident", 0.4), ("redrawn", 0.4), ("redrawn", 1.0)]


@pytest.mark.parametrize(("kind", "ratio"), CASES)
@pytest.mark.parametrize("k", [1, 3])
def test_the_flip_rates_are_those_of_simulated_lists(kind, ratio, k):
    true = noisy_lists(kind, ratio, k)[0]
    better, worse = true[:, :-1], true[:, 1:]
    given_different, wrong = derived_flip_rates(kind, ratio, k)
    assert given_different == pytest.approx((better < worse).sum() / (better != worse).sum(), abs=0.015)
    assert wrong == pytest.approx((better < worse).mean() + (better == worse).mean() / 2, abs=0.015)


@pytest.mark.parametrize(("k", "ratio", "expected"), [(3, 0.4, 0.309), (1, 0.8, 0.5), (3, 0.8, 0.5), (1, 0.0, 0.0)])
def test_the_flip_rate_of_uniform_noise_in_the_studys_data(k, ratio, expected):
    assert derived_flip_rates("uniform", ratio, k)[0] == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("kind", TRANSITION_MATRICES)
@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_ratings_that_the_training_part_lacks_leave_the_flip_rates_defined(kind, ratio):
    priors, neighbours = np.array([0.5, 0.5, 0, 0, 0]), np.array([[2, 1], [4, 3], [1, 0]])
    for rate in noise.flip_rates(TRANSITION_MATRICES[kind](ratio, 5), priors, neighbours):
        assert 0 <= rate <= 1
        assert rate == 0 or ratio > 0


def test_without_noise_no_comparison_is_wrong():
    rates = noise.flip_rates(noise.uniform_matrix(0.0, 5), np.full(5, 0.2), np.array([[4, 0], [3, 2]]))
    assert rates == (0, 0)


def test_where_all_true_ratings_are_equal_there_is_no_flip_rate():
    given_different, wrong = noise.flip_rates(
        noise.uniform_matrix(0.5, 3), np.array([0.0, 1.0, 0.0]), np.array([[2, 0]])
    )
    assert np.isnan(given_different)
    assert wrong == 0.5
