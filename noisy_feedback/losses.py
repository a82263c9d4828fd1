"""Logits of a list -> loss. One public function per loss; a new one is a function here.

Every function takes `logits` (R, B, k+1, C) of lists that stand best first and their `ratings`
(R, B, k+1), and returns one loss per list (R, B).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, ratings: Tensor) -> Tensor:
    """Training's loss: -log p(rating), summed over the items of a list (in training a list is one review)."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, ratings.unsqueeze(-1)).squeeze(-1).sum(-1)


def study(logits: Tensor, ratings: Tensor) -> Tensor:
    """The study's loss: -sum_i log sigmoid(R(x_i) - R(x_{i+1})), i = 0..k-1.

    The reward of every item of a list is R(x_i) = softplus(logit of the list's best rating, beta = 0.1).
    Source: Nonkes 2023, after the reward model of InstructGPT (Ouyang et al. 2022, equation 1).
    """
    best = ratings[..., :1].unsqueeze(-1).expand(*ratings.shape, 1)  # (R, B, k+1, 1)
    reward = F.softplus(logits.gather(-1, best).squeeze(-1), beta=0.1)  # (R, B, k+1)
    return -F.logsigmoid(reward[..., :-1] - reward[..., 1:]).sum(-1)


def slope_of(loss: Loss) -> Loss:
    """The function that gives the gradient of the summed loss in the logits (R, B, k+1, C), by autograd.

    On CPUs one run after the other: exp and log of an element have other last bits in the middle of a vector
    register than at the end of a tensor, and a run's must not depend on what lies behind it.
    """

    def slope(logits: Tensor, ratings: Tensor) -> Tensor:
        logits = logits.detach().requires_grad_()
        runs = [slice(None)] if logits.is_cuda else [slice(run, run + 1) for run in range(len(logits))]
        with torch.enable_grad():
            return torch.autograd.grad([loss(logits[run], ratings[run]).sum() for run in runs], logits)[0]

    return slope


def cross_entropy_slope(logits: Tensor, ratings: Tensor) -> Tensor:
    """As `slope_of(cross_entropy)`, from the closed form: probabilities less one at the rating."""
    slope = torch.softmax(logits, dim=-1)
    return slope.scatter_add_(-1, ratings.unsqueeze(-1), slope.new_full((), -1.0).expand(*ratings.shape, 1))
