"""Loss functions. To add one, write a function here and add its name to LOSSES in config.py.

A preference loss takes `logits` (B, k+1, C) of B lists, best review first, and their `ratings` (B, k+1), classes
0..C-1 as the annotator gave them; it returns one loss per list (B,). All but the study's depend on the margins
between neighbours in the list, z_i = r(x_i) - r(x_{i+1}), where the reward r is the expected rating sum_c c p_c,
or with a scalar head (C = 1) its output. An argument `flip_rate` receives the share of reversed comparisons.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from noisy_feedback.errors import InputError
from noisy_feedback.learning.model import is_scalar

# logits (B, g, C), ratings (B, g), reference (B, g, C) or None -> one value per list (B,), or a gradient (B, g, C)
Function = Callable[[Tensor, Tensor, Tensor | None], Tensor]
DR_DPO_TEMPERATURE = 1.0
HOLDER_GAMMA = 2.0  # the paper's default
RE_PO_START = 0.9  # the paper's
RE_PO_ROUNDS = 20
RE_PO_RANGE = (0.5, 0.999)  # below a half, the reversed order would be learned


@dataclass(frozen=True)
class Objective:
    """What a phase minimises: the value per list (B,), and the gradient in the logits of what a step descends."""

    value: Function
    gradient: Function


def cross_entropy(logits: Tensor, ratings: Tensor, _: Tensor | None = None) -> Tensor:
    """-log p(rating), summed over the reviews of a list; in training a list is one review."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, ratings.unsqueeze(-1)).squeeze(-1).sum(-1)


def cross_entropy_grad(logits: Tensor, ratings: Tensor, _: Tensor | None = None) -> Tensor:
    """The gradient of the batch's mean cross_entropy: probabilities, minus 1 at the rating, over B."""
    grad = torch.softmax(logits, dim=-1)
    grad.scatter_add_(-1, ratings.unsqueeze(-1), grad.new_full((), -1.0).expand(*ratings.shape, 1))
    return grad.div_(len(logits))


def squared_error(output: Tensor, ratings: Tensor, _: Tensor | None = None) -> Tensor:
    """(output - rating)^2 of a scalar head's output (B, g, 1), summed over the reviews of a list."""
    return (output.squeeze(-1) - ratings).square().sum(-1)


def squared_error_grad(output: Tensor, ratings: Tensor, _: Tensor | None = None) -> Tensor:
    """The gradient of the batch's mean squared_error: 2 (output - rating) / B."""
    return 2 * (output - ratings.unsqueeze(-1)) / len(output)


TRAINING_OBJECTIVES = {  # by head; means over the batch, with closed-form gradients
    "categorical": Objective(cross_entropy, cross_entropy_grad),
    "scalar": Objective(squared_error, squared_error_grad),
}


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

    Where a share e of the comparisons is reversed, its expectation is that of bradley_terry on comparisons without
    noise. It falls without limit in z_i, which only a scalar head lets grow: there it needs the KL penalty.
    Source: rDPO (Chowdhury, Kini and Natarajan 2024, Provably robust DPO), after Natarajan et al. 2013, lemma 1.
    """
    z = margins(logits)
    return -(((1 - flip_rate) * F.logsigmoid(z) - flip_rate * F.logsigmoid(-z)) / (1 - 2 * flip_rate)).sum(-1)


def symmetric_sigmoid(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i sigmoid(-z_i): bounded, and symmetric: l(z) + l(-z) = 1, so uniform flips only scale its mean.

    Not TRL's `sigmoid`, which is bradley_terry. Source: Ghosh, Manwani and Sastry 2015, Making risk minimization
    tolerant to label noise.
    """
    return torch.sigmoid(-margins(logits)).sum(-1)


def dr_dpo(logits: Tensor, ratings: Tensor) -> Tensor:
    """-b log mean_lists exp(-bradley_terry / b), b = 1, the same value for every list: lists that fit badly count less.

    A loss of the whole batch, unlike most; times B it tends to the sum of bradley_terry for large b.
    Source: Wu et al. 2024, Towards robust alignment of language models (Dr. DPO).
    """
    fit = -bradley_terry(logits, ratings) / DR_DPO_TEMPERATURE
    batch = -DR_DPO_TEMPERATURE * (fit.logsumexp(0) - torch.tensor(float(len(fit))).log())
    return batch.expand_as(fit)


