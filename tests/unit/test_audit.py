import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import gamma, truncnorm
from sklearn.metrics import roc_auc_score

from noisy_feedback.feedback import audit, difficulty
from noisy_feedback.feedback.audit import audit_comparisons, audit_scores, fit_temperature
from noisy_feedback.feedback.comparisons import Feedback

UNSURE, UNKNOWN = 0.5, np.nan


def planted(seed, pairs=2000, per_pair=1, reliabilities=(0.8,), sure=True):
    """Judgements of pairs, whose true orders follow their priors: arguments of `audit_comparisons`, and `wrong` (J,).

    Pair g is of items 2g and 2g + 1. A prior that is not `sure` is 0.5.
    """
    rng = np.random.default_rng(seed)
    pair = np.repeat(np.arange(pairs), per_pair)
    prior = (rng.beta(0.5, 0.5, size=pairs) if sure else np.full(pairs, UNSURE))[pair]
    first_is_better = (rng.random(pairs) < prior[::per_pair])[pair]
    annotators = (len(reliabilities) * rng.random(len(pair)) ** 3).astype(int)  # some have many, some few
    wrong = rng.random(len(pair)) >= np.array(reliabilities)[annotators]
    chooses_first = first_is_better != wrong
    p_better = np.where(chooses_first, prior, 1 - prior)
    return p_better, 2 * pair + ~chooses_first, pair, annotators, wrong


