from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.comparisons import Feedback, build_lists
from noisy_feedback.feedback.noise import RATING_NOISE, RatedReviews, RatingNoise, make_noisy

EXACT = ("uniform", "adjacent", "least-confident")  # kinds that change every rating they choose
WITH_MATRIX = tuple(kind for kind, found in RATING_NOISE.items() if found.matrix)
TRIPADVISOR = np.array([1421, 1793, 2184, 6039, 9054])  # reviews with 1 to 5 stars
SHARES = TRIPADVISOR / TRIPADVISOR.sum()


def rated(ratings, classes=5, confidence=None):
    """Reviews with these ratings; the model is equally sure of all of them, if not said otherwise."""
    confidence = np.zeros(len(ratings)) if confidence is None else confidence
    return RatedReviews(np.asarray(ratings), classes, [], torch.empty(0), confidence)


def add(kind, reviews, ratio, seed=0):
    """The ratings with noise; with the kind `reversed` they stand for lists (L, k+1)."""
    rng, given = np.random.default_rng(seed), reviews.ratings
    if kind == "reversed":
        return Feedback(given, given, 0, 0, given[:, 1:]).reverse_share(ratio, rng).lists
    return RATING_NOISE[kind].add(reviews, ratio, rng)


@pytest.mark.parametrize("kind", RATING_NOISE)
@given(n=st.integers(1, 300), ratio=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 2**32))
def test_exactly_the_requested_share_changes_and_of_redrawn_ratings_at_most_that(kind, n, ratio, classes, seed):
    rng = np.random.default_rng(seed)
    reviews = rated(rng.integers(classes, size=n), classes, rng.random(n))
    before = reviews.ratings.copy()
    noisy = add(kind, reviews, ratio, seed)
    changed = (noisy != reviews.ratings).sum()
    assert changed == round(ratio * n) if kind in EXACT else changed <= round(ratio * n)
    assert (-1 if kind == "redrawn-off-scale" else 0) <= noisy.min()
    assert noisy.max() < classes
    assert (reviews.ratings == before).all()
    if kind == "adjacent":
        assert np.abs(noisy - reviews.ratings).max() <= 1


@pytest.mark.parametrize("kind", [*RATING_NOISE, "reversed"])
def test_more_noise_changes_what_less_noise_changes_in_the_same_way_and_more(kind):
    for ratio, larger in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.0)):
        given = np.arange(300).reshape(100, 3) if kind == "reversed" else np.arange(200) % 5
        some, more = (add(kind, rated(given), share, seed=3) for share in (ratio, larger))
        assert set(np.flatnonzero(some != given)) < set(np.flatnonzero(more != given))
        if kind in (*EXACT, "reversed"):
            assert (more[some != given] == some[some != given]).all()


def test_least_confident_noise_changes_the_ratings_of_which_the_model_is_least_sure_the_first_of_equals():
    confidence = np.random.default_rng(0).integers(4, size=1000).astype(float)
    noisy = add("least-confident", rated(np.zeros(1000, dtype=int), confidence=confidence), 0.3)
    expected = sorted(range(1000), key=lambda row: (confidence[row], row))[:300]
    assert np.flatnonzero(noisy).tolist() == sorted(expected)


# --- the noisy ratings of a run

WRONG_NOISE = {
    "raises": (lambda reviews, ratio, rng: 1 / 0, "fails: ZeroDivisionError('division by zero')"),
    "a list": (lambda reviews, ratio, rng: reviews.ratings.tolist(), "must return an array of 9 classes, 0 to 4"),
    "too few": (lambda reviews, ratio, rng: reviews.ratings[:-1], "must return an array"),
    "floats": (lambda reviews, ratio, rng: reviews.ratings.astype(float), "must return an array"),
    "too low": (lambda reviews, ratio, rng: reviews.ratings - 2, "must return an array"),
    "too high": (lambda reviews, ratio, rng: reviews.ratings + 1, "must return an array"),
}


