import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from noisy_feedback.config import LOSSES
from noisy_feedback.errors import InputError
from noisy_feedback.learning import losses
from noisy_feedback.learning.training import single_threaded


@pytest.fixture(autouse=True)
def on_one_thread():
    with single_threaded():
        yield


def random_lists(k, seed=0, lists=4, classes=5):
    """Logits and ratings of lists that stand best first, double precision."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=3, size=(lists, k + 1, classes)))
    ratings = np.stack([np.sort(rng.choice(classes, k + 1, replace=False))[::-1] for _ in range(lists)])
    return logits, torch.from_numpy(ratings.copy())


def softplus(x, beta):
    return math.log1p(math.exp(beta * x)) / beta


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def re_po_by_hand(margins):
    """RE-PO of a batch of one list, by Bayes' rule on the odds p / (1 - p)."""
    eta, odds = 0.9, [math.exp(z) for z in margins]
    for _ in range(20):
        right = [o * eta / (o * eta + 1 - eta) for o in odds]
        eta = min(max(sum(right) / len(right), 0.5), 0.999)
    right = [o * eta / (o * eta + 1 - eta) for o in odds]
    return -sum(w * math.log(sigmoid(z)) + (1 - w) * math.log(sigmoid(-z)) for w, z in zip(right, margins, strict=True))


# --- the study's loss


def test_the_study_loss_of_a_pair_is_the_hand_computed_one():
    logits = torch.zeros(1, 2, 5)
    logits[0, 0, 4], logits[0, 1, 4] = 2.0, -1.0  # the logit of the best review's rating, for both reviews
    logits[0, 1, 1] = 7.0  # the logit of the worse review's own rating plays no part
    margin = softplus(2.0, 0.1) - softplus(-1.0, 0.1)
    expected = math.log1p(math.exp(-margin))
    assert losses.study(logits, torch.tensor([[4, 1]])).item() == pytest.approx(expected, rel=1e-6)


def test_the_study_loss_sums_over_neighbours_in_the_list():
    logits, ratings = random_lists(k=3)
    rewards = [softplus(logits[0, i, ratings[0, 0]].item(), 0.1) for i in range(4)]
    expected = sum(math.log1p(math.exp(-(rewards[i] - rewards[i + 1]))) for i in range(3))
    assert losses.study(logits, ratings)[0].item() == pytest.approx(expected)


def test_the_study_loss_of_equal_rewards_is_k_log_2():
    assert losses.study(torch.zeros(1, 4, 5), torch.tensor([[4, 2, 1, 0]])).item() == pytest.approx(3 * math.log(2))


# --- the others, which depend on the expected rating


def list_with_rewards(*rewards):
    """Logits of one list whose expected ratings are the given ones, between 0 and 1; two ratings."""
    r = torch.tensor(rewards, dtype=torch.double)
    return torch.stack([torch.zeros_like(r), torch.logit(r)], dim=-1)[None]


RATINGS = torch.tensor([[2, 1, 0]])
Z = (0.9 - 0.3, 0.3 - 0.6)  # margins between neighbours of rewards 0.9, 0.3, 0.6
HAND_COMPUTED = {
    "bradley_terry": -sum(math.log(sigmoid(z)) for z in Z),
    "plackett_luce": sum(math.log(sum(math.exp(r) for r in rest)) - rest[0] for rest in ((0.9, 0.3, 0.6), (0.3, 0.6))),
    "hinge": sum(max(0.0, 1 - z) for z in Z),
    "label_smoothing": -sum(0.8 * math.log(sigmoid(z)) + 0.2 * math.log(sigmoid(-z)) for z in Z),
    "robust": -sum((0.8 * math.log(sigmoid(z)) - 0.2 * math.log(sigmoid(-z))) / 0.6 for z in Z),
    "symmetric_sigmoid": sum(sigmoid(-z) for z in Z),
    "dr_dpo": -sum(math.log(sigmoid(z)) for z in Z),  # of a batch of one
    "holder_dpo": sum(1 - 3 * sigmoid(z) ** 2 + 2 * sigmoid(z) ** 3 for z in Z),
    "re_po": re_po_by_hand(Z),
}
GIVEN = {"label_smoothing": {"smoothing": 0.2}, "robust": {"flip_rate": 0.2}}
FUNCTIONS = {name.replace("-", "_") for name in LOSSES}
OF_A_WHOLE_BATCH = {"dr_dpo", "re_po"}


def named(name):
    return partial(getattr(losses, name), **GIVEN.get(name, {}))


def test_every_name_that_the_option_takes_is_a_loss():
    assert {"study", *HAND_COMPUTED} == FUNCTIONS


