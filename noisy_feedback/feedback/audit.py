"""Which comparisons are wrong, estimated without the truth.

The order of each pair is hidden. The model's calibrated probability is its prior; each judgement of the pair is right
with the probability of its annotator, the reliability. Source: Dawid and Skene 1979, *Maximum likelihood estimation of
observer error-rates using the EM algorithm*; for comparisons Crowd-BT (Chen et al. 2013) and RE-PO (ICLR 2026).

The prior must be calibrated (`fit_temperature`): a model that is too sure takes its own mistakes for wrong judgements,
one that is not sure enough takes wrong judgements for its own mistakes, and the judgements do not tell which. Where
people err more often the less sure the model is, one judgement of each pair shows too low a flip rate; several show it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.evaluation.metrics import pairwise_accuracy
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.feedback.protocols import known_pairs

TEMPERATURES = (0.05, 100.0)
USUAL_RELIABILITY = 0.9  # where RE-PO starts. It counts as one judgement, and decides where there is no information
RELIABILITIES = (1e-6, 1 - 1e-6)
# Bounds of kappa, how many judgements the mean counts for. The lower leaves any reliability possible; the upper
# keeps few annotators who happen to look alike from being taken for copies of one.
KAPPAS = (2.0, 100.0)
CONFIDENCE = 0.95
TOLERANCE = 1e-5  # of EM: the largest change of a posterior probability
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Annotators:
    """One entry per annotator, code 0..A-1."""

    judgements: np.ndarray  # (A,)
    reliability: np.ndarray  # (A,) estimated P(a judgement is right), shrunk to the mean
    low: np.ndarray  # (A,) 95 % interval
    high: np.ndarray  # (A,)


@dataclass(frozen=True)
class Audit:
    """What is known about J judgements without the truth."""

    p_wrong: np.ndarray  # (J,) posterior probability that a judgement is wrong
    estimated_flip_rate: float  # share of wrong judgements
    annotators: Annotators | None


def p_better(output: np.ndarray, better: np.ndarray, worse: np.ndarray, temperature: float) -> np.ndarray:
    """P(rating of better > rating of worse | they differ), (J,), the two texts taken as independent.

    `output` (n, C) are predicted distributions, raised to 1 / temperature and normalised (Guo et al. 2017), or a scalar
    head's (n, 1): then sigmoid(margin / temperature). `better` and `worse` (J,) are rows of it. 0.5 where both are sure
    of the same rating.
    """
    if output.shape[1] == 1:
        return sigmoid((output[better, 0] - output[worse, 0]) / temperature)
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

    def log_likelihood(log_temperature: float) -> float:
        return float(np.log(p_better(output, better, worse, np.exp(log_temperature)).clip(1e-12)).mean())

    return float(np.exp(maximise(log_likelihood, *np.log(TEMPERATURES))))


def calibrate(config: Config, output: np.ndarray, ratings: np.ndarray, scale: np.ndarray) -> float:
    """The temperature for a model's output (n, C or 1) on reviews with known ratings (n,): those of validation."""
    return fit_temperature(output, *known_pairs(config, ratings, scale).T)


def audit_feedback(feedback: Feedback, output: np.ndarray, temperature: float) -> Audit:
    """Which comparisons are wrong, as the model before fine-tuning and the annotators together say, without the truth.

    `output` (n, C or 1) is the model's of all texts.
    """
    better, worse = feedback.adjacent_pairs()
    return audit_comparisons(p_better(output, better, worse, temperature), better, feedback.pairs, feedback.annotators)


def audit_margins(feedback: Feedback, margins: np.ndarray) -> Audit:
    """The audit of human comparisons by margins (J,) of models that were not trained on them.

    The temperature is that at which the margins best predict the judgements: no true order is known.
    """
    output = np.append(margins, 0)[:, None]
    better, worse = np.arange(len(margins)), np.full(len(margins), len(margins))
    prior = p_better(output, better, worse, fit_temperature(output, better, worse))
    return audit_comparisons(prior, feedback.lists[:, 0], feedback.pairs, feedback.annotators)


