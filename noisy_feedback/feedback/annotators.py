"""How reliable annotators are, from their judgements and what else is known of the orders.

A hidden order for each pair and a reliability for each annotator: Dawid and Skene 1979, *Maximum likelihood estimation
of observer error-rates using the EM algorithm*; for comparisons Crowd-BT, Chen et al. 2013, and RE-PO, ICLR 2026.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, expit, softmax

from noisy_feedback.feedback.difficulty import Pairs, posterior_at

USUAL_RELIABILITY = 0.9  # where RE-PO starts. It counts as one judgement of the mean reliability
RELIABILITIES = (1e-6, 1 - 1e-6)
# Bounds of kappa, how many judgements the mean counts for. The lower leaves any reliability possible; with the upper
# annotators who are all alike count as alike, or their chance differences would be taken for easiness. In intervals
# it is smaller, which keeps few annotators who happen to look alike from being taken for copies of one.
KAPPAS = (2.0, 1000.0)
KAPPA_OF_INTERVALS = 100.0
CONFIDENCE = 0.95
TOLERANCE = 1e-5  # of belief propagation: the largest change of a posterior probability
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Annotators:
    """One entry per annotator, code 0..A-1."""

    judgements: np.ndarray  # (A,)
    reliability: np.ndarray  # (A,) estimated P(a judgement is right), shrunk to the mean
    low: np.ndarray  # (A,) 95 % interval; NaN of a single judgement, which shows nothing of how annotators differ
    high: np.ndarray  # (A,)
    strength: float = np.nan  # how many judgements the mean reliability counts for, in each estimate


def fit_annotators(judged: Pairs, annotators: np.ndarray) -> tuple[np.ndarray, Annotators]:
    """The signed evidence of each judgement (J,), and the annotators (J,), where all pairs are equally easy.

    It starts from the means of the posterior in which all annotators are alike.
    """
    alike = posterior_at(judged)
    weight, sign = softmax(alike.log_weight), np.sign(judged.evidence)
    prior = np.exp(weight @ alike.log_temperature) * judged.prior
    mean, kappa, judgements = float(expit(weight @ alike.level)), KAPPAS[1], np.bincount(annotators)
    right = np.full(len(annotators), mean)
    for _ in range(MAX_ITERATIONS):
        # A judgement counts as its annotator's OTHER judgements deserve: it must not confirm itself, or those of
        # annotators with few judgements seem wrong too often (belief propagation; Liu, Peng and Ihler 2012).
        others_right = (kappa * mean + np.bincount(annotators, right))[annotators] - right
        others_wrong = kappa + judgements[annotators] - 1 - others_right
        evidence = sign * np.log(others_right / others_wrong)
        all_say = (prior + judged.sums(evidence))[judged.pair]  # log-odds of the first item
        previous, right, others = right, expit(sign * all_say), sign * (all_say - evidence)
        mean, kappa = beta_prior(others, annotators, mean, kappa)
        if np.abs(right - previous).max() < TOLERANCE:
            break
    reliability = (kappa * mean + np.bincount(annotators, right)) / (kappa + judgements)
    low, high = intervals(reliability, others, annotators, mean, min(kappa, KAPPA_OF_INTERVALS))
    low[judgements == 1] = high[judgements == 1] = np.nan
    return evidence, Annotators(judgements, reliability, low, high, kappa)


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
    # oscillate near 1.
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
