from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
import torch

from noisy_feedback.config import LOSSES, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.feedback.noise import RatedReviews, uniform_matrix
from noisy_feedback.feedback.simulate import simulate_feedback
from noisy_feedback.learning import losses
from noisy_feedback.learning.objective import MAX_ESTIMATE, fine_tuning_objective, flip_rate_parameters, flip_rates

NEEDS_FLIP_RATE = ("robust", "label-smoothing")


def feedback_of(ratings):
    ratings = np.asarray(ratings)
    wrong = np.full((len(ratings), ratings.shape[1] - 1), np.nan)
    return Feedback(np.arange(ratings.size).reshape(ratings.shape), ratings, 0, ratings.size, wrong)


EVERY_PAIR = feedback_of([(better, worse) for better in range(5) for worse in range(better)])
EQUAL_SHARES = np.full(5, 0.2)


def objective(feedback=EVERY_PAIR, priors=EQUAL_SHARES, **options):
    return fine_tuning_objective(Config("multiclass", **options), feedback, priors)


def some_lists(k=1, classes=5):
    rng = np.random.default_rng(0)
    ratings = np.stack([np.sort(rng.choice(classes, k + 1, replace=False))[::-1] for _ in range(6)])
    return torch.from_numpy(rng.normal(scale=2, size=(6, k + 1, classes))), torch.from_numpy(ratings)


def test_under_noise_the_robust_loss_is_bradley_terry_without_noise_in_expectation():
    """Pairs of reviews with independent ratings and noise, by enumeration of true and noisy ratings."""
    # Three ratings in shares 1/4, 1/4, 1/2 at ratio 0.4: noisy ratings in shares 0.3, 0.3, 0.4, so that pairs of
    # different noisy ratings stand to each other as 9 : 12 : 12.
    priors, ratio = np.array([0.25, 0.25, 0.5]), 0.4
    feedback = feedback_of([(1, 0)] * 9 + [(2, 0)] * 12 + [(2, 1)] * 12)
    matrix = uniform_matrix(ratio, 3)
    p_right = p_reversed = 0.0
    for true_a, true_b, noisy_a, noisy_b in product(range(3), repeat=4):
        if true_a > true_b and noisy_a != noisy_b:  # a is better; they are compared
            p = prod((priors[true_a], priors[true_b], matrix[true_a, noisy_a], matrix[true_b, noisy_b]))
            p_right, p_reversed = p_right + p * (noisy_a > noisy_b), p_reversed + p * (noisy_a < noisy_b)
    flip_rate = p_reversed / (p_right + p_reversed)
    robust = objective(feedback, priors, loss="robust", ratio=ratio).value
    logits, ratings = some_lists(classes=3)  # true order: the first is better
    expected = (1 - flip_rate) * robust(logits, ratings, None) + flip_rate * robust(logits.flip(1), ratings, None)
    assert 0.1 < flip_rate < 0.4
    assert torch.allclose(expected, losses.bradley_terry(logits, ratings), rtol=1e-9)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.45])
def test_with_reversed_comparisons_too_the_robust_loss_has_the_expectation_of_bradley_terry(ratio):
    robust = objective(loss="robust", noise="reversed", ratio=ratio).value
    logits, ratings = some_lists(k=2)
    expected = (1 - ratio) * robust(logits, ratings, None) + ratio * robust(logits.flip(1), ratings, None)
    assert torch.allclose(expected, losses.bradley_terry(logits, ratings), rtol=1e-9)


@pytest.mark.parametrize(
    "options", [{"ratio": 0.8}, {"ratio": 1.0}, {"noise": "reversed", "ratio": 0.5}, {"flip_rate": 0.5}]
)
def test_the_robust_loss_is_refused_where_comparisons_hold_no_information(options):
    with pytest.raises(InputError, match=r"^--loss robust: a flip rate of .* must be below 0\.5 \(lower --ratio"):
        objective(loss="robust", **options)


def test_the_robust_loss_is_refused_where_all_true_ratings_are_equal():
    with pytest.raises(InputError, match=r"^--loss robust: a flip rate of nan"):
        objective(priors=np.array([0.0, 0, 1, 0, 0]), loss="robust", ratio=0.4)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "robust"])
def test_other_losses_learn_at_any_ratio(loss):
    logits, ratings = some_lists()
    assert objective(loss=loss, ratio=1.0).value(logits, ratings, None).isfinite().all()


@pytest.mark.parametrize("loss", NEEDS_FLIP_RATE)
def test_noise_without_a_transition_matrix_needs_a_flip_rate(loss):
    with pytest.raises(InputError, match=f"^--noise redrawn-off-scale has no .*--loss {loss} .*or --flip-rate$"):
        objective(loss=loss, noise="redrawn-off-scale", ratio=0.2)
    objective(loss=loss, noise="redrawn-off-scale", ratio=0.2, flip_rate=0.1)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in NEEDS_FLIP_RATE])
def test_losses_without_a_flip_rate_need_no_transition_matrix(loss):
    objective(loss=loss, noise="redrawn-off-scale", ratio=0.2)


@pytest.mark.parametrize("loss", LOSSES)
def test_which_losses_take_a_flip_rate(loss):
    assert bool(flip_rate_parameters(loss)) == (loss in NEEDS_FLIP_RATE)