def audit_comparisons(
    p_better: np.ndarray, better: np.ndarray, pairs: np.ndarray | None = None, annotators: np.ndarray | None = None
) -> Audit:
    """The probability that each judgement is wrong, from a calibrated model and from the other judgements.

    `p_better` (J,) is the model's probability that the preferred item is the better one; `better` (J,) the item that a
    judgement prefers, `pairs` (J,) say which judgements are of the same two items (default: none are), `annotators`
    (J,) are codes from 0 (default: all judgements are equally reliable).
    """
    prior = logit(np.asarray(p_better, float).clip(1e-9, 1 - 1e-9))
    pairs = np.arange(len(better)) if pairs is None else pairs
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    # A judgement speaks for (1) or against (-1) the item that the first judgement of its pair prefers.
    sign = np.where(better == better[first][pair], 1.0, -1.0)
    pair_prior = np.bincount(pair, sign * prior) / np.bincount(pair)  # (G,)

    def of_others(evidence: np.ndarray) -> np.ndarray:
        """Log-odds that each judgement is right, (J,), from the prior and the other judgements of its pair."""
        return sign * (pair_prior + np.bincount(pair, sign * evidence))[pair] - evidence

    shared = shared_reliability(pair_prior, np.bincount(pair, sign), len(better))
    if annotators is None:
        evidence = np.full(len(better), logit(shared))
        p_wrong = sigmoid(-evidence - of_others(evidence))
        return Audit(p_wrong, float(p_wrong.mean()), None)

    judgements = np.bincount(annotators)
    mean, kappa, right = shared, KAPPAS[1], np.full(len(better), shared)
    for _ in range(MAX_ITERATIONS):
        known_right = kappa * mean + np.bincount(annotators, right)
        # A judgement counts as its annotator's OTHER judgements deserve: it must not confirm itself, or those of
        # annotators with few judgements seem wrong too often (belief propagation; Liu, Peng and Ihler 2012).
        evidence = logit((known_right[annotators] - right) / (kappa + judgements[annotators] - 1))
        others = of_others(evidence)
        previous, right = right, sigmoid(others + evidence)
        mean, kappa = beta_prior(others, annotators, mean, kappa)
        if np.abs(right - previous).max() < TOLERANCE:
            break
    reliability = (kappa * mean + np.bincount(annotators, right)) / (kappa + judgements)
    low, high = intervals(reliability, others, annotators, mean, kappa)
    return Audit(1 - right, float(1 - right.mean()), Annotators(judgements, reliability, low, high))


def audit_scores(p_wrong: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """How well p_wrong (J,) finds the judgements that are wrong (J,): 1, 0, or NaN where unknown.

    Returns the area under the ROC curve, and the precision among as many judgements as are wrong, where equal
    probabilities are taken in random order. NaN where not defined.
    """
    known = ~np.isnan(wrong)
    p, truth = p_wrong[known], wrong[known].astype(int)
    count = truth.sum()
    if count == 0:
        return float("nan"), float("nan")
    threshold = np.sort(p)[-count]
    above, equal = p > threshold, p == threshold
    found = truth[above].sum() + (count - above.sum()) * truth[equal].mean()
    return pairwise_accuracy(p, truth), float(found / count)


def shared_reliability(pair_prior: np.ndarray, net: np.ndarray, judgements: int) -> float:
    """The reliability of all judgements alike, by maximum likelihood.

    `pair_prior` (G,) are log-odds for one item of each pair, `net` (G,) its judgements for less those against. A grid,
    and not EM: with several judgements of a pair the likelihood can have two maxima, r and 1 - r, and with few wrong
    judgements EM is slow.
    """

    def log_likelihood(log_odds: float) -> float:
        log_right, log_wrong = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)
        pairs = np.logaddexp(0, pair_prior + log_odds * net).sum() - log_odds / 2 * net.sum()
        usual = USUAL_RELIABILITY * log_right + (1 - USUAL_RELIABILITY) * log_wrong
        return float(pairs + judgements / 2 * (log_right + log_wrong) + usual)

    return float(sigmoid(maximise(log_likelihood, *logit(np.array(RELIABILITIES)))))


