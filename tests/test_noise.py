import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback import comparisons, noise
from noisy_feedback.settings import NOISES


@given(n=st.integers(1, 300), ratio=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 2**32))
def test_exactly_the_requested_share_changes_each_to_another_rating(n, ratio, classes, seed):
    generator = np.random.default_rng(seed)
    ratings = generator.integers(classes, size=n)
    noisy = noise.uniform(ratings, ratio, classes, generator)
    assert (noisy != ratings).sum() == round(ratio * n)
    assert noisy.min() >= 0
    assert noisy.max() < classes


@pytest.mark.parametrize("kind", ["uniform", "adjacent", "hard", "pairs"])
def test_the_count_is_exact_over_thousands_of_draws(kind):
    generator = np.random.default_rng(0)
    for _ in range(3000):
        n, classes, ratio = int(generator.integers(1, 60)), int(generator.integers(2, 9)), generator.random()
        ratings = generator.integers(classes, size=n)
        if kind == "pairs":
            lists = np.stack([np.arange(n), np.arange(n) + n], axis=1)
            changed = (noise.pairs(lists, ratio, generator) != lists).all(axis=1)
        else:
            more = (generator.random(n),) if kind == "hard" else ()
            changed = getattr(noise, kind)(ratings, ratio, classes, generator, *more) != ratings
        assert changed.sum() == round(ratio * n)


def test_the_ratings_given_are_left_as_they_were():
    ratings = np.arange(100) % 5
    noise.uniform(ratings, 1.0, 5, np.random.default_rng(0))
    assert (ratings == np.arange(100) % 5).all()


@pytest.mark.parametrize("rating", range(5))
def test_a_changed_rating_is_uniform_over_the_others(rating):
    noisy = noise.uniform(np.full(40_000, rating), 1.0, 5, np.random.default_rng(rating))
    counts = np.bincount(noisy, minlength=5)
    assert counts[rating] == 0
    assert stats.chisquare(np.delete(counts, rating)).pvalue > 1e-3


def test_every_review_is_equally_likely_to_change():
    generator = np.random.default_rng(1)
    ratings = np.arange(20) % 5
    changed = sum(noise.uniform(ratings, 0.3, 5, generator) != ratings for _ in range(4000))
    # Exactly 6 of 20 change each time, so the counts vary a little less than chi-squared supposes.
    assert stats.chisquare(changed).pvalue > 1e-3


def test_more_noise_changes_the_same_ratings_in_the_same_way_and_more():
    ratings = np.arange(200) % 5
    some, more = (noise.uniform(ratings, ratio, 5, np.random.default_rng(3)) for ratio in (0.2, 0.6))
    changed = some != ratings
    assert (more[changed] == some[changed]).all()


@given(n=st.integers(1, 300), ratio=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 2**32))
def test_adjacent_noise_moves_exactly_the_requested_share_by_one_within_the_scale(n, ratio, classes, seed):
    generator = np.random.default_rng(seed)
    ratings = generator.integers(classes, size=n)
    noisy = noise.adjacent(ratings, ratio, classes, generator)
    assert np.abs(noisy - ratings).sum() == (noisy != ratings).sum() == round(ratio * n)
    assert noisy.min() >= 0
    assert noisy.max() < classes


def test_adjacent_noise_goes_up_as_often_as_down():
    noisy = noise.adjacent(np.full(20_000, 2), 1.0, 5, np.random.default_rng(0))
    assert stats.binomtest(int((noisy == 3).sum()), 20_000).pvalue > 1e-3


def test_hard_noise_changes_the_least_certain_ratings_first():
    generator = np.random.default_rng(0)
    ratings, certainty = generator.integers(5, size=100), generator.random(100)
    noisy = noise.hard(ratings, 0.3, 5, generator, certainty)
    assert set(np.flatnonzero(noisy != ratings)) == set(np.argsort(certainty)[:30])


def test_of_ratings_that_are_as_hard_the_first_change():
    generator = np.random.default_rng(0)
    certainty = generator.integers(2, size=1000).astype(float)
    noisy = noise.hard(np.zeros(1000, dtype=int), 0.3, 5, generator, certainty)
    assert np.flatnonzero(noisy).tolist() == np.flatnonzero(certainty == 0)[:300].tolist()


@given(n=st.integers(1, 200), ratio=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_noise_in_the_pairs_turns_exactly_the_requested_share_of_lists_around(n, ratio, seed):
    lists = np.arange(3 * n).reshape(n, 3)
    noisy = noise.pairs(lists, ratio, np.random.default_rng(seed))
    turned = (noisy == lists[:, ::-1]).all(axis=1)
    assert turned.sum() == round(ratio * n)
    assert (noisy[~turned] == lists[~turned]).all()


def test_every_kind_that_the_flag_takes_is_a_function():
    assert all(callable(getattr(noise, kind)) for kind in NOISES)


@pytest.mark.parametrize("kind", ["uniform", "adjacent"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("ratio", [0.2, 0.8])
def test_the_implied_flip_rate_is_the_simulated_one(kind, k, ratio):
    generator = np.random.default_rng(0)
    shares = np.array([0.07, 0.09, 0.11, 0.29, 0.44])
    ratings = generator.choice(5, size=200_000, p=shares)
    noisy = getattr(noise, kind)(ratings, ratio, 5, generator)
    lists = comparisons.lists(noisy, k, 5, generator)
    better, worse = lists[:, :-1].ravel(), lists[:, 1:].ravel()
    simulated = (ratings[better] < ratings[worse]).mean()
    derived = noise.flip_rate(kind, ratio, shares, np.stack([noisy[better], noisy[worse]], axis=1))
    assert derived == pytest.approx(simulated, abs=0.005)


@pytest.mark.parametrize("kind", ["uniform", "adjacent", "hard"])
@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_ratings_that_the_training_part_lacks_leave_the_flip_rate_defined(kind, ratio):
    rate = noise.flip_rate(kind, ratio, np.array([0.5, 0.5, 0, 0, 0]), np.array([[2, 1], [4, 3], [1, 0]]))
    assert 0 <= rate <= 1
    assert rate == 0 or ratio > 0


def test_without_noise_no_comparison_is_reversed():
    assert noise.flip_rate("uniform", 0.0, np.full(5, 0.2), np.array([[4, 0], [3, 2]])) == 0


def test_noise_in_the_pairs_reverses_its_own_share():
    assert noise.flip_rate("pairs", 0.3, np.full(5, 0.2), np.array([[4, 0]])) == 0.3
