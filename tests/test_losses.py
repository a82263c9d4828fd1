import math

import numpy as np
import pytest
import torch

from noisy_feedback import losses


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


@pytest.mark.parametrize("loss", [losses.study, losses.cross_entropy])
def test_a_list_has_the_same_loss_whatever_stands_beside_it(loss):
    logits, ratings = random_lists(k=2)
    alone = loss(logits[1:2, 2:3], ratings[1:2, 2:3])
    assert torch.equal(loss(logits, ratings)[1:2, 2:3], alone)


def test_slope_of_gives_the_gradient_of_the_summed_loss():
    logits, ratings = random_lists(k=2)
    leaf = logits.clone().requires_grad_()
    losses.study(leaf, ratings).sum().backward()
    assert torch.allclose(losses.slope_of(losses.study)(logits, ratings), leaf.grad, atol=1e-12)


def test_cross_entropy_is_pytorchs():
    logits, ratings = random_lists(k=0)
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 5), ratings.reshape(-1), reduction="none")
    assert torch.allclose(losses.cross_entropy(logits, ratings).reshape(-1), expected)


def test_the_closed_form_of_cross_entropys_slope_agrees_with_autograd():
    logits, ratings = random_lists(k=1)
    closed, autograd = (
        losses.cross_entropy_slope(logits, ratings),
        losses.slope_of(losses.cross_entropy)(logits, ratings),
    )
    assert torch.allclose(closed, autograd, atol=1e-12)