def beta_prior(others: np.ndarray, annotators: np.ndarray, mean: float, kappa: float) -> tuple[float, float]:
    """The distribution of reliabilities, Beta(kappa mean, kappa (1 - mean)): a better mean and kappa, by moments.

    At the mean, the score S of an annotator has expectation I (r - mean), I the Fisher information, and the product of
    the scores of two of its judgements s_i s_j has expectation variance * I_i I_j. Each annotator counts by how well it
    is known, 1 / (variance + 1 / I). With orders that are known (others = +-infinity) these are the reweighted
    moments of a beta-binomial distribution with unequal n (Kleinman 1973, *Proportions with extraneous variance*).
    """
    score, information = score_and_information(others, mean)
    of_annotator, known = np.bincount(annotators, score), np.bincount(annotators, information)
    spread = mean * (1 - mean)
    weight = 1 / (1 + spread / (kappa + 1) * known)
    products = float(weight**2 @ (of_annotator**2 - np.bincount(annotators, score**2)))
    expected = float(weight**2 @ (known**2 - np.bincount(annotators, information**2)))
    kappa = spread * expected / products - 1 if products > 0 else KAPPAS[1]
    # A step of EM: mean + spread * s is the posterior, at the mean, that a judgement is right. Fisher scoring can
    # go to and fro for ever near 1.
    step = spread * (weight @ of_annotator) + USUAL_RELIABILITY - mean
    mean += float(step / (weight @ np.bincount(annotators) + 1))
    return float(np.clip(mean, *RELIABILITIES)), float(np.clip(kappa, *KAPPAS))


def intervals(
    reliability: np.ndarray, others: np.ndarray, annotators: np.ndarray, mean: float, kappa: float
) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of the reliabilities (A,): those of beta distributions with their means and variances.

    A judgement whose order is certain counts as one; where the order is uncertain it counts as its Fisher information
    relative to that. The uncertainty of the mean, which annotators with few judgements share, is added.
    """
    from scipy.special import betaincinv

    spread = reliability * (1 - reliability)
    information = np.bincount(annotators, score_and_information(others, reliability[annotators])[1])
    count = kappa + information * spread
    spread_at_mean = mean * (1 - mean)
    precision = 1 / spread_at_mean + (information / (1 + spread_at_mean / (kappa + 1) * information)).sum()
    count = 1 / (1 / count + (kappa / count) ** 2 / (precision * spread))
    tail = (1 - CONFIDENCE) / 2
    right, wrong = reliability * count, (1 - reliability) * count
    low, high = betaincinv(right, wrong, tail), betaincinv(right, wrong, 1 - tail)
    return np.minimum(low, reliability), np.maximum(high, reliability)  # a mean near 0 or 1 may lie outside


def score_and_information(others: np.ndarray, reliability: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of each judgement's log-likelihood by the reliability r of its annotator, and its variance, (J,).

    `others` (J,) are the log-odds that it is right without its own evidence; the likelihood is, with
    pi = sigmoid(others), r pi + (1 - r)(1 - pi).
    """
    derivative = np.tanh(others / 2)  # 2 pi - 1
    likelihood = np.clip(0.5 + (reliability - 0.5) * derivative, *RELIABILITIES)
    return derivative / likelihood, derivative**2 / (likelihood * (1 - likelihood))


def maximise(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function is largest between low and high: a grid, then finer grids around its best point."""
    for _ in range(4):
        grid = np.linspace(low, high, 25)
        best = int(np.argmax([function(x) for x in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(grid[best])


def logit(p: np.ndarray | float) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2  # without overflow