def rating_distributions(seed, n=4000, classes=5):
    """Calibrated predicted distributions (n, C), and ratings (n,) drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), size=n)
    return probabilities, (rng.random((n, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)


def known_pairs(ratings):
    """Adjacent reviews of different ratings, the better one first."""
    first, second = np.arange(0, len(ratings), 2), np.arange(1, len(ratings), 2)
    differ = ratings[first] != ratings[second]
    swap = ratings[first] < ratings[second]
    return np.where(swap, second, first)[differ], np.where(swap, first, second)[differ]


# P(better)


@settings(deadline=None)
@given(classes=st.integers(2, 6), seed=st.integers(0, 2**32), temperature=st.floats(0.3, 10))
def test_p_better_counts_all_pairs_of_different_ratings(classes, seed, temperature):
    output = np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), size=2)
    tempered = output ** (1 / temperature)
    tempered /= tempered.sum(axis=1, keepdims=True)
    both = {(i, j): tempered[0, i] * tempered[1, j] for i, j in itertools.product(range(classes), repeat=2)}
    higher = sum(p for (i, j), p in both.items() if i > j)
    differ = sum(p for (i, j), p in both.items() if i != j)
    found = audit.p_better(output, np.array([0]), np.array([1]), temperature)
    assert found == pytest.approx(higher / differ)


def test_two_texts_surely_of_the_same_rating_have_no_order():
    assert audit.p_better(np.eye(3)[[1, 1]], np.array([0]), np.array([1]), 1.0) == 0.5


def test_p_better_of_a_scalar_head_is_the_logistic_of_the_margin():
    output = np.array([[3.0], [1.0], [500.0]])
    found = audit.p_better(output, np.array([0, 1, 1]), np.array([1, 0, 2]), 2.0)
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0], atol=1e-12)


@pytest.mark.parametrize("planted_temperature", [0.2, 1.0, 3.0])
def test_the_temperature_is_found(planted_temperature):
    calibrated, ratings = rating_distributions(0, n=20000)
    output = calibrated**planted_temperature  # too sure where that is above 1
    output /= output.sum(axis=1, keepdims=True)
    assert fit_temperature(output, *known_pairs(ratings)) == pytest.approx(planted_temperature, rel=0.1)


def test_the_temperature_of_a_scalar_head_is_found():
    rng = np.random.default_rng(0)
    output = rng.normal(size=(20000, 1)) * 3
    a, b = np.arange(10000), np.arange(10000, 20000)
    a_is_better = rng.random(10000) < 1 / (1 + np.exp(-(output[a, 0] - output[b, 0]) / 2.5))
    better, worse = np.where(a_is_better, a, b), np.where(a_is_better, b, a)
    assert fit_temperature(output, better, worse) == pytest.approx(2.5, rel=0.1)


# One reliability for all


@pytest.mark.parametrize("flip_rate", [0, 0.5, 1])
def test_the_flip_rate_is_found(flip_rate):
    p_better, better, _, _, wrong = planted(0, 10000, 1, [1 - flip_rate])
    assert audit_comparisons(p_better, better).estimated_flip_rate == pytest.approx(wrong.mean(), abs=0.015)


def test_the_interval_of_the_flip_rate_is_that_of_simulated_errors():
    """Of 100 pairs with two judgements each and no prior, 32 disagree: of these one is wrong, of the others 0 or 2."""
    better = np.array([[0, pair < 32] for pair in range(100)]).ravel() + 2 * np.repeat(np.arange(100), 2)
    found = audit_comparisons(np.full(200, UNSURE), better, better // 2)
    rng, level = np.random.default_rng(0), np.linspace(-6, 6, 4001)
    e = 1 / (1 + np.exp(level))  # of a judgement; a negative level has a prior probability of 0.01
    weight = np.where(level < 0, 0.01, 0.99) * (e**2 + (1 - e) ** 2) ** 68 * (2 * e * (1 - e)) ** 32
    e = rng.choice(e, size=200_000, p=weight / weight.sum())
    shares = (32 + 2 * rng.binomial(68, e**2 / (e**2 + (1 - e) ** 2))) / 200
    limits = [found.flip_rate_low, found.flip_rate_high]
    assert limits == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=0.012)
    assert found.estimated_flip_rate == pytest.approx(shares.mean(), abs=0.003)


def test_three_judgements_of_a_pair_show_the_flip_rate_to_a_model_that_knows_nothing():
    p_better, better, pair, _, wrong = planted(0, 2000, 3, [0.75], sure=False)
    assert audit_comparisons(p_better, better, pair).estimated_flip_rate == pytest.approx(wrong.mean(), abs=0.02)


def test_one_judgement_a_pair_shows_the_flip_rate_only_to_a_model_that_is_calibrated_and_knows_something():
    for p_better, calibration_pairs, known in ((0.5, np.inf, False), (0.99, np.inf, True), (0.99, 0, False)):
        found = audit_comparisons(np.full(1000, p_better), np.arange(1000), calibration_pairs=calibration_pairs)
        assert found.known == known
        assert found.flip_rate_low < found.estimated_flip_rate < found.flip_rate_high


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32), by_name=st.booleans())
def test_the_order_of_the_rows_does_not_matter(seed, by_name):
    p_better, better, pair, annotators, _ = planted(0, 100, 3, [0.9, 0.6, 0.8])
    names = annotators if by_name else None
    order = np.random.default_rng(seed).permutation(len(better))
    given = audit_comparisons(p_better, better, pair, names)
    shuffled = audit_comparisons(p_better[order], better[order], pair[order], None if names is None else names[order])
    np.testing.assert_allclose(shuffled.p_wrong, given.p_wrong[order], atol=1e-9)


# Hidden difficulty


def judge(given, better, pairs, points, weights):
    """The likelihood of each judgement's pair, counted once, and P(wrong) of each judgement, by loops."""
    likelihood, p_wrong = np.ones(len(better)), np.empty(len(better))
    for pair in set(pairs):
        own = np.flatnonzero(pairs == pair)
        agrees = better[own] == better[own[0]]
        right = expit(np.outer(points, np.where(agrees, 1, -1)))  # if the first's order is
        both = given[own[0]] * weights @ right.prod(1), (1 - given[own[0]]) * weights @ (1 - right).prod(1)
        likelihood[own[0]] = sum(both)
        p_wrong[own] = np.where(agrees, both[1], both[0]) / sum(both)
    return likelihood, p_wrong


def by_enumeration(given, better, pairs, hidden):
    """P(wrong) of each judgement, by loops over all that is not known, where easiness is hidden or all alike.

    Returned before it is divided by the second value, the weight of the data.
    """
    spreads = difficulty.SPREADS if hidden else [0]
    shares = difficulty.SHARES if hidden else [(0, 0)]
    total, wrong = 0.0, np.zeros(len(better))
    quantiles = (np.arange(200) + 0.5) / 200
    levels = np.linspace(-6, 6, 61)
    for level, spread, (few, most) in itertools.product(levels, spreads, shares):
        usual = level * (gamma.ppf(quantiles, spread**-2, scale=spread**2) if spread else np.ones(1))
        points = np.append(usual, [-0.25 * level, -0.75 * level])
        weights = np.append(np.full(len(usual), (1 - few - most) / len(usual)), [few, most])
        prior = (0.01 if level < 0 else 0.99) * (0.8 if spread == 0 else 0.2 / 5) * (levels[1] - levels[0])
        prior *= 0.5 / (1 if few == most == 0 else len(difficulty.SHARES) - 1)
        likelihood, p_wrong = judge(given, better, pairs, points, weights)
        total, wrong = total + prior * likelihood.prod(), wrong + prior * likelihood.prod() * p_wrong
    return wrong, total


