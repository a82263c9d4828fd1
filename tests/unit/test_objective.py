from dataclasses import replace
from math import nan

import numpy as np
import pytest
import torch
from torch.nn import functional

from noisy_feedback.config import LOSSES, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import comparisons
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.examples import compared_reviews
from noisy_feedback.learning.losses import LOSS_FUNCTIONS, Loss, margins
from noisy_feedback.learning.objective import (
    TRAINING_OBJECTIVES,
    adaptive_kl_weight,
    cross_entropy,
    fine_tuning_objective,
    flip_rates,
    resolve_kl_weight,
)

NEED_FLIP_RATE = ("robust", "label-smoothing")
PAIRS = np.array([(better, worse) for better in range(5) for worse in range(better)])
EVERY_PAIR = Feedback(np.arange(20).reshape(10, 2), PAIRS, 0, 20, np.full((10, 1), nan))
EQUAL_SHARES = np.full(5, 0.2)


def objective(estimated=nan, feedback=EVERY_PAIR, **options):
    audit = Audit(np.empty(0), estimated, nan, nan, known=True, annotators=None)
    return fine_tuning_objective(Config("multiclass", **options), feedback, EQUAL_SHARES, audit)


def random_outputs(outputs):
    return torch.from_numpy(np.random.default_rng(0).normal(scale=2, size=(10, 2, outputs)))


def test_training_on_comparisons_minimises_pytorchs_loss_by_the_gradient_of_its_mean_over_the_batch():
    """The first of each list is the better. `tests/end_to_end/test_method.py` compares the training on ratings."""
    given, leaf, ratings = random_outputs(1), random_outputs(1).requires_grad_(), torch.from_numpy(PAIRS)
    margins = leaf[:, 0, 0] - leaf[:, 1, 0]
    each = functional.binary_cross_entropy_with_logits(margins, torch.ones_like(margins), reduction="none")
    assert torch.allclose(TRAINING_OBJECTIVES["comparisons"].value(given, ratings, None), each)
    each.mean().backward()
    assert torch.allclose(TRAINING_OBJECTIVES["comparisons"].gradient(given, ratings, None), leaf.grad)


def test_a_probability_of_0_before_fine_tuning_is_taken_for_that_of_the_smallest_float():
    output = np.eye(5)[np.arange(20) % 5]
    found = compared_reviews(Config("multiclass", kl_weight=0.5), EVERY_PAIR, output, torch.device("cpu"))
    expected = np.log(output.clip(1.18e-38))[EVERY_PAIR.lists]
    np.testing.assert_allclose(found.reference, expected, rtol=1e-4)


# --- flip rates


@pytest.mark.parametrize("order", ["rating", "row"])
@pytest.mark.parametrize(("k", "ratio"), [(1, 0.4), (3, 0.0), (3, 0.4)])
def test_the_flip_rate_of_reversed_noise_is_the_share_that_is_wrong_in_a_simulation(order, k, ratio):
    """The last third of the reviews is sorted, the best last: in row order most pairs are the wrong way round."""
    ratings = np.random.default_rng(0).integers(5, size=30_000)
    ratings[20_000:].sort()
    config = Config("multiclass", noise="reversed", ratio=ratio, k=k, list_order=order)
    feedback = comparisons.compare(config, ratings, ratings, np.arange(30_000), np.arange(5))
    assert flip_rates(config, feedback, EQUAL_SHARES) == pytest.approx([feedback.flipped.mean()] * 2, abs=0.005)


@pytest.mark.parametrize("loss", NEED_FLIP_RATE)
def test_the_flip_rate_is_the_given_one_or_the_audits_at_most_045_or_that_of_the_noise(loss):
    logits, ratings = random_outputs(5), torch.from_numpy(PAIRS)
    of_noise = flip_rates(Config("multiclass", ratio=0.4), EVERY_PAIR, EQUAL_SHARES)
    assert of_noise[0] < of_noise[1]  # of equal true ratings, half are wrong
    cases = [(0.0, 0.3, 0.0), (0.2, 0.3, 0.2), (None, 0.3, of_noise[NEED_FLIP_RATE.index(loss)])]
    cases += [("estimated", rate, expected) for rate, expected in ((0.3, 0.3), (0.45 + 1e-6, 0.45), (0.9, 0.45))]
    for given, estimated, expected in cases:
        for noise in ("uniform", "reversed", "redrawn-off-scale") if given is not None else ("uniform",):
            found = objective(loss=loss, noise=noise, ratio=0.4, flip_rate=given, estimated=estimated)
            known = LOSS_FUNCTIONS[loss].function(logits, ratings, expected)
            assert torch.equal(found.value(logits, ratings, None), known)


