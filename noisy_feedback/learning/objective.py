"""What training and fine-tuning minimise: values per list, and the gradient in the logits that a step descends."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from noisy_feedback.config import ADAPTIVE, ESTIMATED, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback, adjacent_pairs
from noisy_feedback.learning.losses import LOSS_FUNCTIONS, bradley_terry, margins
from noisy_feedback.learning.model import is_scalar

# logits (B, g, C), ratings (B, g), reference (B, g, C) or None -> one value per list (B,), or a gradient (B, g, C)
Function = Callable[[Tensor, Tensor, Tensor | None], Tensor]
MAX_ESTIMATE = 0.45  # the weight of `robust`, 1 / (1 - 2 e), multiplies the error of an estimate: here by 10
KL_BASE, KL_POWER = 0.1, 1.0  # of the adaptive KL weight: chosen by experiments/choice.py
MAX_FLIP_RATE = 0.5 - 1e-9  # from one half on, comparisons hold no information, or the opposite


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


def pairwise_logistic_grad(output: Tensor, ratings: Tensor, _: Tensor | None = None) -> Tensor:
    """The gradient of the batch's mean bradley_terry of pairs: -sigmoid(-z) / B of the better output, + of the worse.

    With the outputs (B, 2, 1) of a scalar head, bradley_terry is TRL's loss of a reward model.
    """
    grad = torch.sigmoid(-margins(output)) / len(output)  # (B, 1)
    return torch.stack([-grad, grad], dim=1)


TRAINING_OBJECTIVES = {  # by head, or of comparisons alone; means over the batch, with closed-form gradients
    "categorical": Objective(cross_entropy, cross_entropy_grad),
    "scalar": Objective(squared_error, squared_error_grad),
    "comparisons": Objective(lambda output, ratings, _: bradley_terry(output, ratings), pairwise_logistic_grad),
}


def fine_tuning_objective(
    config: Config, feedback: Feedback, class_priors: np.ndarray, audit: Audit | None = None
) -> Objective:
    """The loss that the configuration names, with its flip rate, plus its KL penalty; the gradient is autograd's.

    A step descends the sum over the batch. `class_priors` (C,) are the shares of the training part's ratings, taken for
    those under the noise. The audit gives the flip rate that is `estimated`. Errors: InputError where the loss needs it
    and it is not known, where `robust` would learn from comparisons that hold no information, or the loss is none
    (`check_loss`).
    """
    loss, parameter = LOSS_FUNCTIONS[config.loss]
    kl_weight = math.inf if config.kl_weight == ADAPTIVE else float(config.kl_weight)  # infinite: there is no epoch
    if parameter:
        estimated = audit.estimated_flip_rate if audit is not None and audit.known else math.nan
        if config.flip_rate == ESTIMATED and math.isnan(estimated):
            raise InputError(
                f"--flip-rate {ESTIMATED}: these judgements do not tell the flip rate, which --loss {config.loss} "
                "needs. What helps: a second judgement of some pairs, rated texts of the same kind, or a number for "
                "--flip-rate"
            )
        rates = flip_rates(config, feedback, class_priors, estimated)
        rate = dict(zip(("flip_rate", "smoothing"), rates, strict=True))[parameter]
        if config.loss == "robust" and not rate < MAX_FLIP_RATE:
            raise InputError(
                f"--loss robust: a flip rate of {rate:.3g} leaves nothing to learn; it must be below 0.5 "
                "(lower --ratio, or give --flip-rate)"
            )
        loss = partial(loss, **{parameter: rate})
    check_loss(config.loss, loss, feedback.lists.shape[1] - 1, 1 if config.head == "scalar" else len(class_priors))

    def value(logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
        per_list = loss(logits, ratings)
        return per_list if reference is None else per_list + kl_weight * kl_to_reference(logits, reference)

    @torch.enable_grad()
    def gradient(logits: Tensor, ratings: Tensor, reference: Tensor | None) -> Tensor:
        logits = logits.detach().requires_grad_()
        return torch.autograd.grad(value(logits, ratings, reference).sum(), logits)[0]

    return Objective(value, gradient)


def flip_rates(
    config: Config, feedback: Feedback, class_priors: np.ndarray, estimated: float = math.nan
) -> tuple[float, float]:
    """The flip rate among pairs of different true ratings, and the share of wrong pairs where a tie is half wrong.

    Both are `--flip-rate` where that is given, or the audit's, MAX_ESTIMATE at most. Errors: InputError where the kind
    of noise has no transition matrix.
    """
    given = min(estimated, MAX_ESTIMATE) if config.flip_rate == ESTIMATED else config.flip_rate
    if isinstance(given, float):
        return given, given
    claimed = adjacent_pairs(feedback.ratings)
    if config.noise == "reversed":  # its pairs have different true ratings
        # As published, lists are in row order: some pairs are in wrong order before any list is reversed.
        q = float((claimed[:, 0] < claimed[:, 1]).mean()) if config.list_order == "row" else 0.0
        rate = q * (1 - config.ratio) + (1 - q) * config.ratio
        return rate, rate
    if (matrix := noise.RATING_NOISE[config.noise].matrix) is None:
        needs = f"--loss {config.loss} needs one, or --flip-rate"
        raise InputError(f"--noise {config.noise} has no transition matrix in noise.py; {needs}")
    return noise.expected_flip_rates(matrix(config.ratio, len(class_priors)), class_priors, claimed)


def resolve_kl_weight(config: Config, audit: Audit) -> Config:
    """The same run with the adaptive KL weight as a number; without fine-tuning epochs where that is infinite.

    It supposes the upper limit of the audit's interval, so that what is not known makes the weight larger.
    """
    if config.kl_weight != ADAPTIVE:
        return config
    weight = adaptive_kl_weight(audit.flip_rate_high)
    return replace(config, kl_weight=weight) if math.isfinite(weight) else replace(config, epochs_f=0)


def adaptive_kl_weight(flip_rate: float, base: float = KL_BASE, power: float = KL_POWER) -> float:
    """base / (1 - 2 flip_rate)^power: the KL weight of `--kl-weight adaptive`; infinite from one half on.

    A comparison that is wrong with probability e pulls, on average, with 1 - 2 e of the force of a right one, while its
    random part stays as large: the more are wrong, the stronger the penalty should be.
    """
    return base / (1 - 2 * flip_rate) ** power if flip_rate < 0.5 else math.inf


def kl_to_reference(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(before || now) between the rating distributions, summed over a list's reviews, (B,).

    `reference` (B, k+1, C) are the log-probabilities of the model before fine-tuning. Of a scalar head it is the output
    (B, k+1, 1), the mean of a normal distribution of variance 1, so that the divergence is (now - before)^2 / 2.
    """
    if is_scalar(logits):
        return (logits - reference).square().sum(dim=(-1, -2)) / 2
    now = torch.log_softmax(logits, dim=-1)
    return (reference.exp() * (reference - now)).sum(dim=(-1, -2))