@pytest.mark.parametrize("loss", NEEDS_FLIP_RATE)
@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("noise", ["uniform", "reversed"])
def test_a_given_flip_rate_replaces_that_of_the_noise(loss, rate, noise):
    logits, ratings = some_lists(k=2)
    given = objective(loss=loss, noise=noise, ratio=0.4, flip_rate=rate).value(logits, ratings, None)
    assert torch.equal(given, getattr(losses, loss.replace("-", "_"))(logits, ratings, rate))


def test_robust_learns_from_pairs_of_different_true_ratings_and_label_smoothing_from_all():
    logits, ratings = some_lists()
    given_different, wrong = flip_rates(Config("multiclass", loss="robust", ratio=0.4), EVERY_PAIR, EQUAL_SHARES)
    assert given_different < wrong  # of equal true ratings, half are wrong
    robust, smoothed = (objective(loss=loss, ratio=0.4).value(logits, ratings, None) for loss in NEEDS_FLIP_RATE)
    assert torch.equal(robust, losses.robust(logits, ratings, given_different))
    assert torch.equal(smoothed, losses.label_smoothing(logits, ratings, wrong))


def test_the_flip_rate_of_uniform_noise_between_two_ratings_is_exact():
    # Two ratings, equally frequent: a pair is reversed where both changed, right where neither did.
    ratio = Fraction(3, 10)
    expected = ratio**2 / (ratio**2 + (1 - ratio) ** 2)
    config = Config("multiclass", loss="robust", ratio=float(ratio))
    given_different, _ = flip_rates(config, feedback_of([(1, 0)]), np.array([0.5, 0.5]))
    assert given_different == pytest.approx(float(expected))


@pytest.mark.parametrize("order", ["rating", "row"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.4])
def test_the_flip_rate_of_reversed_noise_is_the_share_that_is_wrong_in_a_simulation(order, k, ratio):
    """The last third of the reviews is sorted, the best last: in row order most neighbours are the wrong way round."""
    ratings = np.random.default_rng(0).integers(5, size=30_000)
    ratings[20_000:].sort()
    reviews = RatedReviews(ratings, 5, [], torch.empty(0), np.empty(0))
    config = Config("multiclass", noise="reversed", ratio=ratio, k=k, list_order=order)
    feedback = simulate_feedback(config, reviews, np.arange(5))
    assert flip_rates(config, feedback, EQUAL_SHARES) == pytest.approx([feedback.wrong.mean()] * 2, abs=0.005)


def test_every_pair_of_neighbours_in_a_list_counts():
    config = Config("multiclass", k=2, loss="robust", ratio=0.3)
    lists = flip_rates(config, feedback_of([(4, 2, 1), (3, 2, 0)]), EQUAL_SHARES)
    assert lists == pytest.approx(flip_rates(config, feedback_of([(4, 2), (2, 1), (3, 2), (2, 0)]), EQUAL_SHARES))


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
def test_the_kl_penalty_is_that_of_the_configuration(kl_weight):
    logits, ratings = some_lists(k=2)
    reference = torch.log_softmax(logits.flip(0), -1)
    found = objective(loss="hinge", kl_weight=kl_weight).value(logits, ratings, reference)
    expected = losses.hinge(logits, ratings) + kl_weight * losses.kl_to_reference(logits, reference)
    assert torch.allclose(found, expected)


# --- the flip rate of the audit


def estimated(rate, **options):
    config = Config("human", flip_rate="estimated", **options)
    return fine_tuning_objective(config, EVERY_PAIR, EQUAL_SHARES, rate)


@pytest.mark.parametrize("loss", NEEDS_FLIP_RATE)
@pytest.mark.parametrize("noise", ["reversed", "redrawn-off-scale"])
def test_the_flip_rate_of_the_audit_is_used_where_it_is_asked_for(loss, noise):
    logits, ratings = some_lists()
    found = estimated(0.2, loss=loss, noise=noise, ratio=0.4).value(logits, ratings, None)
    assert torch.equal(found, getattr(losses, loss.replace("-", "_"))(logits, ratings, 0.2))


@pytest.mark.parametrize("loss", NEEDS_FLIP_RATE)
def test_the_flip_rate_of_the_audit_is_not_used_where_another_one_is_given(loss):
    logits, ratings = some_lists()
    config = Config("human", loss=loss, flip_rate=0.1)
    found = fine_tuning_objective(config, EVERY_PAIR, EQUAL_SHARES, 0.3).value(logits, ratings, None)
    assert torch.equal(found, getattr(losses, loss.replace("-", "_"))(logits, ratings, 0.1))


@pytest.mark.parametrize("loss", NEEDS_FLIP_RATE)
@pytest.mark.parametrize("rate", [MAX_ESTIMATE + 1e-6, 0.5, 0.9])
def test_an_estimate_at_which_a_run_could_not_learn_is_lowered_to_the_largest_at_which_it_can(loss, rate):
    logits, ratings = some_lists()
    found = estimated(rate, loss=loss).value(logits, ratings, None)
    assert torch.equal(found, getattr(losses, loss.replace("-", "_"))(logits, ratings, MAX_ESTIMATE))


def test_the_robust_loss_is_refused_where_the_audit_finds_nothing():
    with pytest.raises(InputError, match=r"^--loss robust: a flip rate of nan"):
        estimated(float("nan"), loss="robust")


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in NEEDS_FLIP_RATE])
def test_losses_without_a_flip_rate_do_not_use_that_of_the_audit(loss):
    logits, ratings = some_lists()
    one, other = (estimated(rate, loss=loss).value(logits, ratings, None) for rate in (0.1, 0.4))
    assert torch.equal(one, other)