def holder_dpo(logits: Tensor, ratings: Tensor) -> Tensor:
    """sum_i [1 - (1 + g) s_i^g + g s_i^(1 + g)], s_i = sigmoid(z_i), g = 2: bounded by 0 and 1 for each margin.

    The gradient -g (1 + g) s^g (1 - s)^2 goes to 0 for a large margin of either sign, so a comparison that the model
    is sure is wrong stops pulling. At g = 2, l(z) + l(-z) = 1, as in symmetric_sigmoid. Source: Fujisawa et al. 2025,
    Scalable valuation of human feedback through provably robust model alignment; its constant is -g, not 1.
    """
    s = torch.sigmoid(margins(logits))
    return (1 - (1 + HOLDER_GAMMA) * s**HOLDER_GAMMA + HOLDER_GAMMA * s ** (1 + HOLDER_GAMMA)).sum(-1)


def re_po(logits: Tensor, ratings: Tensor) -> Tensor:
    """-sum_i [w_i log sigmoid(z_i) + (1 - w_i) log sigmoid(-z_i)], w_i the probability that comparison i is right.

    w = sigmoid(z + logit(eta)), eta the reliability of the batch; no gradient goes through w, so that in z_i is
    sigmoid(z_i) - w_i. A loss of the whole batch, like dr_dpo. Source: Robust Enhanced Policy Optimization (RE-PO,
    ICLR 2026), after Dawid and Skene 1979; here eta comes from the batch alone, not from a moving average.
    """
    z = margins(logits)
    fixed = z.detach()
    right = torch.sigmoid(fixed + torch.logit(reliability(fixed)))  # (B, k)
    return F.binary_cross_entropy_with_logits(z, right, reduction="none").sum(-1)


def reliability(z: Tensor) -> Tensor:
    """The estimated share eta of comparisons that are not reversed, of margins of any shape; a tensor without shape.

    Expectation-maximisation: eta = mean(p eta / (p eta + (1 - p) (1 - eta))), p = sigmoid(z), iterated. It tends to
    the true share where p is the probability of the order before any was reversed. Source: as re_po.
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


def kl_to_reference(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(before || now) between the rating distributions, summed over a list's reviews, (B,).

    `reference` (B, k+1, C) are the log-probabilities of the model before fine-tuning. Of a scalar head it is the output
    (B, k+1, 1), the mean of a normal distribution of variance 1, so that the divergence is (now - before)^2 / 2.
    """
    if is_scalar(logits):
        return (logits - reference).square().sum(dim=(-1, -2)) / 2
    now = torch.log_softmax(logits, dim=-1)
    return (reference.exp() * (reference - now)).sum(dim=(-1, -2))


def preference_objective(
    name: str, loss: Callable[[Tensor, Tensor], Tensor], kl_weight: float, k: int = 1, outputs: int = 3
) -> Objective:
    """A preference loss plus `kl_weight` times the divergence from the model before fine-tuning.

    A step descends the sum over the batch; the gradient is autograd's. Errors: InputError, naming the function,
    where the loss, on lists of k + 1 reviews and a model with so many outputs, fails or returns something else than
    one number per list that depends on the logits.
    """
    check_loss(name, loss, k, outputs)

    def value(logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
        per_list = loss(logits, ratings)
        return per_list if reference is None else per_list + kl_weight * kl_to_reference(logits, reference)

    return Objective(value, partial(preference_grad, value))


def preference_grad(value: Function, logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
    """The gradient of the summed values in the logits (B, k+1, C), by autograd."""
    logits = logits.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(value(logits, ratings, reference).sum(), logits)[0]


def check_loss(name: str, loss: Callable[[Tensor, Tensor], Tensor], k: int = 1, outputs: int = 3) -> None:
    """Try a loss on three lists of k + 1 reviews. Errors: InputError in one line that says what was expected."""
    shape = (3, k + 1, outputs)
    logits = torch.linspace(-1, 1, math.prod(shape)).view(shape).requires_grad_()
    ratings = torch.arange(k, -1, -1).clamp(max=max(outputs - 1, 1)).expand(3, -1)  # best first
    where = f"--loss {name}: the function {name.replace('-', '_')} in noisy_feedback/learning/losses.py"
    try:
        with torch.enable_grad():
            found = loss(logits, ratings)
    except Exception as error:  # a user's own function can fail in any way; it is reported in one line
        raise InputError(f"{where} fails on logits {shape} and ratings {shape[:2]}: {error!r}") from None
    if not isinstance(found, Tensor) or found.shape != (3,) or found.is_complex():
        kind = f"shape {tuple(found.shape)}, {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{where} must return one number per list, a tensor of shape (B,), not {kind}")
    with torch.enable_grad():
        total = found.sum()  # where a gradient is given for each output, autograd imports sympy, which takes a second
    if not found.requires_grad or torch.autograd.grad(total, logits, allow_unused=True)[0] is None:
        raise InputError(f"{where} returns values without a gradient; compute them from the logits, with torch")
