import math
from functools import partial

import numpy as np
import pytest
import torch

from noisy_feedback import losses
from noisy_feedback.settings import LOSSES


def random_lists(k, seed=0, runs=2, lists=3, classes=5):
    """Logits and ratings of lists that stand best first, double precision."""
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(scale=3, size=(runs, lists, k + 1, classes)))
    ratings = np.stack(
        [
            np.stack([np.sort(generator.choice(classes, k + 1, replace=False))[::-1] for _ in range(lists)])
            for _ in range(runs)
        ]
    )
    return logits, torch.from_numpy(ratings.copy())


def softplus(x, beta):
    return math.log1p(math.exp(beta * x)) / beta


def test_the_study_loss_of_a_pair_is_the_hand_computed_one():
    logits = torch.zeros(1, 1, 2, 5)
    logits[0, 0, 0, 4], logits[0, 0, 1, 4] = 2.0, -1.0  # the logit of the best item's rating, for both items
    logits[0, 0, 1, 1] = 7.0  # the logit of the worse item's own rating plays no part
    margin = softplus(2.0, 0.1) - softplus(-1.0, 0.1)
    expected = math.log1p(math.exp(-margin))
    assert losses.study(logits, torch.tensor([[[4, 1]]])).item() == pytest.approx(expected, rel=1e-6)


def test_the_study_loss_sums_over_neighbours_in_the_list():
    logits, ratings = random_lists(k=3)
    rewards = [[softplus(logits[0, 0, i, ratings[0, 0, 0]].item(), 0.1) for i in range(4)]][0]
    expected = sum(math.log1p(math.exp(-(rewards[i] - rewards[i + 1]))) for i in range(3))
    assert losses.study(logits, ratings)[0, 0].item() == pytest.approx(expected)


def test_the_study_loss_of_equal_rewards_is_k_log_2():
    ratings = torch.tensor([[[4, 2, 1, 0]]])
    assert losses.study(torch.zeros(1, 1, 4, 5), ratings).item() == pytest.approx(3 * math.log(2))


@pytest.mark.parametrize("loss", [losses.study, losses.cross_entropy])
@pytest.mark.parametrize("k", [1, 3])
def test_gradients_agree_with_finite_differences(loss, k):
    logits, ratings = random_lists(k)
    assert torch.autograd.gradcheck(lambda x: loss(x, ratings), logits.requires_grad_())


@pytest.mark.parametrize("name", ["cross_entropy", *(name for name in LOSSES if name != "dr-dpo")])
@pytest.mark.parametrize("k", [1, 2])
def test_a_list_has_the_same_loss_whatever_stands_beside_it(name, k):
    loss = named(name.replace("-", "_"))
    logits, ratings = random_lists(k)
    alone = [loss(logits[run, row][None, None], ratings[run, row][None, None]) for run in range(2) for row in range(3)]
    assert torch.allclose(loss(logits, ratings).flatten(), torch.stack(alone).flatten(), rtol=1e-12)


def test_the_slope_is_the_gradient_of_every_runs_own_summed_objective():
    logits, ratings = random_lists(k=2)
    reference = torch.log_softmax(random_lists(k=2, seed=1)[0], dim=-1)
    objectives = [losses.anchored(losses.study, 0.0), losses.anchored(losses.sigmoid, 0.7)]
    leaf = logits.clone().requires_grad_()
    first = losses.study(leaf[:1], ratings[:1])
    second = losses.sigmoid(leaf[1:], ratings[1:]) + 0.7 * losses.divergence(leaf[1:], reference[1:])
    (first.sum() + second.sum()).backward()
    assert torch.allclose(losses.slope(objectives, logits, ratings, reference), leaf.grad, atol=1e-12)


def test_cross_entropy_is_pytorchs():
    logits, ratings = random_lists(k=0)
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 5), ratings.reshape(-1), reduction="none")
    assert torch.allclose(losses.cross_entropy(logits, ratings).reshape(-1), expected)


def test_the_closed_form_of_cross_entropys_slope_agrees_with_autograd():
    logits, ratings = random_lists(k=1)
    autograd = losses.slope([losses.anchored(losses.cross_entropy, 0.0)] * 2, logits, ratings, None)
    assert torch.allclose(losses.cross_entropy_slope(logits, ratings), autograd, atol=1e-12)


def list_with_rewards(*rewards):
    """Logits of one list whose expected ratings are the given ones, between 0 and 1; two ratings."""
    r = torch.tensor(rewards, dtype=torch.double)
    return torch.stack([torch.zeros_like(r), torch.logit(r)], dim=-1)[None, None]


def sigma(z):
    return 1 / (1 + math.exp(-z))


RATINGS = torch.tensor([[[2, 1, 0]]])
Z = (0.9 - 0.3, 0.3 - 0.6)  # margins between neighbours of rewards 0.9, 0.3, 0.6
HAND_COMPUTED = {
    "bradley_terry": -sum(math.log(sigma(z)) for z in Z),
    "plackett_luce": sum(math.log(sum(math.exp(r) for r in rest)) - rest[0] for rest in ((0.9, 0.3, 0.6), (0.3, 0.6))),
    "hinge": sum(max(0.0, 1 - z) for z in Z),
    "conservative": -sum(0.8 * math.log(sigma(z)) + 0.2 * math.log(sigma(-z)) for z in Z),
    "unbiased": -sum((0.8 * math.log(sigma(z)) - 0.2 * math.log(sigma(-z))) / 0.6 for z in Z),
    "sigmoid": sum(sigma(-z) for z in Z),
    "dr_dpo": -sum(math.log(sigma(z)) for z in Z),  # of a batch of one
}