@pytest.mark.parametrize(("name", "expected"), HAND_COMPUTED.items())
def test_a_loss_is_the_hand_computed_one(name, expected):
    assert named(name)(list_with_rewards(0.9, 0.3, 0.6), RATINGS).item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), HAND_COMPUTED.items())
def test_with_a_scalar_head_the_output_is_the_reward(name, expected):
    outputs = torch.tensor([[[0.9], [0.3], [0.6]]], dtype=torch.double)
    assert named(name)(outputs, RATINGS).item() == pytest.approx(expected)


def test_the_reward_is_the_expected_rating():
    logits, _ = random_lists(k=2)
    expected = (torch.softmax(logits, -1).numpy() * np.arange(5)).sum(-1)
    assert losses.reward(logits).numpy() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["cross_entropy", *sorted(FUNCTIONS - {"re_po"})])  # it holds w fixed
@pytest.mark.parametrize("k", [1, 3])
def test_gradients_agree_with_finite_differences(name, k):
    logits, ratings = random_lists(k, lists=2)
    assert torch.autograd.gradcheck(lambda x: named(name)(x, ratings), logits.requires_grad_())


@pytest.mark.parametrize("name", ["cross_entropy", *sorted(FUNCTIONS - OF_A_WHOLE_BATCH)])
@pytest.mark.parametrize("k", [1, 2])
def test_a_list_has_the_same_loss_whatever_else_is_in_the_batch(name, k):
    logits, ratings = random_lists(k)
    alone = [named(name)(logits[row, None], ratings[row, None]) for row in range(4)]
    assert torch.allclose(named(name)(logits, ratings), torch.cat(alone), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_loss_of_extreme_logits_is_finite(name):
    logits, ratings = random_lists(k=2)
    assert named(name)(1e4 * logits.float(), ratings).isfinite().all()


@pytest.mark.parametrize("name", sorted(FUNCTIONS - {"study"}))
@pytest.mark.parametrize("size", [20.0, 1e4])
def test_values_and_gradients_of_extreme_margins_are_finite(name, size):
    outputs = size * torch.tensor([[[1.0], [0.0], [2.0]], [[0.0], [0.0], [1.0]], [[3.0], [1.0], [0.0]]])
    value = named(name)(outputs.requires_grad_(), RATINGS.expand(3, -1))
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), outputs)[0].isfinite().all()


@pytest.mark.parametrize(
    "name", ["bradley_terry", "plackett_luce", "hinge", "symmetric_sigmoid", "dr_dpo", "holder_dpo", "re_po"]
)
def test_the_right_order_has_a_lower_loss_than_the_reversed_one(name):
    logits = list_with_rewards(0.9, 0.5, 0.2)
    assert named(name)(logits, RATINGS) < named(name)(logits.flip(1), RATINGS)


def test_plackett_luce_of_pairs_is_bradley_terry():
    logits, ratings = random_lists(k=1)
    assert torch.allclose(losses.plackett_luce(logits, ratings), losses.bradley_terry(logits, ratings))


@pytest.mark.parametrize("name", ["symmetric_sigmoid", "holder_dpo"])
def test_a_symmetric_loss_of_a_pair_and_of_its_reverse_sum_to_one(name):
    logits, ratings = random_lists(k=1)
    both = named(name)(logits, ratings) + named(name)(logits.flip(1), ratings)
    assert torch.allclose(both, torch.ones_like(both))


def test_label_smoothing_at_one_half_does_not_depend_on_the_order():
    logits, ratings = random_lists(k=2)
    both = (losses.label_smoothing(lists, ratings, smoothing=0.5) for lists in (logits, logits.flip(1)))
    assert torch.allclose(*both)


def test_the_robust_loss_is_bradley_terry_in_expectation_over_flips():
    logits, ratings = random_lists(k=1)
    kept, flipped = (losses.robust(lists, ratings, flip_rate=0.2) for lists in (logits, logits.flip(1)))
    assert torch.allclose(0.8 * kept + 0.2 * flipped, losses.bradley_terry(logits, ratings))


@pytest.mark.parametrize("name", GIVEN)
def test_without_flips_label_smoothing_and_robust_are_bradley_terry(name):
    logits, ratings = random_lists(k=3)
    without = getattr(losses, name)(logits, ratings, **dict.fromkeys(GIVEN[name], 0.0))
    assert torch.allclose(without, losses.bradley_terry(logits, ratings))


def test_dr_dpo_is_the_same_for_every_list_of_a_batch():
    logits, ratings = random_lists(k=2)
    each = losses.bradley_terry(logits, ratings).numpy()
    assert losses.dr_dpo(logits, ratings).numpy() == pytest.approx(np.full(4, -np.log(np.exp(-each).mean())))