@torch.enable_grad()
def check_loss(name: str, loss: Callable[..., Tensor], k: int, outputs: int) -> None:
    """Try a loss on three lists of k + 1 reviews. Errors: InputError in one line that says what was expected."""
    shape = (3, k + 1, outputs)
    logits = torch.linspace(-1, 1, math.prod(shape)).view(shape).requires_grad_()
    ratings = torch.arange(k, -1, -1).clamp(max=max(outputs - 1, 1)).expand(3, -1)  # best first
    where = f"--loss {name}: the function {name.replace('-', '_')} in noisy_feedback/learning/losses.py"
    try:
        found = loss(logits, ratings)
    except Exception as error:  # a user's own function can fail in any way; it is reported in one line
        raise InputError(f"{where} fails on logits {shape} and ratings {shape[:2]}: {error!r}") from None
    if not isinstance(found, Tensor) or found.shape != (3,) or found.is_complex():
        kind = f"shape {tuple(found.shape)}, {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{where} must return one number per list, a tensor of shape (B,), not {kind}")
    # Of the sum: where a gradient is given for each output, autograd imports sympy, which takes a second.
    if not found.requires_grad or torch.autograd.grad(found.sum(), logits, allow_unused=True)[0] is None:
        raise InputError(f"{where} returns values without a gradient; compute them from the logits, with torch")
