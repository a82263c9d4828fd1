import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback import noise


@given(n=st.integers(1, 300), ratio=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 2**32))
def test_exactly_the_requested_share_changes_each_to_another_rating(n, ratio, classes, seed):
    generator = np.random.default_rng(seed)
    ratings = generator.integers(classes, size=n)
    noisy = noise.uniform(ratings, ratio, classes, generator)
    assert (noisy != ratings).sum() == round(ratio * n)
    assert noisy.min() >= 0
    assert noisy.max() < classes


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
