"""Preference losses. To add one, write a function, and add it to LOSS_FUNCTIONS below and to LOSSES in config.py.

A preference loss takes `logits` (B, k+1, C) of B lists, best review first, and their `ratings` (B, k+1), classes
0..C-1 as the annotator gave them; it returns one loss per list (B,). All but the study's depend on the margins
between adjacent items of the list, z_i = r(x_i) - r(x_{i+1}), where the reward r is the expected rating sum_c c p_c,
or with a scalar head (C = 1) its output.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from noisy_feedback.learning.model import is_scalar

DR_DPO_TEMPERATURE = 1.0
HOLDER_GAMMA = 2.0  # the paper's default
RE_PO_START = 0.9  # the paper's
RE_PO_ROUNDS = 20
RE_PO_RANGE = (0.5, 0.999)  # below a half, the reversed order would be learned


def study(logits: Tensor, ratings: Tensor) -> Tensor:
    """The study's loss: -sum_i log sigmoid(R(x_i) - R(x_{i+1})), i = 0..k-1.

    The reward of every review of a list is R(x_i) = softplus(logit of the list's best rating, beta = 0.1).
    Source: Nonkes 2023, after the reward model of InstructGPT (Ouyang et al. 2022, equation 1).
    """
    best = ratings[:, :1].unsqueeze(-1).expand(*ratings.shape, 1)  # (B, k+1, 1)
    rewards = F.softplus(logits.gather(-1, best).squeeze(-1), beta=0.1)  # (B, k+1)
    return -F.logsigmoid(rewards[:, :-1] - rewards[:, 1:]).sum(-1)


def bradley_terry(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i log sigmoid(z_i). Source: Bradley and Terry 1952."""
    return -F.logsigmoid(margins(logits)).sum(-1)


def plackett_luce(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i log(exp r(x_i) / sum_{j >= i} exp r(x_j)), the likelihood of the list's order; bradley_terry at k = 1.

    Source: Plackett 1975; as a loss for lists: ListMLE (Xia et al. 2008).
    """
    r = reward(logits)
    log_total = r.flip(-1).logcumsumexp(-1).flip(-1)  # over the items from i on
    return (log_total - r)[:, :-1].sum(-1)


def hinge(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i max(0, 1 - z_i). Source: the ranking SVM (Joachims 2002); SLiC-HF (Zhao et al. 2023)."""
    return torch.relu(1 - margins(logits)).sum(-1)


def label_smoothing(logits: Tensor, ratings: Tensor, smoothing: float) -> Tensor:
    """-sum_i [(1 - e) log sigmoid(z_i) + e log sigmoid(-z_i)], e the smoothing, 0..1.

    Source: cDPO (Mitchell 2023, A note on DPO with noisy preferences).
    """
    z = margins(logits)
    return -((1 - smoothing) * F.logsigmoid(z) + smoothing * F.logsigmoid(-z)).sum(-1)


def robust(logits: Tensor, ratings: Tensor, flip_rate: float) -> Tensor:
    """-sum_i [(1 - e) log sigmoid(z_i) - e log sigmoid(-z_i)] / (1 - 2e), e < 1/2 the flip rate.

    Where a share e is reversed, its expectation is that of bradley_terry without noise. It falls without limit in z_i,
    which only a scalar head lets grow: there it needs the KL penalty.
    Source: rDPO (Chowdhury, Kini and Natarajan 2024, Provably robust DPO), after Natarajan et al. 2013, lemma 1.
    """
    z = margins(logits)
    return -(((1 - flip_rate) * F.logsigmoid(z) - flip_rate * F.logsigmoid(-z)) / (1 - 2 * flip_rate)).sum(-1)


def symmetric_sigmoid(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i sigmoid(-z_i): bounded, and symmetric: l(z) + l(-z) = 1, so uniform flips only scale its mean.

    Not TRL's `sigmoid`. Source: Ghosh, Manwani and Sastry 2015, Making risk minimization tolerant to label noise.
    """
    return torch.sigmoid(-margins(logits)).sum(-1)


def dr_dpo(logits: Tensor, ratings: Tensor) -> Tensor:
    """-b log mean_lists exp(-bradley_terry / b), b = 1, the same value for every list: lists that fit badly count less.

    A loss of the whole batch. Source: Wu et al. 2024, Towards robust alignment of language models (Dr. DPO).
    """
    fit = -bradley_terry(logits, ratings) / DR_DPO_TEMPERATURE
    batch = -DR_DPO_TEMPERATURE * (fit.logsumexp(0) - torch.tensor(float(len(fit))).log())
    return batch.expand_as(fit)


def holder_dpo(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i [1 - (1 + g) s_i^g + g s_i^(1 + g)], s_i = sigmoid(z_i), g = 2: bounded by 0 and 1 for each margin.

    The gradient -g (1 + g) s^g (1 - s)^2 goes to 0 for a large margin of either sign: a comparison that the model is
    sure is wrong stops pulling. Source: Fujisawa et al. 2025, Scalable valuation of human feedback through provably
    robust model alignment; its constant is -g, not 1.
    """
    s = torch.sigmoid(margins(logits))
    return (1 - (1 + HOLDER_GAMMA) * s**HOLDER_GAMMA + HOLDER_GAMMA * s ** (1 + HOLDER_GAMMA)).sum(-1)


def re_po(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i [w_i log sigmoid(z_i) + (1 - w_i) log sigmoid(-z_i)], w_i the probability that comparison i is right.

    w = sigmoid(z + logit(eta)), without a gradient; eta is the reliability of the batch. A loss of the whole batch.
    Source: Robust Enhanced Policy Optimization (RE-PO, ICLR 2026), after Dawid and Skene 1979; here eta comes
    from the batch alone, not from a moving average.
    """
    z = margins(logits)
    fixed = z.detach()
    right = torch.sigmoid(fixed + torch.logit(reliability(fixed)))  # (B, k)
    return F.binary_cross_entropy_with_logits(z, right, reduction="none").sum(-1)


def reliability(z: Tensor) -> Tensor:
    """The estimated share eta of comparisons that are not reversed, of margins of any shape; a scalar tensor.

    Expectation-maximisation: eta = mean(p eta / (p eta + (1 - p) (1 - eta))), p = sigmoid(z). Source: as re_po.
    """
    eta = z.new_full((), RE_PO_START)
    for _ in range(RE_PO_ROUNDS):
        eta = torch.sigmoid(z + torch.logit(eta)).mean().clamp(*RE_PO_RANGE)
    return eta


def reward(logits: Tensor) -> Tensor:
    """The expected rating sum_c c p_c of logits (..., C), in classes; of a scalar head (..., 1) the output. (...)"""
    if is_scalar(logits):
        return logits.squeeze(-1)
    classes = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return (torch.softmax(logits, dim=-1) * classes).sum(-1)


def margins(logits: Tensor) -> Tensor:
    """The reward of each review minus that of the next in the list, (B, k)."""
    r = reward(logits)
    return r[:, :-1] - r[:, 1:]


class Loss(NamedTuple):
    """A preference loss, and its parameter that receives the share of wrong comparisons, where it has one.

    `flip_rate`: among pairs of different true ratings; `smoothing`: a pair of equal ones counts as half wrong.
    """

    function: Callable[..., Tensor]
    parameter: str = ""


LOSS_FUNCTIONS = {  # by the names in LOSSES
    "study": Loss(study),
    "bradley-terry": Loss(bradley_terry),
    "plackett-luce": Loss(plackett_luce),
    "hinge": Loss(hinge),
    "label-smoothing": Loss(label_smoothing, "smoothing"),
    "robust": Loss(robust, "flip_rate"),
    "symmetric-sigmoid": Loss(symmetric_sigmoid),
    "dr-dpo": Loss(dr_dpo),
    "holder-dpo": Loss(holder_dpo),
    "re-po": Loss(re_po),
}
