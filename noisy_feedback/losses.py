"""Logits of a list -> loss. One public function per loss; a new one is a function here and its name in settings.py.

Every preference loss takes `logits` (R, B, k+1, C) of lists that stand best first and their `ratings`
(R, B, k+1), and returns one loss per list (R, B). All but the study's are of the margins between neighbours
in the list, z_i = r(x_i) - r(x_{i+1}), where the reward r is the expected rating sum_c c p_c, or with a scalar
head (C = 1) its output.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from noisy_feedback.errors import InputError
from noisy_feedback.regressor import is_scalar

Loss = Callable[[Tensor, Tensor], Tensor]
Objective = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # logits, ratings, reference (R, B, k+1, C) -> (R, B)
DR_DPO_TEMPERATURE = 1.0


def cross_entropy(logits: Tensor, ratings: Tensor) -> Tensor:
    """Training's loss: -log p(rating), summed over the items of a list (in training a list is one review)."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, ratings.unsqueeze(-1)).squeeze(-1).sum(-1)


def squared_error(output: Tensor, ratings: Tensor) -> Tensor:
    """Training's loss with a scalar head: (output - rating)^2, output (R, B, g, 1), summed over the items of a list."""
    return (output.squeeze(-1) - ratings).square().sum(-1)


def study(logits: Tensor, ratings: Tensor) -> Tensor:
    """The study's loss: -sum_i log sigmoid(R(x_i) - R(x_{i+1})), i = 0..k-1.

    The reward of every item of a list is R(x_i) = softplus(logit of the list's best rating, beta = 0.1).
    Source: Nonkes 2023, after the reward model of InstructGPT (Ouyang et al. 2022, equation 1).
    """
    best = ratings[..., :1].unsqueeze(-1).expand(*ratings.shape, 1)  # (R, B, k+1, 1)
    reward = F.softplus(logits.gather(-1, best).squeeze(-1), beta=0.1)  # (R, B, k+1)
    return -F.logsigmoid(reward[..., :-1] - reward[..., 1:]).sum(-1)


def bradley_terry(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i log sigmoid(z_i). Source: Bradley and Terry 1952."""
    return -F.logsigmoid(margins(logits)).sum(-1)


def plackett_luce(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i log(exp r(x_i) / sum_{j >= i} exp r(x_j)): of the whole order; bradley_terry at k = 1.

    Source: Plackett 1975; as a loss for lists: ListMLE (Xia et al. 2008).
    """
    r = reward(logits)
    of_the_rest = r.flip(-1).logcumsumexp(-1).flip(-1)
    return (of_the_rest - r)[..., :-1].sum(-1)


def hinge(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i max(0, 1 - z_i). Source: the ranking SVM (Joachims 2002); SLiC-HF (Zhao et al. 2023)."""
    return torch.relu(1 - margins(logits)).sum(-1)


def conservative(logits: Tensor, ratings: Tensor, flip_rate: float) -> Tensor:
    """Label smoothing: -sum_i [(1 - e) log sigmoid(z_i) + e log sigmoid(-z_i)], e the flip rate.

    Source: cDPO (Mitchell 2023, A note on DPO with noisy preferences).
    """
    z = margins(logits)
    return -((1 - flip_rate) * F.logsigmoid(z) + flip_rate * F.logsigmoid(-z)).sum(-1)


def unbiased(logits: Tensor, ratings: Tensor, flip_rate: float) -> Tensor:
    """-sum_i [(1 - e) log sigmoid(z_i) - e log sigmoid(-z_i)] / (1 - 2e), e < 1/2 the flip rate.

    Its expectation under flips at that rate is bradley_terry without noise (of pairs whose true ratings differ: for
    equal ones there is no right order). Source: rDPO (Chowdhury, Kini and
    Natarajan 2024, Provably robust DPO), after Natarajan et al. 2013, lemma 1.
    """
    z = margins(logits)
    return -(((1 - flip_rate) * F.logsigmoid(z) - flip_rate * F.logsigmoid(-z)) / (1 - 2 * flip_rate)).sum(-1)


def sigmoid(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i sigmoid(-z_i): bounded and symmetric, l(z) + l(-z) = 1, so that uniform flips only scale its mean.

    Source: Ghosh, Manwani and Sastry 2015, Making risk minimization tolerant to label noise.
    """
    return torch.sigmoid(-margins(logits)).sum(-1)


def dr_dpo(logits: Tensor, ratings: Tensor) -> Tensor:
    """-b log mean_lists exp(-bradley_terry / b), b = 1, the same for every list: those that fit badly weigh less.

    Unlike the others it is a loss of the whole batch; times B it tends to bradley_terry's sum for large b.
    Source: Wu et al. 2024, Towards robust alignment of language models (Dr. DPO).
    """
    fit = -bradley_terry(logits, ratings) / DR_DPO_TEMPERATURE
    batch = -DR_DPO_TEMPERATURE * (fit.logsumexp(-1, keepdim=True) - torch.tensor(float(fit.shape[-1])).log())
    return batch.expand_as(fit)


def reward(logits: Tensor) -> Tensor:
    """sum_c c p_c over the last axis, in classes; of a scalar head the output itself."""
    if is_scalar(logits):
        return logits.squeeze(-1)
    classes = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return (torch.softmax(logits, dim=-1) * classes).sum(-1)


def margins(logits: Tensor) -> Tensor:
    """Reward of each item less that of the next, (R, B, k)."""
    r = reward(logits)
    return r[..., :-1] - r[..., 1:]


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(before || now) between the rating distributions, summed over a list's items (R, B).

    `reference` (R, B, k+1, C) are the log-probabilities of the model before fine-tuning.
    """
    now = torch.log_softmax(logits, dim=-1)
    return (reference.exp() * (reference - now)).sum(dim=(-1, -2))


def anchored(loss: Loss, weight: float) -> Objective:
    """The loss plus `weight` times the divergence from the model before fine-tuning."""

    def objective(logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
        value = loss(logits, ratings)
        if value.shape != logits.shape[:2]:
            raise InputError(f"--loss: gives numbers of shape {tuple(value.shape)}, not one per list (runs, lists)")
        return value if reference is None or weight == 0 else value + weight * divergence(logits, reference)

    return objective


def slope(objectives: Sequence[Objective], logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
    """The gradient of the summed objectives, one per run, in the logits (R, B, k+1, C), by autograd.

    One run after the other: exp and log of an element have other last bits in the middle of a vector register
    than at the end of a tensor, and a run's must not depend on what lies behind it.
    """
    logits = logits.detach().requires_grad_()
    with torch.enable_grad():
        values = []
        for number, objective in enumerate(objectives):
            run = slice(number, number + 1)
            values.append(objective(logits[run], ratings[run], None if reference is None else reference[run]).sum())
        return torch.autograd.grad(values, logits)[0]


def cross_entropy_slope(logits: Tensor, ratings: Tensor) -> Tensor:
    """The gradient of the summed cross_entropy, from the closed form: probabilities less one at the rating."""
    slope = torch.softmax(logits, dim=-1)
    return slope.scatter_add_(-1, ratings.unsqueeze(-1), slope.new_full((), -1.0).expand(*ratings.shape, 1))


def squared_error_slope(output: Tensor, ratings: Tensor) -> Tensor:
    """The gradient of the summed squared_error: 2 (output - rating)."""
    return 2 * (output - ratings.unsqueeze(-1))
