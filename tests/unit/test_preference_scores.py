"""What a preference accuracy means: intervals over pairs, and what noisy judgements allow."""

import numpy as np
import pytest

from noisy_feedback.evaluation.preferences import interval_over_pairs


def test_the_interval_of_single_judgements_is_that_of_a_mean():
    right = np.random.default_rng(0).integers(2, size=200).astype(float)
    low, high = interval_over_pairs(right, np.arange(200))
    half = 1.959964 * right.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half), rel=1e-6)


def test_judgements_that_repeat_each_other_make_the_interval_no_narrower():
    right, pairs = np.random.default_rng(0).integers(2, size=100).astype(float), np.arange(100)
    once = interval_over_pairs(right, pairs)
    assert interval_over_pairs(np.repeat(right, 5), np.repeat(pairs, 5)) == pytest.approx(once)


def test_the_interval_over_pairs_covers_the_mean_of_many_pairs():
    rng, holds = np.random.default_rng(1), 0
    for _ in range(300):
        share = rng.beta(4, 2, size=60)  # of each pair, how often it is right
        pairs = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
        low, high = interval_over_pairs((rng.random(len(pairs)) < share[pairs]).astype(float), pairs)
        holds += low <= 4 / 6 <= high
    assert 0.90 <= holds / 300 <= 0.99


def test_one_pair_has_no_interval_and_an_interval_stays_within_0_and_1():
    assert np.isnan(interval_over_pairs(np.ones(3), np.zeros(3))).all()
    low, high = interval_over_pairs(np.array([1.0] * 9 + [0.0]), np.arange(10))
    assert 0 <= low < high <= 1