def test_dr_dpo_tends_to_the_mean_of_bradley_terry_for_a_high_temperature(monkeypatch):
    monkeypatch.setattr(losses, "DR_DPO_TEMPERATURE", 1e4)
    logits, ratings = random_lists(k=1)
    mean = losses.bradley_terry(logits, ratings).mean().expand(4)
    assert torch.allclose(losses.dr_dpo(logits, ratings), mean, rtol=1e-3)


def test_dr_dpo_lies_between_the_best_list_and_the_mean_of_the_batch():
    logits, ratings = random_lists(k=1, lists=50)
    each, batch = losses.bradley_terry(logits, ratings), losses.dr_dpo(logits, ratings)
    assert (each.min() < batch).all()
    assert (batch < each.mean()).all()


# --- losses that need no flip rate, as functions of the margins


MARGINS = torch.linspace(-6, 6, 25, dtype=torch.double)


def of_margins(loss, margins):
    """The loss of each pair of a batch with these margins (B,), and its gradient in them; of a scalar head."""
    z = margins.clone().requires_grad_()
    value = loss(torch.stack([z, torch.zeros_like(z)], dim=-1)[..., None], torch.tensor([[1, 0]]).expand(len(z), -1))
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


@pytest.mark.parametrize("g", [0.5, 1.0, 2.0, 4.0])
def test_the_gradient_of_holder_dpo_is_the_papers(g, monkeypatch):
    monkeypatch.setattr(losses, "HOLDER_GAMMA", g)
    s = MARGINS.sigmoid()
    assert torch.allclose(of_margins(losses.holder_dpo, MARGINS)[1], -g * (1 + g) * s**g * (1 - s) ** 2)


def test_holder_dpo_runs_from_one_to_zero_and_stops_pulling_on_both_sides():
    value, gradient = of_margins(losses.holder_dpo, torch.tensor([-1e4, -20.0, 20.0, 1e4]))
    assert value.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-6)
    assert gradient.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_holder_dpo_pulls_most_on_a_comparison_with_equal_rewards():
    gradient = of_margins(losses.holder_dpo, MARGINS)[1]
    assert MARGINS[gradient.argmin()] == 0
    assert gradient.min() == -6 / 16


def test_holder_dpo_stays_between_zero_and_one_and_never_pulls_down_in_single_precision():
    value, gradient = of_margins(losses.holder_dpo, torch.linspace(-30, 30, 2001))
    assert value.min() > -1e-6
    assert value.max() < 1 + 1e-6
    assert gradient.max() <= 0  # exactly


def test_holder_dpo_over_g_tends_to_bradley_terry_minus_the_symmetric_sigmoid_for_small_g(monkeypatch):
    monkeypatch.setattr(losses, "HOLDER_GAMMA", 1e-6)
    small, *limits = (
        torch.stack(of_margins(loss, MARGINS))
        for loss in (losses.holder_dpo, losses.bradley_terry, losses.symmetric_sigmoid)
    )
    assert torch.allclose(small / 1e-6, limits[0] - limits[1], atol=1e-4)


