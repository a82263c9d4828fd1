import numpy as np
import pytest

from noisy_feedback.feedback.annotators import Annotators, beta_prior, intervals
from noisy_feedback.feedback.audit import audit_comparisons
from tests.unit.test_audit import planted


def test_reliabilities_are_found_from_repeated_judgements_alone():
    reliabilities = np.array([0.95, 0.9, 0.8, 0.8, 0.65, 0.1])  # the last takes one answer for the other
    p_better, better, pair, annotators, wrong = planted(0, 2000, 3, reliabilities, sure=False)
    found = audit_comparisons(p_better, better, pair, annotators)
    np.testing.assert_allclose(found.annotators.reliability, reliabilities, atol=0.05)
    assert found.estimated_flip_rate == pytest.approx(wrong.mean(), abs=0.02)


def test_annotators_who_differ_by_chance_are_shrunk_to_a_mean_that_counts_as_a_thousand_judgements():
    right = np.concatenate([np.arange(500) < 400, np.arange(500) < 410])
    found = audit_comparisons(right.astype(float), np.arange(1000), None, np.repeat([0, 1], 500)).annotators
    assert np.diff(found.reliability) == pytest.approx((410 - 400) / (1000 + 500), rel=1e-3)


def test_an_annotator_without_judgements_has_the_mean_reliability():
    p_better, better, _, annotators, _ = planted(0, reliabilities=[0.8, 0.8])
    found = audit_comparisons(p_better, better, None, annotators * 2).annotators
    assert (found.judgements[1], found.reliability[1]) == (0, pytest.approx(found.reliability.mean(), abs=0.01))


def test_the_prior_of_the_reliabilities_is_found():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        annotators = rng.choice(2500, p=rng.dirichlet(np.full(2500, 0.7)), size=20000)  # some have many, some few
        right = rng.random(20000) < rng.beta(8, 2, size=2500)[annotators]
        mean, kappa = 0.9, 100.0
        for _ in range(20):
            mean, kappa = beta_prior(np.where(right, np.inf, -np.inf), annotators, mean, kappa)
        found.append((mean, kappa))
    assert np.mean(found, axis=0) == pytest.approx([0.8, 10], rel=0.1)


@pytest.mark.parametrize(
    ("per_pair", "sure"),
    [(1, True), pytest.param(3, True, marks=pytest.mark.slow), pytest.param(5, False, marks=pytest.mark.slow)],
)
def test_intervals_cover_the_reliability_in_95_percent(per_pair, sure):
    covered = []
    for seed in range(10):
        reliabilities = np.random.default_rng([1, seed]).beta(8, 2, size=100)
        p_better, better, pair, annotators, _ = planted(seed, 6000 // per_pair, per_pair, reliabilities, sure)
        found = audit_comparisons(p_better, better, pair, annotators).annotators
        covered.extend((found.low <= reliabilities) & (reliabilities <= found.high))
    assert 0.92 < np.mean(covered) < 0.98  # 1,000 intervals: standard error 0.007


def test_uncertain_orders_make_intervals_wider():
    def width(log_odds):
        others = np.where(np.arange(1000) % 10 < 8, log_odds, -log_odds)
        low, high = intervals(np.array([0.8, 0.8]), others, np.repeat([0, 1], 500), 0.8, 10.0)
        return (high - low)[0]

    assert width(1.0) > 1.3 * width(10.0)


def test_a_single_annotator_has_the_interval_of_all_judgements():
    right = np.arange(100) < 80
    found = audit_comparisons(right.astype(float), np.arange(100), None, np.zeros(100, dtype=int)).annotators
    standard_error = np.sqrt(0.8 * 0.2 / 100)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 * standard_error, rel=0.1)


def test_annotators_who_look_alike_are_not_taken_for_copies_of_one():
    """Their intervals are narrower than those of 100 judgements, and wider than those of all 300 together."""
    right = np.tile(np.arange(100) < 80, 3)
    found = audit_comparisons(right.astype(float), np.arange(300), None, np.repeat([0, 1, 2], 100)).annotators
    alone, together = (2 * 1.96 * np.sqrt(0.8 * 0.2 / n) for n in (100, 300))
    assert (found.high - found.low < 0.9 * alone).all()
    assert (found.high - found.low > 1.3 * together).all()


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("per_pair", [1, 40])
def test_priors_of_0_and_1_give_finite_numbers(p, per_pair):
    pair = np.repeat(np.arange(10), per_pair)
    found = audit_comparisons(np.full(len(pair), p), pair * 2, pair, np.arange(len(pair)) % 3)
    annotators: Annotators = found.annotators
    for numbers in (found.p_wrong, found.estimated_flip_rate, annotators.reliability, annotators.low, annotators.high):
        assert np.isfinite(numbers).all()


def test_an_annotator_with_a_single_judgement_has_no_interval():
    annotators = np.array([0, 0, 1, 2, 2])
    found = audit_comparisons(np.full(5, 0.8), np.arange(5), None, annotators).annotators
    for limit in (found.low, found.high):
        assert np.isnan(limit).tolist() == [False, True, False]


def test_a_judgement_does_not_confirm_itself(monkeypatch):
    # Annotators with a single judgement show nothing of their own: as if nobody's name were known.
    monkeypatch.setattr("noisy_feedback.feedback.annotators.KAPPAS", (2.0, 2.0))  # one more judgement would count
    p_better, better, _, _, _ = planted(0, 5000)
    named, unnamed = (audit_comparisons(p_better, better, None, names) for names in (np.arange(5000), None))
    np.testing.assert_allclose(named.p_wrong, unnamed.p_wrong, atol=2e-3)