@pytest.mark.parametrize("options", [{"ratio": 0.8}, {"noise": "reversed", "ratio": 0.5}])
def test_the_robust_loss_is_refused_where_comparisons_hold_no_information(options):
    with pytest.raises(InputError, match=r"^--loss robust: a flip rate of .* must be below 0\.5 \(lower --ratio"):
        objective(loss="robust", **options)


@pytest.mark.parametrize("loss", LOSSES)
def test_only_losses_with_a_flip_rate_need_an_estimate_that_is_known_or_a_transition_matrix(loss):
    estimated, without = {"flip_rate": "estimated"}, {"noise": "redrawn-off-scale", "ratio": 0.2}
    if loss not in NEED_FLIP_RATE:
        objective(loss=loss, **estimated)
        objective(loss=loss, **without)
        return
    with pytest.raises(InputError, match=f"^--flip-rate estimated: .* which --loss {loss} needs.*a number for"):
        objective(loss=loss, **estimated)
    with pytest.raises(InputError, match=f"^--noise redrawn-off-scale has no .*--loss {loss} .*or --flip-rate$"):
        objective(loss=loss, **without)


# --- losses of one's own

WRONG_LOSSES = {
    "raises over two lines": (lambda logits, ratings: logits @ logits @ ratings, "fails on .*RuntimeError"),
    "returns a value per review": (lambda logits, ratings: logits.sum(-1), r"one number per list.* not shape \(3, 2\)"),
    "returns an array": (lambda logits, ratings: np.zeros(3), "one number per list.* not ndarray$"),
    "has other parameters": (lambda logits, ratings: torch.ones(3).requires_grad_() * 2, "without a gradient"),
    "detaches": (lambda logits, ratings: logits.detach().sum((1, 2)), "without a gradient; .* with torch$"),
    "is complex": (lambda logits, ratings: logits.sum((1, 2)) * 1j, "one number per list.* torch.complex64$"),
}


@pytest.mark.parametrize("name", WRONG_LOSSES)
def test_a_wrong_loss_is_one_line_that_names_the_function(name, monkeypatch):
    wrong, expected = WRONG_LOSSES[name]
    monkeypatch.setitem(LOSS_FUNCTIONS, "re-po", Loss(wrong))
    with pytest.raises(InputError, match=expected) as error, torch.no_grad():
        objective(loss="re-po")
    where = "--loss re-po: the function re_po in noisy_feedback/learning/losses.py "
    assert str(error.value).startswith(where)
    assert "\n" not in str(error.value)


def test_a_loss_is_tried_on_lists_and_outputs_like_those_of_the_run(monkeypatch):
    def tried(loss, feedback, **options):
        monkeypatch.setitem(LOSS_FUNCTIONS, "re-po", Loss(loss))
        return objective(loss="re-po", feedback=feedback, **options)

    def of_three(logits, ratings):
        return margins(logits)[:, 0] - margins(logits)[:, 1]

    triples = replace(EVERY_PAIR, lists=np.arange(30).reshape(10, 3))
    assert tried(of_three, triples)
    with pytest.raises(InputError, match="fails on"):
        tried(of_three, EVERY_PAIR)
    with pytest.raises(InputError, match="not shape"):
        tried(lambda logits, ratings: margins(logits).squeeze(-1), triples)
    with pytest.raises(InputError, match="fails on"):
        tried(cross_entropy, EVERY_PAIR, head="scalar")


def test_the_adaptive_kl_weight_follows_the_upper_limit_of_the_flip_rate():
    config = Config("multiclass", loss="hinge", kl_weight="adaptive", epochs_f=7)

    def used(upper_limit, config=config, known=True):
        return resolve_kl_weight(config, Audit(np.empty(0), 0.05, 0.0, upper_limit, known, None))

    for power in (1, 1.5, 2):
        found = [adaptive_kl_weight(e, 0.3, power) for e in (0, 0.25, 0.4)]
        assert found == pytest.approx([0.3, 0.3 * 2**power, 0.3 * 5**power])
    assert used(0.3).kl_weight == adaptive_kl_weight(0.3) > adaptive_kl_weight(0.1) and used(0.3).epochs_f == 7
    assert used(0.3, known=False) == used(0.3)
    assert [used(rate).epochs_f for rate in (0.5, 0.8)] == [0, 0], "from one half on nothing is fine-tuned"
    assert used(0.8, replace(config, kl_weight=0.5)) == replace(config, kl_weight=0.5)