def calibrated_margins(flip_rate, n=100_000):
    """Margins (n,) of comparisons whose order came out with probability sigmoid(z), then a share reversed."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=3, size=n)
    z = np.where(rng.random(n) < 1 / (1 + np.exp(-z)), z, -z)
    z[: round(flip_rate * n)] *= -1
    return torch.from_numpy(z)


@pytest.mark.parametrize("flip_rate", [0.1, 0.2, 0.3, 0.4])
def test_the_reliability_of_calibrated_margins_is_the_share_that_was_not_reversed(flip_rate):
    z, eta = calibrated_margins(flip_rate), 1 - flip_rate
    p = z.sigmoid()
    information = ((2 * p - 1) / (p * eta + (1 - p) * (1 - eta))).square().sum()  # Fisher's, of eta
    assert losses.reliability(z).item() == pytest.approx(eta, abs=4 / math.sqrt(information))


@pytest.mark.parametrize("flip_rate", [0.1, 0.4])
def test_the_reliability_is_the_most_likely_one(flip_rate):
    z = calibrated_margins(flip_rate, n=1000)
    eta = losses.reliability(z).requires_grad_()
    (z.sigmoid() * eta + (-z).sigmoid() * (1 - eta)).log().mean().backward()
    assert eta.grad.item() == pytest.approx(0, abs=1e-4)


def test_the_reliability_of_a_batch_does_not_depend_on_its_shape():
    z = calibrated_margins(0.2, n=60)
    assert losses.reliability(z.view(20, 3)).item() == pytest.approx(losses.reliability(z).item(), rel=1e-12)


@pytest.mark.parametrize(("margin", "expected"), [(3.0, 0.999), (0.0, 0.9), (-3.0, 0.5)])
def test_the_reliability_of_equal_margins_is_the_end_of_the_range_or_the_start(margin, expected):
    assert losses.reliability(torch.full((2, 3), margin)).item() == pytest.approx(expected)


def test_the_gradient_of_re_po_is_that_of_the_probability_that_comparisons_are_right_held_fixed():
    z = calibrated_margins(0.3, n=100)
    p, eta = z.sigmoid(), losses.reliability(z)
    right = p * eta / (p * eta + (1 - p) * (1 - eta))
    assert torch.allclose(of_margins(losses.re_po, z)[1], p - right)  # nothing through `right`


def test_the_gradient_of_re_po_is_that_of_the_likelihood_of_the_comparisons_as_they_are_given():
    z = calibrated_margins(0.3, n=100)
    eta = losses.reliability(z)

    def likelihood(outputs, ratings):
        p = losses.margins(outputs).sigmoid()
        return -(p * eta + (1 - p) * (1 - eta)).log().sum(-1)

    assert torch.allclose(of_margins(losses.re_po, z)[1], of_margins(likelihood, z)[1])


def test_re_po_pulls_less_on_a_comparison_that_the_model_is_sure_is_wrong():
    z = calibrated_margins(0.2, n=1000)
    z[:3] = torch.tensor([0.0, -3.0, -6.0])
    undecided, wrong, very_wrong = of_margins(losses.re_po, z)[1][:3].neg().tolist()
    assert undecided > wrong > very_wrong > 0


def test_re_po_learns_nothing_where_the_model_holds_most_comparisons_for_reversed():
    z = -calibrated_margins(0.2, n=1000).float()
    assert losses.reliability(z) == 0.5
    assert of_margins(losses.re_po, z)[1].count_nonzero() == 0  # Adam would enlarge what rounding leaves


@pytest.mark.parametrize("margin", [-3.0, 0.0, 3.0])
def test_re_po_of_one_pair_is_label_smoothing_with_the_probability_that_it_is_wrong(margin):
    eta = losses.reliability(torch.tensor([margin])).item()
    wrong = 1 - sigmoid(margin + math.log(eta / (1 - eta)))
    found, known = (
        of_margins(loss, torch.tensor([margin]))
        for loss in (losses.re_po, partial(losses.label_smoothing, smoothing=wrong))
    )
    assert torch.allclose(torch.cat(found), torch.cat(known), atol=1e-6)


# --- the objectives of training


def autograd(loss, logits, ratings):
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, ratings).mean(), leaf)[0]


def test_cross_entropy_is_pytorchs_summed_over_the_reviews_of_a_list():
    logits, ratings = random_lists(k=1)
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ratings.flatten(), reduction="none")
    assert torch.allclose(losses.cross_entropy(logits, ratings), each.view(4, 2).sum(-1))


def test_the_squared_error_is_summed_over_the_reviews_of_a_list():
    output, ratings = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[3, 0]])
    assert losses.squared_error(output, ratings).tolist() == [8.0]
    assert losses.squared_error_grad(output, ratings).flatten().tolist() == [-4.0, 4.0]


@pytest.mark.parametrize(("head", "outputs"), [("categorical", 5), ("scalar", 1)])
@pytest.mark.parametrize("k", [0, 2])
def test_the_gradient_of_training_is_that_of_the_mean_over_the_batch(head, outputs, k):
    objective = losses.TRAINING_OBJECTIVES[head]
    logits, ratings = random_lists(k)
    logits = logits[..., :outputs]
    given = logits.clone()
    assert torch.allclose(objective.gradient(given, ratings, None), autograd(objective.value, logits, ratings))
    assert torch.equal(given, logits)


# --- the objective of fine-tuning


def test_the_kl_divergence_is_pytorchs_and_zero_from_itself():
    logits, other = random_lists(k=2)[0], random_lists(k=2, seed=1)[0]
    before, now = torch.log_softmax(other, -1), torch.log_softmax(logits, -1)
    known = torch.nn.functional.kl_div(now, before, log_target=True, reduction="none").sum((-1, -2))
    assert torch.allclose(losses.kl_to_reference(logits, before), known)
    assert torch.allclose(losses.kl_to_reference(logits, now), torch.zeros(4, dtype=torch.double), atol=1e-12)


def test_the_kl_divergence_of_a_scalar_head_is_that_of_normal_distributions_of_variance_1():
    now, before = (random_lists(k=2, seed=seed)[0][..., :1] for seed in (0, 1))
    known = kl_divergence(Normal(before, 1.0), Normal(now, 1.0)).sum((-1, -2))
    assert torch.allclose(losses.kl_to_reference(now, before), known)


def test_with_the_penalty_the_robust_loss_of_a_scalar_head_is_bounded_below():
    """-a log(1 + exp z) >= -a (log 2 + |z|), and each of the two outputs moves by half the change of z at least."""
    rate, weight = 0.4, 0.1
    before = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 1)))
    far = before + torch.tensor([1.0, -1.0]).double()[:, None] * torch.logspace(-3, 6, 100).double()[:, None, None]
    penalised = losses.preference_objective("robust", partial(losses.robust, flip_rate=rate), weight, outputs=1)
    a = rate / (1 - 2 * rate)
    bound = -a * (math.log(2) + losses.margins(before).abs().item()) - a**2 / weight
    ratings = torch.tensor([[1, 0]]).expand(len(far), -1)
    assert (penalised.value(far, ratings, before) >= bound).all()
    assert (penalised.value(far, ratings, None) < bound).any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_penalty_is_its_weight_times_the_divergence(weight):
    logits, ratings = random_lists(k=2)
    reference = torch.log_softmax(random_lists(k=2, seed=1)[0], -1)
    expected = losses.hinge(logits, ratings) + weight * losses.kl_to_reference(logits, reference)
    objective = losses.preference_objective("hinge", losses.hinge, weight)
    assert torch.allclose(objective.value(logits, ratings, reference), expected)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("weight", [None, 0.7])
@pytest.mark.parametrize("outputs", [5, 1])
def test_the_gradient_of_fine_tuning_is_that_of_the_sum_over_the_batch(name, weight, outputs):
    if (name, outputs) == ("study", 1):
        pytest.skip("needs a distribution over ratings")
    (logits, ratings), reference = random_lists(k=2), None
    logits = logits[..., :outputs]
    if weight is not None:
        other = random_lists(k=2, seed=1)[0][..., :outputs]
        reference = other if outputs == 1 else torch.log_softmax(other, -1)
    objective = losses.preference_objective(name, named(name), weight or 0.0, outputs=outputs)
    leaf = logits.clone().requires_grad_()
    penalty = 0.0 if reference is None else weight * losses.kl_to_reference(leaf, reference)
    (named(name)(leaf, ratings) + penalty).sum().backward()
    with torch.no_grad():  # as in `fit`
        assert torch.allclose(objective.gradient(logits, ratings, reference), leaf.grad, atol=1e-12)
    assert logits.grad_fn is None
    assert not logits.requires_grad


# --- losses of one's own


def sum_of(logits):
    return logits.sum((-1, -2))


WRONG_LOSSES = {
    "raises": (lambda logits, ratings: 1 / 0, "fails on .*ZeroDivisionError"),
    "raises over two lines": (lambda logits, ratings: logits @ logits @ ratings, "fails on .*RuntimeError"),
    "takes one argument": (lambda logits: sum_of(logits), "fails on .*takes 1 positional argument"),
    "takes three arguments": (lambda logits, ratings, margin: sum_of(logits), "fails on .*missing 1 required"),
    "returns a mean": (lambda logits, ratings: logits.mean(), r"one number per list.* not shape \(\), torch"),
    "returns a value per review": (lambda logits, ratings: logits.sum(-1), r"one number per list.* not shape \(3, 2\)"),
    "returns a number": (lambda logits, ratings: 0.5, "one number per list.* not float$"),
    "returns an array": (lambda logits, ratings: np.zeros(3), "one number per list.* not ndarray$"),
    "returns nothing": (lambda logits, ratings: None, "one number per list.* not NoneType$"),
    "depends on ratings alone": (lambda logits, ratings: ratings.sum(-1).float(), "without a gradient; .* with torch$"),
    "detaches": (lambda logits, ratings: sum_of(logits.detach()), "without a gradient"),
    "leaves torch": (lambda logits, ratings: torch.from_numpy(logits.numpy()), "fails on .*RuntimeError"),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG_LOSSES.values(), ids=WRONG_LOSSES)
def test_a_wrong_loss_is_one_line_that_names_the_function(wrong, expected):
    with pytest.raises(InputError, match=expected) as error:
        losses.preference_objective("my-loss", wrong, 0.0)
    where = "--loss my-loss: the function my_loss in noisy_feedback/learning/losses.py "
    assert str(error.value).startswith(where)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_loss_of_ours_passes_the_check(name):
    with torch.no_grad():
        losses.check_loss(name, named(name))
