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


def with_slope(loss: Loss, logits: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
    """The loss per list (R, B), and the gradient of its sum in the logits (R, B, k+1, C), by autograd."""
    logits = logits.detach().requires_grad_()
    with torch.enable_grad():
        value = loss(logits, ratings)
        (slope,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), slope


def cross_entropy_with_slope(logits: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
    """As `with_slope(cross_entropy, ...)`, from the closed form softmax - one-hot."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    value = -log_probabilities.gather(-1, ratings.unsqueeze(-1)).squeeze(-1).sum(-1)
    slope = log_probabilities.exp()
    slope.scatter_add_(-1, ratings.unsqueeze(-1), slope.new_full((), -1.0).expand(*ratings.shape, 1))
    return value, slope
