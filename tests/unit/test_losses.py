"""Every loss has the properties that its source proves; `tests/end_to_end/test_method.py` has its formula."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from noisy_feedback.config import LOSSES
from noisy_feedback.learning import losses
from noisy_feedback.learning.losses import LOSS_FUNCTIONS

MARGINS = torch.linspace(-6, 6, 25, dtype=torch.double)
LISTS = torch.from_numpy(np.random.default_rng(0).normal(scale=3, size=(4, 3, 5)))  # logits of three reviews each
RATINGS = torch.tensor([[4, 2, 1]]).expand(4, -1)


def of_margins(loss, z):
    """The loss of each pair of a batch with these margins (B,), and its gradient in them; of a scalar head."""
    z = z.clone().requires_grad_()
    value = loss(torch.stack([z, torch.zeros_like(z)], dim=-1)[..., None], torch.tensor([[1, 0]]).expand(len(z), -1))
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_of_extreme_outputs_are_finite(name):
    function, parameter = LOSS_FUNCTIONS[name]
    for given in (1e4 * LISTS.float(), 20 * LISTS.float()[..., :1], 1e4 * LISTS.float()[..., :1]):
        if name != "study" or given.shape[-1] > 1:
            value = function(given.requires_grad_(), RATINGS, **({parameter: 0.2} if parameter else {}))
            assert value.isfinite().all()
            assert torch.autograd.grad(value.sum(), given)[0].isfinite().all()


# --- what the sources prove


def test_the_robust_loss_is_bradley_terry_in_expectation_and_symmetric_losses_of_a_pair_and_its_reverse_sum_to_1():
    kept, flipped = (of_margins(partial(losses.robust, flip_rate=0.2), z)[0] for z in (MARGINS, -MARGINS))
    assert torch.allclose(0.8 * kept + 0.2 * flipped, of_margins(losses.bradley_terry, MARGINS)[0])
    for loss in (losses.symmetric_sigmoid, losses.holder_dpo):
        both = of_margins(loss, MARGINS)[0] + of_margins(loss, -MARGINS)[0]
        assert torch.allclose(both, torch.ones_like(both))


def test_dr_dpo_tends_to_the_mean_of_the_batch_for_a_high_temperature(monkeypatch):
    monkeypatch.setattr(losses, "DR_DPO_TEMPERATURE", 1e4)
    mean = losses.bradley_terry(LISTS, RATINGS).mean()
    assert torch.allclose(losses.dr_dpo(LISTS, RATINGS), mean.expand(4), rtol=1e-2)


@pytest.mark.parametrize("g", [0.5, 2.0, 4.0])
def test_the_gradient_of_holder_dpo_is_the_papers(g, monkeypatch):
    monkeypatch.setattr(losses, "HOLDER_GAMMA", g)
    s = MARGINS.sigmoid()
    assert torch.allclose(of_margins(losses.holder_dpo, MARGINS)[1], -g * (1 + g) * s**g * (1 - s) ** 2)


def test_holder_dpo_stays_between_zero_and_one_and_never_pulls_down_in_single_precision():
    value, gradient = of_margins(losses.holder_dpo, torch.linspace(-30, 30, 2001))
    assert -1e-6 < value.min() <= value.max() < 1 + 1e-6
    assert -1e-6 < gradient[[0, -1]].min() <= gradient.max() <= 0  # exactly


def calibrated_margins(flip_rate, n=100_000):
    """Margins (n,) of comparisons whose order came out with probability sigmoid(z), then a share reversed."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=3, size=n)
    z = np.where(rng.random(n) < 1 / (1 + np.exp(-z)), z, -z)
    z[: round(flip_rate * n)] *= -1
    return torch.from_numpy(z)


@pytest.mark.parametrize("flip_rate", [0.1, 0.4])
def test_the_reliability_of_calibrated_margins_is_the_share_that_was_not_reversed_and_the_most_likely_one(flip_rate):
    z, eta = calibrated_margins(flip_rate), 1 - flip_rate
    p = z.sigmoid()
    information = ((2 * p - 1) / (p * eta + (1 - p) * (1 - eta))).square().sum()  # Fisher's, of eta
    found = losses.reliability(z.view(-1, 2))  # of any shape
    assert found.item() == pytest.approx(eta, abs=4 / math.sqrt(information))
    (p * found.requires_grad_() + (1 - p) * (1 - found)).log().mean().backward()
    assert found.grad.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("margin", "expected"), [(3.0, 0.999), (0.0, 0.9), (-3.0, 0.5)])
def test_the_reliability_of_equal_margins_is_the_end_of_the_range_or_the_start(margin, expected):
    assert losses.reliability(torch.full((2, 3), margin)).item() == pytest.approx(expected)


def test_re_po_learns_nothing_where_the_model_holds_most_comparisons_for_reversed():
    z = -calibrated_margins(0.2, n=1000).float()
    assert of_margins(losses.re_po, z)[1].count_nonzero() == 0  # Adam would enlarge what rounding leaves
