"""Which comparisons are wrong, estimated without the truth.

The model of a judgement is in difficulty.py, that of annotators in annotators.py; here are the calibration of the
rating model, and what follows for the comparisons.

Easy and misleading pairs look alike to the votes; only a model that was calibrated on known orders tells them apart.
Without one, and with several judgements of each pair, the flip rate is what independent errors imply, the least that is
possible, and its interval also holds what hidden easiness allows. One judgement of each pair shows how often people err
only as far as the model is sure of the order: for the pairs that it is unsure of, the interval is wide.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, softmax

from noisy_feedback.feedback.annotators import Annotators, fit_annotators
from noisy_feedback.feedback.comparisons import Feedback, adjacent_pairs
from noisy_feedback.feedback.difficulty import (
    Pairs,
    Posterior,
    posterior_of_changing_easiness,
    posterior_of_hidden_easiness,
)
from noisy_feedback.metrics import pairwise_accuracy

TEMPERATURES = (0.05, 100.0)
UNKNOWN_TEMPERATURE = 1.0  # prior standard deviation of the log temperature where no order is known
CALIBRATED = 0.3  # a smaller standard deviation counts as a known calibration
REPEATED = 3  # judgements of a pair that show how easy it is, where most judgements are of such pairs
WIDEST = 0.2  # where the interval of the flip rate is wider, the flip rate is not known
REPEATED_SHARE = 0.1  # of the judgements must be further ones of a pair, where no known order calibrates the model
EXCLUDED = 0.01  # as improbable, independent errors count as excluded; else the interval holds what they imply
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """What is known about R claimed orders without the truth."""

    p_wrong: np.ndarray  # (R,) posterior probability that an order is wrong
    estimated_flip_rate: float  # share of wrong orders
    flip_rate_low: float  # 95 % interval
    flip_rate_high: float
    known: bool  # False: the flip rate cannot be told from these judgements
    annotators: Annotators | None  # of all judgements


def p_better(output: np.ndarray, better: np.ndarray, worse: np.ndarray, temperature: float) -> np.ndarray:
    """P(rating of better > rating of worse | they differ), (J,), the two texts taken as independent.

    `output` (n, C) are predicted distributions, raised to 1 / temperature and normalised (Guo et al. 2017), or a scalar
    head's (n, 1): then sigmoid(margin / temperature). `better` and `worse` (J,) are rows of it. 0.5 where both are sure
    of the same rating.
    """
    if output.shape[1] == 1:
        return expit((output[better, 0] - output[worse, 0]) / temperature)
    tempered = (output / output.max(axis=1, keepdims=True)) ** (1 / temperature)
    tempered /= tempered.sum(axis=1, keepdims=True)
    below = tempered.cumsum(axis=1)[:, :-1]  # (n, C-1): P(rating < 1), P(rating < 2), ...
    higher = (tempered[better, 1:] * below[worse]).sum(axis=1)
    lower = (tempered[worse, 1:] * below[better]).sum(axis=1)
    differ = higher + lower
    return np.where(differ > 0, higher / np.where(differ > 0, differ, 1), 0.5)


def fit_temperature(output: np.ndarray, better: np.ndarray, worse: np.ndarray) -> float:
    """The temperature that makes `p_better` most likely on pairs whose order is known; 1 where there is no pair."""
    if not len(better):
        return 1.0
    from scipy.optimize import minimize_scalar  # a fifth of a second, which a sweep's main process does without

    def cross_entropy(log_temperature: float) -> float:
        return -float(np.log(p_better(output, better, worse, np.exp(log_temperature)).clip(1e-12)).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(TEMPERATURES), method="bounded").x))


def audit_feedback(feedback: Feedback, output: np.ndarray, temperature: float, calibration_pairs: int) -> Audit:
    """Which comparisons are wrong, as the model before fine-tuning and all judgements together say, without the truth.

    `output` (n, C or 1) is the model's of all texts; `temperature` was fitted on `calibration_pairs` known orders.
    """
    judged = feedback.judged or feedback
    better, worse = adjacent_pairs(judged.lists).T
    rows = None
    if feedback.judged is not None:  # one that says the same order
        orders = np.concatenate([np.column_stack([np.asarray(of.pairs), of.lists]) for of in (judged, feedback)])
        _, row, order = np.unique(orders, axis=0, return_index=True, return_inverse=True)
        rows = row[order[len(better) :]]
    prior = p_better(output, better, worse, temperature)
    return audit_comparisons(prior, better, judged.pairs, judged.annotators, rows, calibration_pairs)


def audit_comparisons(
    p_better: np.ndarray,
    better: np.ndarray,
    pairs: np.ndarray | None = None,
    annotators: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    calibration_pairs: float = np.inf,
) -> Audit:
    """The probability that each claimed order is wrong, from the model and from all judgements.

    `p_better` (J,) is the model's probability that the preferred item is the better one; `better` (J,) the item that a
    judgement prefers, `pairs` (J,) say which judgements are of the same two items (default: none are), `annotators`
    (J,) are codes from 0 (default: all judgements are equally reliable). `rows` (R,) are the judgements that claim
    orders (default: all): for majorities one of each pair that agrees with its majority. `calibration_pairs` is the
    number of known orders on which the temperature was fitted (default: the probabilities are exact).
    """
    prior = logit(np.asarray(p_better, float).clip(1e-9, 1 - 1e-9))
    pairs = np.arange(len(better)) if pairs is None else pairs
    rows = np.arange(len(better)) if rows is None else rows
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    # A judgement speaks for (1) or against (-1) the first item, which the first judgement of its pair prefers.
    sign, judgements = np.where(better == better[first][pair], 1.0, -1.0), np.bincount(pair)
    pair_prior, by_pair = np.bincount(pair, sign * prior) / judgements, np.argsort(pair, kind="stable")
    sd = temperature_sd(pair_prior, calibration_pairs)
    net = np.bincount(pair[rows], sign[rows], len(first))
    judged, of_annotators = Pairs(pair_prior, net, pair[by_pair], sign[by_pair], sd), None
    if annotators is not None:
        evidence, of_annotators = fit_annotators(judged, annotators[by_pair])
        judged = judged._replace(evidence=evidence)
    hidden = judgements[judgements >= REPEATED].sum() > len(pair) / 2
    found = posterior_of_hidden_easiness(judged) if hidden else posterior_of_changing_easiness(judged)
    rate, low, high = flip_rate(found, len(rows))
    if hidden:
        of_independent = flip_rate(found, len(rows), found.independent)
        if sd >= CALIBRATED:
            rate, low, _ = of_independent
            high = max(high, flip_rate(found, len(rows), ~found.independent)[2])
        elif softmax(found.log_weight)[found.independent].sum() > EXCLUDED:
            low = min(low, of_independent[1])
    further = len(pair) - len(first)
    known = bool(high - low <= WIDEST and (sd < CALIBRATED or further >= REPEATED_SHARE * len(pair)))
    p_wrong = np.abs((sign[rows] > 0) - found.p_first[pair[rows]])
    return Audit(p_wrong, rate, low, high, known, of_annotators)


def audit_scores(p_wrong: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """How well p_wrong (J,) finds the judgements that are wrong (J,): 1, 0, or another where there is no truth.

    Returns the area under the ROC curve, and the precision among as many judgements as are wrong, where equal
    probabilities are taken in random order. NaN where not defined.
    """
    known = np.isin(wrong, (0, 1))
    p, truth = p_wrong[known], wrong[known].astype(int)
    count = truth.sum()
    if count == 0:
        return float("nan"), float("nan")
    threshold = np.sort(p)[-count]
    above, equal = p > threshold, p == threshold
    found = truth[above].sum() + (count - above.sum()) * truth[equal].mean()
    return pairwise_accuracy(p, truth), float(found / count)


def temperature_sd(prior: np.ndarray, calibration_pairs: float) -> float:
    """Standard deviation of the log temperature; pairs with such log-odds have this Fisher information of it."""
    information = float((prior**2 * expit(prior) * expit(-prior)).mean())
    known = calibration_pairs * information if information else 0.0
    return (known + UNKNOWN_TEMPERATURE**-2) ** -0.5


def flip_rate(found: Posterior, claims: int, where: np.ndarray | bool = True) -> tuple[float, float, float]:
    """The share of wrong claimed orders and its 95 % interval: a mixture of normal distributions, one at each point.

    `where` (S,) says which points count.
    """
    weight = softmax(np.where(where, found.log_weight, -np.inf))
    likely = weight > 1e-6 * weight.max()
    weight, rate = weight[likely] / weight[likely].sum(), (1 - found.gain[likely] / claims) / 2
    sd = np.sqrt(found.variance[likely]) / claims + 1e-6
    rates = np.linspace((rate - 6 * sd).min(), (rate + 6 * sd).max(), 501)
    below = ndtr((rates[:, None] - rate) / sd) @ weight
    low, high = np.interp([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], below, rates).clip(0, 1)
    return float(weight @ rate), float(low), float(high)
