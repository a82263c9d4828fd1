import numpy as np
import pytest
from scipy.special import expit, log_expit

from noisy_feedback.feedback.annotators import Annotators, beta_prior, intervals
from noisy_feedback.feedback.audit import audit_comparisons, temperature_sd
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


def test_the_prior_is_exact_where_the_numbers_of_right_judgements_have_a_beta_binomial_distribution():
    right = np.repeat(np.arange(5), [5, 8, 9, 8, 5])  # of four judgements of each of 35 annotators: of Beta(2, 2)
    others = np.where(np.arange(4) < right[:, None], np.inf, -np.inf).ravel()
    assert beta_prior(others, np.repeat(np.arange(35), 4), 0.5, 10.0)[1] == pytest.approx(4)


def test_where_each_annotator_has_one_judgement_the_mean_is_their_share_with_one_more_of_09_and_all_are_alike():
    mean, kappa = 0.7, 10.0
    for _ in range(100):
        mean, kappa = beta_prior(np.where(np.arange(10) < 6, np.inf, -np.inf), np.arange(10), mean, kappa)
    weight = 1001 / 1002  # of a judgement: its variance is that of a beta distribution more than that of the mean
    assert (mean, kappa) == (pytest.approx((6 * weight + 0.9) / (10 * weight + 1), rel=1e-9), 1000)


def test_known_orders_leave_the_temperature_as_uncertain_as_their_information_says():
    log_odds = np.random.default_rng(0).normal(0, 2, size=50)

    def log_likelihood(log_temperature):
        tempered = np.exp(log_temperature) * log_odds
        return (expit(log_odds) * log_expit(tempered) + expit(-log_odds) * log_expit(-tempered)).mean()

    information = -sum(weight * log_likelihood(at) for weight, at in ((1, 1e-3), (-2, 0), (1, -1e-3))) / 1e-6
    assert temperature_sd(log_odds, 30) == pytest.approx((30 * information + 1) ** -0.5, rel=1e-4)
    assert temperature_sd(np.zeros(3), 30) == 1


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


def test_the_interval_of_an_annotator_is_that_of_all_judgements_and_of_several_who_look_alike_not_that_of_one():
    """Theirs are narrower than those of 100 judgements, and wider than those of all 300 together."""
    right = np.tile(np.arange(100) < 80, 3)
    together = 2 * 1.96 * np.sqrt(0.8 * 0.2 / 300)
    for names, low, high in ((np.zeros(300, dtype=int), 0.9, 1.1), (np.repeat([0, 1, 2], 100), 1.3, 0.9 * 3**0.5)):
        found = audit_comparisons(right.astype(float), np.arange(300), None, names).annotators
        width = found.high - found.low
        assert ((low * together < width) & (width < high * together)).all()


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