def named(name):
    loss = getattr(losses, name)
    return partial(loss, flip_rate=0.2) if name in ("conservative", "unbiased") else loss


@pytest.mark.parametrize(("name", "expected"), HAND_COMPUTED.items())
def test_a_loss_is_the_hand_computed_one(name, expected):
    assert named(name)(list_with_rewards(0.9, 0.3, 0.6), RATINGS).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", HAND_COMPUTED)
def test_every_loss_agrees_with_finite_differences(name):
    logits, ratings = random_lists(k=2)
    assert torch.autograd.gradcheck(lambda x: named(name)(x, ratings), logits.requires_grad_())


def test_every_name_that_the_flag_takes_is_a_loss():
    assert {name.replace("-", "_") for name in LOSSES} == {"study", *HAND_COMPUTED}


def test_plackett_luce_of_pairs_is_bradley_terry():
    logits, ratings = random_lists(k=1)
    assert torch.allclose(losses.plackett_luce(logits, ratings), losses.bradley_terry(logits, ratings))


def test_the_sigmoid_loss_of_a_pair_and_of_its_reverse_sum_to_one():
    logits, ratings = random_lists(k=1)
    both = losses.sigmoid(logits, ratings) + losses.sigmoid(logits.flip(2), ratings)
    assert torch.allclose(both, torch.ones_like(both))


def test_the_unbiased_loss_is_bradley_terry_in_expectation_over_flips():
    logits, ratings = random_lists(k=1)
    kept, flipped = (losses.unbiased(lists, ratings, flip_rate=0.2) for lists in (logits, logits.flip(2)))
    assert torch.allclose(0.8 * kept + 0.2 * flipped, losses.bradley_terry(logits, ratings))


def test_without_flips_the_conservative_and_the_unbiased_loss_are_bradley_terry():
    logits, ratings = random_lists(k=3)
    for loss in (losses.conservative, losses.unbiased):
        assert torch.allclose(loss(logits, ratings, flip_rate=0.0), losses.bradley_terry(logits, ratings))


def test_dr_dpo_is_the_batchs_own_and_the_same_for_every_list():
    logits, ratings = random_lists(k=2, lists=4)
    found = losses.dr_dpo(logits, ratings)
    each = losses.bradley_terry(logits, ratings).numpy()
    assert np.allclose(found, -np.log(np.exp(-each).mean(axis=1, keepdims=True)) * np.ones((1, 4)))


def test_dr_dpo_tends_to_the_mean_of_bradley_terry_for_a_high_temperature(monkeypatch):
    monkeypatch.setattr(losses, "DR_DPO_TEMPERATURE", 1e4)
    logits, ratings = random_lists(k=1)
    mean = losses.bradley_terry(logits, ratings).mean(-1, keepdim=True).expand(2, 3)
    assert torch.allclose(losses.dr_dpo(logits, ratings), mean, rtol=1e-3)


def test_dr_dpo_lies_between_the_best_list_and_the_mean_of_the_batch():
    logits, ratings = random_lists(k=1, lists=50)
    each, batch = losses.bradley_terry(logits, ratings), losses.dr_dpo(logits, ratings)
    assert (batch < each.mean(-1, keepdim=True)).all()
    assert (batch > each.amin(-1, keepdim=True)).all()


def test_the_divergence_is_pytorchs_and_zero_from_itself():
    logits, other = random_lists(k=2)[0], random_lists(k=2, seed=1)[0]
    before, now = torch.log_softmax(other, -1), torch.log_softmax(logits, -1)
    known = torch.nn.functional.kl_div(now, before, log_target=True, reduction="none").sum((-1, -2))
    assert torch.allclose(losses.divergence(logits, before), known)
    assert torch.allclose(losses.divergence(logits, now), torch.zeros(2, 3, dtype=torch.double), atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_anchor_adds_its_weight_times_the_divergence(weight):
    logits, ratings = random_lists(k=2)
    reference = torch.log_softmax(random_lists(k=2, seed=1)[0], -1)
    expected = losses.sigmoid(logits, ratings) + weight * losses.divergence(logits, reference)
    assert torch.allclose(losses.anchored(losses.sigmoid, weight)(logits, ratings, reference), expected)


def test_with_a_scalar_head_the_output_is_the_reward():
    outputs = torch.tensor([[[[0.9], [0.3], [0.6]]]], dtype=torch.double)
    for name, expected in HAND_COMPUTED.items():
        assert named(name)(outputs, RATINGS).item() == pytest.approx(expected), name


def test_the_squared_error_is_that_of_the_output_and_its_slope_autograds():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(2, 3, 1, 1, dtype=torch.double, generator=generator)
    ratings = torch.tensor([[[0], [1], [2]], [[3], [4], [0]]])
    assert torch.allclose(losses.squared_error(output, ratings), (output[..., 0, 0] - ratings[..., 0]) ** 2)
    known = losses.slope([losses.anchored(losses.squared_error, 0.0)] * 2, output, ratings, None)
    assert torch.allclose(losses.squared_error_slope(output, ratings), known)


def test_the_errors_of_a_lists_items_are_summed():
    output, ratings = torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[[3, 0]]])
    assert losses.squared_error(output, ratings).tolist() == [[8.0]]
    assert losses.squared_error_slope(output, ratings).flatten().tolist() == [-4.0, 4.0]
