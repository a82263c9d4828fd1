"""What fine-tuning minimises: the loss that a configuration names, with its flip rate and KL penalty."""

import math
from functools import partial
from inspect import signature

import numpy as np

from noisy_feedback.config import ESTIMATED, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.feedback.simulate import find_function
from noisy_feedback.learning import losses
from noisy_feedback.learning.losses import Objective

MAX_ESTIMATE = 0.45  # the weight of `robust`, 1 / (1 - 2 e), multiplies the error of an estimate: here by 10
MAX_FLIP_RATE = 0.5 - 1e-9  # from one half on, comparisons hold no information, or the opposite


def fine_tuning_objective(
    config: Config, feedback: Feedback, class_priors: np.ndarray, estimated_flip_rate: float = math.nan
) -> Objective:
    """The loss that the configuration names, with its flip rate and its KL penalty.

    `class_priors` (C,) are the shares of the ratings of the training part; they stand for those under the noise. The
    audit's flip rate is used with `--flip-rate estimated`.
    Errors: InputError where `robust` would have to learn from comparisons that hold no information.
    """
    loss = find_function(losses, "loss", config.loss)
    if takes := flip_rate_parameters(config.loss):
        flip_rate, smoothing = flip_rates(config, feedback, class_priors, estimated_flip_rate)
        if config.loss == "robust" and not flip_rate < MAX_FLIP_RATE:
            raise InputError(
                f"--loss robust: a flip rate of {flip_rate:.3g} leaves nothing to learn; it must be below 0.5 "
                "(lower --ratio, or give --flip-rate)"
            )
        given = {"flip_rate": flip_rate, "smoothing": smoothing}
        loss = partial(loss, **{name: given[name] for name in takes})
    outputs = 1 if config.head == "scalar" else len(class_priors)
    return losses.preference_objective(config.loss, loss, config.kl_weight, feedback.lists.shape[1] - 1, outputs)


def flip_rates(
    config: Config, feedback: Feedback, class_priors: np.ndarray, estimated: float = math.nan
) -> tuple[float, float]:
    """The flip rate among pairs of different true ratings, and the share of wrong pairs where a tie is half wrong.

    Both are `--flip-rate` where that is given, or the audit's, MAX_ESTIMATE at most. Errors: InputError where the kind
    of noise has no transition matrix.
    """
    if config.flip_rate == ESTIMATED:
        return min(estimated, MAX_ESTIMATE), min(estimated, MAX_ESTIMATE)
    if isinstance(config.flip_rate, float):
        return config.flip_rate, config.flip_rate
    if config.noise == "reversed":  # its pairs have different true ratings
        # As published, lists are in row order: some neighbours are wrong before any list is reversed.
        in_wrong_order = feedback.ratings[:, :-1] < feedback.ratings[:, 1:]
        q = float(in_wrong_order.mean()) if config.list_order == "row" else 0.0
        rate = q * (1 - config.ratio) + (1 - q) * config.ratio
        return rate, rate
    if config.noise not in noise.TRANSITION_MATRICES:
        raise InputError(
            f"--noise {config.noise} has no transition matrix in noise.py; --loss {config.loss} needs one, "
            "or --flip-rate"
        )
    matrix = noise.TRANSITION_MATRICES[config.noise](config.ratio, len(class_priors))
    neighbours = np.stack([feedback.ratings[:, :-1].ravel(), feedback.ratings[:, 1:].ravel()], axis=1)
    return noise.flip_rates(matrix, class_priors, neighbours)


def flip_rate_parameters(loss: str) -> set[str]:
    """The parameters of this loss that receive a flip rate."""
    return {"flip_rate", "smoothing"} & set(signature(find_function(losses, "loss", loss)).parameters)