def by_walks(given, better, pairs, temperature_sd=0):
    """P(wrong) of each judgement where easiness is alike, or one level in each of two bins."""
    total, wrong = 0.0, np.zeros(len(better))
    sure = np.abs(logit(given))
    is_sure = sure >= np.sort(sure)[len(sure) // 2]
    levels = np.linspace(-0.5, 6, 66)
    walks = np.zeros((66, 66))  # of the surer bin, then of the other
    for step, falls in itertools.product((0.5, 1), (False, True)):
        expected = levels[:, None] * (sure[~is_sure].mean() / sure[is_sure].mean() if falls else 1)
        density = truncnorm.pdf(levels, (-0.5 - expected) / step, (6 - expected) / step, expected, step)
        walks += 0.99 * 0.9 / 2 * 0.5 * density * (levels[1] - levels[0]) ** 2
    for z in np.linspace(-4, 4, 33) if temperature_sd else [0]:
        tempered = expit(np.exp(temperature_sd * z) * logit(given))
        p_equal, equal = by_enumeration(tempered, better, pairs, hidden=False)
        at = [judge(tempered, better, pairs, np.array([level]), np.ones(1)) for level in levels]
        likelihood, p_wrong = map(np.array, zip(*at, strict=True))
        weight = walks * np.outer(likelihood[:, is_sure].prod(1), likelihood[:, ~is_sure].prod(1))
        by_level = np.where(is_sure, weight.sum(1) @ p_wrong, weight.sum(0) @ p_wrong)
        prior = np.exp(-(z**2) / 2)
        total += prior * (0.1 * equal + weight.sum())  # `equal` has a prior in it, 0.4 = 0.8 * 0.5
        wrong += prior * (0.1 * p_equal + by_level)
    return wrong / total


@pytest.mark.parametrize("per_pair", [2, 3])
def test_the_posterior_is_that_of_enumeration(per_pair, monkeypatch):
    monkeypatch.setattr(difficulty, "SHARES", difficulty.SHARES[[0, 1, 7, 8]])
    monkeypatch.setattr(difficulty, "BINS", 2)
    p_better, better, pair, _, _ = planted(3, 20, per_pair, [0.9])
    p_better = np.where(pair == 0, p_better.round().clip(1e-6, 1 - 1e-6), p_better.clip(0.05, 0.95))  # one is sure
    if per_pair == 3:
        wrong, total = by_enumeration(p_better, better, pair, hidden=True)
        p_wrong, error = wrong / total, 0.002
    else:
        p_wrong, error = by_walks(p_better, better, pair), 1e-4
    found = audit_comparisons(p_better, better, pair)
    np.testing.assert_allclose(found.p_wrong, p_wrong, atol=error)
    assert found.estimated_flip_rate == pytest.approx(p_wrong.mean(), abs=0.005)
    # Majorities: the same posterior of the same orders, one of each pair.
    rows = np.unique(2 * pair + better % 2, return_index=True)[1][::2]
    majority = audit_comparisons(p_better, better, pair, rows=rows)
    np.testing.assert_allclose(majority.p_wrong, p_wrong[rows], atol=0.01)
    assert majority.estimated_flip_rate == pytest.approx(p_wrong[rows].mean(), abs=0.005)


def test_two_pairs_of_the_same_texts_have_judgements_of_their_own():
    lists, pairs = np.array([[0, 1]] * 4 + [[1, 0]] * 2), np.array([0, 0, 0, 1, 1, 1])
    judged = Feedback(lists, lists, 0, 6, np.full((6, 1), UNKNOWN), pairs, None)
    claims = replace(judged.subset(np.array([0, 3])), judged=judged)
    p_wrong = audit.audit_feedback(claims, np.zeros((2, 1)), 1.0, 1000).p_wrong
    assert p_wrong[0] < 0.3 and p_wrong[1] > 0.5


def test_where_no_order_is_known_the_temperature_is_one_more_thing_that_is_not_known(monkeypatch):
    monkeypatch.setattr(difficulty, "BINS", 2)
    p_better, better, pair, _, _ = planted(3, 20, 2, [0.9])
    p_better = p_better.clip(0.05, 0.95)
    p_wrong = by_walks(p_better, better, pair, temperature_sd=1)
    found = audit_comparisons(p_better, better, pair, calibration_pairs=0)
    np.testing.assert_allclose(found.p_wrong, p_wrong, atol=0.01)
    assert found.estimated_flip_rate == pytest.approx(p_wrong.mean(), abs=0.005)


def test_a_bin_is_known_as_far_as_the_walk_from_it_to_another_is():
    """Of 10 orders in one bin all are right or none; the level of the other is known and in 9 of 10 cases the same."""
    zeros, gain, move = np.zeros((2, 1)), np.array([[10.0], [-10.0]]), np.log([[0.9, 0.1], [0.1, 0.9]])
    unknown = difficulty.Bin(np.array([0]), 1.0, np.arange(2.0), zeros, (gain > 0)[..., None], gain, zeros)
    known = unknown._replace(rows=np.array([1]), log_likelihood=-100.0 * (gain < 0), gain=zeros)
    found = difficulty.posterior_of_walk([unknown, known], [move], np.zeros(1), np.zeros(1))
    assert [*found.variance, *found.p_first] == pytest.approx([9, 9, 0.9, 1])


def people(world, seed, pairs=1500, per_pair=5):
    """Judgements of pairs, of which a model knows something: arguments of `audit_comparisons`, and `wrong` (J,)."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 1, pairs)
    easiness = {
        "alike": np.full(pairs, 1.4),
        "hard": np.where(rng.random(pairs) < 0.1, -0.85, 2.2),
        "bradley-terry": np.abs(rng.normal(0, 2, pairs)),
        "exchanged": np.full(pairs, -1.7),
        "unsure": 1.7 * np.abs(log_odds),
        "curved": 0.7 + log_odds**2,
    }[world]
    pair = np.repeat(np.arange(pairs), per_pair)
    first_is_better = (rng.random(pairs) < expit(log_odds))[pair]
    wrong = rng.random(len(pair)) > expit(easiness)[pair]
    p_first, chooses_first = expit(log_odds)[pair], first_is_better != wrong
    return np.where(chooses_first, p_first, 1 - p_first), 2 * pair + ~chooses_first, pair, wrong


@pytest.mark.parametrize(
    ("world", "per_pair"),
    [
        ("alike", 1),
        ("unsure", 1),
        ("unsure", 2),
        ("curved", 2),
        ("alike", 5),
        ("hard", 5),
        ("bradley-terry", 5),
        ("exchanged", 3),
    ],
)
@pytest.mark.parametrize(("pairs", "seeds"), [(300, [1, 2]), pytest.param(1500, range(12), marks=pytest.mark.slow)])
def test_the_interval_holds_the_flip_rate_and_what_seems_right_is_right(world, per_pair, pairs, seeds):
    holds, seem_right = [], []
    pairs *= 1 if per_pair >= 3 else 4  # a single judgement says little, and takes little time
    for seed in seeds:
        *judged, wrong = people(world, seed, pairs, per_pair)
        found = audit_comparisons(*judged, rng_annotators(seed, len(wrong), per_pair))
        holds.append(found.flip_rate_low <= wrong.mean() <= found.flip_rate_high)
        seem_right.extend(wrong[found.p_wrong < 0.02])
        assert found.known or per_pair == 1
        assert found.flip_rate_high - found.flip_rate_low < (6 if per_pair >= 3 else 12) / pairs**0.5
    assert sum(holds) >= 0.8 * len(seeds)
    assert per_pair < 3 or world == "exchanged" or np.mean(seem_right) < 0.05


def rng_annotators(seed, judgements, per_pair):
    return None if per_pair < 5 else np.random.default_rng([2, seed]).integers(100, size=judgements)


def test_an_interval_holds_what_independent_errors_imply_unless_the_judgements_exclude_them(monkeypatch):
    for world, lower in (("alike", True), ("hard", False)):
        *judged, _ = people(world, 3, 1000)
        found = audit_comparisons(*judged)
        monkeypatch.setattr(audit, "EXCLUDED", 1.0)
        assert (found.flip_rate_low < audit_comparisons(*judged).flip_rate_low) == lower, world
        monkeypatch.undo()


def test_without_a_known_order_the_interval_allows_for_hidden_difficulty():
    *judged, wrong = people("hard", 0, 400)
    found = audit_comparisons(*judged, calibration_pairs=0)
    assert found.estimated_flip_rate < wrong.mean() - 0.02  # what independent errors imply
    assert found.flip_rate_low < found.estimated_flip_rate < wrong.mean() < found.flip_rate_high


@pytest.mark.parametrize(("repeated", "known"), [(1, False), (600, True)])
def test_without_a_known_order_a_few_repeated_judgements_do_not_make_the_flip_rate_known(repeated, known):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 4, 2000)
    pair = np.concatenate([np.arange(2000), np.arange(repeated)])
    right = rng.random(len(pair)) < 0.8
    chooses_first = (rng.random(2000) < expit(log_odds))[pair] == right
    prior = expit(np.where(chooses_first, 1, -1) * log_odds[pair])
    found = audit_comparisons(prior, 2 * pair + ~chooses_first, pair, calibration_pairs=0)
    assert found.flip_rate_high - found.flip_rate_low < audit.WIDEST
    assert found.known == known


@pytest.mark.filterwarnings("error")
def test_a_few_pairs_of_which_the_model_is_certain_give_finite_numbers():
    p_better = np.where(np.arange(2000) < 5, 1.0, 0.51)
    found = audit_comparisons(p_better, np.arange(2000))
    assert np.isfinite([*found.p_wrong, found.flip_rate_low, found.estimated_flip_rate, found.flip_rate_high]).all()


# Scores


@given(n=st.integers(2, 50), seed=st.integers(0, 2**32))
def test_the_auroc_is_scikit_learns(n, seed):
    rng = np.random.default_rng(seed)
    wrong, p_wrong = rng.integers(2, size=n).astype(float), rng.integers(5, size=n) / 5
    if 0 < wrong.sum() < n:
        assert audit_scores(p_wrong, wrong)[0] == pytest.approx(roc_auc_score(wrong, p_wrong))


@pytest.mark.parametrize(
    ("p_wrong", "wrong", "precision"),
    [
        ([0.9, 0.8, 0.7, 0.1, 0.0], [1, 0, 1, 1, 0], 2 / 3),  # of as many as are wrong
        ([0.9, 0.5, 0.5, 0.5, 0.1], [1, 1, 0, 0, 0], 2 / 3),  # equal probabilities in random order
        ([0.9, 0.6, 0.3, 0.2], [UNKNOWN, 1, 0, UNKNOWN], 1),  # unknown truths do not count
        ([0.2, 0.4], [1, 1], 1),
    ],
)
def test_the_precision_is_of_as_many_of_the_most_suspected_as_are_wrong(p_wrong, wrong, precision):
    auroc, found = audit_scores(np.array(p_wrong), np.array(wrong, dtype=float))
    assert found == pytest.approx(precision)
    assert np.isnan(auroc) == (wrong == [1, 1])


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [np.nan, 0.0], [np.nan, np.nan]])
def test_where_none_is_wrong_there_are_no_scores(wrong):
    assert np.isnan(audit_scores(np.array([0.2, 0.4]), np.array(wrong))).all()


def test_a_part_of_the_grid_that_is_very_unlikely_has_a_flip_rate_of_its_own():
    """In large data without a known order hidden difficulty may be a million times as likely as independent errors."""
    points = np.array([-2000.0, 0.0]), np.array([60.0, 80.0]), np.ones(2)
    found = difficulty.posterior_at_points(np.zeros(0), *points, np.nan, np.nan, np.nan)
    for place, expected in ((0, 0.2), (1, 0.1)):
        rate, low, high = audit.flip_rate(found, 100, np.arange(2) == place)
        assert rate == pytest.approx(expected)
        assert low < rate < high
        assert high - low == pytest.approx(2 * 1.96 * 0.01, rel=0.01)


def test_many_points_that_are_as_likely_all_count():
    rates = np.linspace(0.1, 0.3, 2000)
    points = np.zeros(2000), 100 * (1 - 2 * rates), np.full(2000, 1e-4)
    found = difficulty.posterior_at_points(np.zeros(0), *points, np.nan, np.nan, np.nan)
    assert audit.flip_rate(found, 100) == pytest.approx((0.2, 0.105, 0.295), abs=1e-3)
    assert audit.flip_rate(found._replace(gain=np.full(2000, -100.0)), 100)[2] == 1  # no more than all are wrong


def test_steps_are_those_of_the_log_odds_that_a_judgement_is_right_whatever_its_evidence():
    p_better, better, pair, _, _ = planted(0, 300)
    prior, sign = logit(p_better.clip(0.01, 0.99)), np.where(better % 2, -1.0, 1.0)
    small, large = (
        difficulty.posterior_of_changing_easiness(difficulty.Pairs(sign * prior, sign, pair, size * sign, 0.0)).p_first
        for size in (0.5, 2.0)
    )
    np.testing.assert_allclose(small, large, atol=0.04)