@pytest.mark.parametrize("name", WRONG_NOISE)
def test_a_wrong_noise_function_is_one_line_that_names_it(name, monkeypatch):
    function, says = WRONG_NOISE[name]
    monkeypatch.setitem(RATING_NOISE, "adjacent", RatingNoise(function))
    with pytest.raises(InputError) as error:
        make_noisy(Config("multiclass", noise="adjacent", ratio=0.2), rated(np.arange(9) % 5))
    where = "--noise adjacent: the function <lambda> in noisy_feedback/feedback/noise.py "
    assert str(error.value).startswith(where + says)
    assert "\n" not in str(error.value)


def test_a_noise_function_may_change_its_ratings_and_return_any_integers(monkeypatch):
    reviews = rated(np.zeros(9, dtype=int))
    for dtype in (np.int8, np.uint64):
        function = lambda given, *_, dtype=dtype: np.add(given.ratings, 4, out=given.ratings).astype(dtype)  # noqa: E731
        monkeypatch.setitem(RATING_NOISE, "uniform", RatingNoise(function))
        noisy = make_noisy(Config("multiclass"), reviews)
        assert (noisy.dtype, noisy.tolist()) == (np.int64, [4] * 9)  # what torch takes as an index
    assert not reviews.ratings.any()


# --- transition matrices and flip rates


@pytest.mark.parametrize("kind", WITH_MATRIX)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_transition_matrix_is_the_frequency_of_noisy_ratings(kind, classes, ratio):
    ratings, n = np.tile(np.arange(classes), 20_000), 20_000
    noisy = add(kind, rated(ratings, classes, np.random.default_rng(0).random(len(ratings))), ratio)
    counts = np.bincount(ratings * classes + noisy, minlength=classes**2).reshape(classes, classes)
    matrix = RATING_NOISE[kind].matrix(ratio, classes)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(classes))
    assert counts / n == pytest.approx(matrix, abs=0.015)  # four standard deviations
    assert (counts[matrix == 0] == 0).all()


@pytest.mark.parametrize(
    ("kind", "ratio"),
    [("uniform", 0.0), ("uniform", 0.4), ("uniform", 1.0), ("adjacent", 0.8), ("least-confident", 0.4), ("redrawn", 1)],
)
def test_the_flip_rates_are_those_of_simulated_lists(kind, ratio):
    rng = np.random.default_rng(0)
    ratings = rng.choice(5, size=60_000, p=SHARES)
    noisy = add(kind, rated(ratings, confidence=rng.random(len(ratings))), ratio)
    for k in (1, 3):
        pairs = np.array([pair for found in build_lists(noisy, k, 5, rng) for pair in pairwise(found)])
        better, worse = ratings[pairs].T
        given_different, wrong = noise.expected_flip_rates(RATING_NOISE[kind].matrix(ratio, 5), SHARES, noisy[pairs])
        assert given_different == pytest.approx((better < worse).sum() / (better != worse).sum(), abs=0.015)
        assert wrong == pytest.approx((better < worse).mean() + (better == worse).mean() / 2, abs=0.015)


def test_ratings_that_the_training_part_lacks_are_taken_for_true_and_where_all_are_equal_there_is_no_flip_rate():
    priors, pairs = np.array([0.5, 0.5, 0, 0, 0]), np.array([[2, 1], [4, 3], [1, 0]])
    assert noise.expected_flip_rates(RATING_NOISE["uniform"].matrix(0.0, 5), priors, pairs) == (0, 0)
    for kind in WITH_MATRIX:
        rates = noise.expected_flip_rates(RATING_NOISE[kind].matrix(0.2, 5), priors, pairs)
        assert all(0 < rate < 1 for rate in rates)
    matrix = RATING_NOISE["uniform"].matrix(0.5, 3)
    found = noise.expected_flip_rates(matrix, np.array([0.0, 1.0, 0.0]), np.array([[2, 0]]))
    np.testing.assert_equal(found, (np.nan, 0.5))
