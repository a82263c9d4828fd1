"""What judgements say of the order of each pair, where some pairs are harder to judge than others.

Hidden are the order of a pair, and how easy it is to judge. A judgement is right with log-odds easiness * evidence of
its annotator (GLAD: Whitehill et al. 2009, *Whose vote should count more*). The prior of the order is the model's
log-odds times a temperature. Neither the temperature nor the distribution of easiness is known: the posterior is
computed at all points of a grid of them, so that what the judgements do not show makes the flip rate uncertain.

Several judgements of a pair show how easy it is. A single one does not, but easiness may change with how sure the model
is of a pair: random_walk.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammainc, logsumexp, softmax

# Easiness has the mean `level` and one of these coefficients of variation (a gamma distribution). Shares of the pairs
# are misleading: their easiness is MISLEADING * level, so that most people are wrong.
SPREADS = (0.0, 0.3, 0.5, 0.65, 0.8, 1.0)
MISLEADING = np.array([-0.25, -0.75])
SHARES = np.array([(a, b) for a in (0, 3, 7, 11, 16, 22) for b in (0, 3, 7, 11, 16, 22) if a + b <= 30]) / 100  # (H, 2)
NO_SPREAD, NO_MISLEADING = 0.8, 0.5  # prior probabilities
EXCHANGED = 0.01  # that the level is negative
MAX_LEVEL = 6.0  # at most 99.75 % of the judgements are right
STEP = 0.2
EASINESS = np.arange(-45, 46) * STEP  # (E,) a distribution of easiness has weights at these points
LIKELY = 0.001  # of the largest weight: where the grid is made finer
REFINEMENTS = 8


class Pairs(NamedTuple):
    """N pairs of a first and a second item, and J judgements in the order of the pairs."""

    prior: np.ndarray  # (N,) the model's log-odds that the first item is better
    net: np.ndarray  # (N,) claimed orders for the first item, less those for the second
    pair: np.ndarray  # (J,) 0..N-1, ascending
    evidence: np.ndarray  # (J,) log-odds that a judgement is right at easiness 1, negative if it prefers the second
    temperature_sd: float  # prior standard deviation of the log temperature

    def sums(self, of_judgements: np.ndarray) -> np.ndarray:
        """Sums over the judgements of each pair, (..., J) to (..., N)."""
        if len(self.pair) == len(self.prior):  # one each: summing takes a fifth of the audit
            return of_judgements
        return np.add.reduceat(of_judgements, np.flatnonzero(np.diff(self.pair, prepend=-1)), axis=-1)

    def select(self, rows: np.ndarray) -> "Pairs":
        """The pairs with these numbers, ascending."""
        own = np.isin(self.pair, rows)
        pair, evidence = np.searchsorted(rows, self.pair[own]), self.evidence[own]
        return self._replace(prior=self.prior[rows], net=self.net[rows], pair=pair, evidence=evidence)

    def gain(self, p_first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected right less wrong claimed orders, and the variance of the number of right ones, of P (..., N)."""
        return 2 * p_first @ self.net - self.net.sum(), (p_first * (1 - p_first)) @ self.net**2


class Likelihood(NamedTuple):
    """Of the judgements of N pairs, by their easiness, at K points."""

    if_first: np.ndarray  # (K, N) if the first item is better
    if_second: np.ndarray  # (K, N)
    log_scale: np.ndarray  # (N,) both are divided by


class Posterior(NamedTuple):
    """Of the parameters, S points on a grid, and of the orders."""

    parameters: np.ndarray  # (S, 5) level, spread, two shares, log temperature
    log_weight: np.ndarray  # (S,) not normalised
    gain: np.ndarray  # (S,) expected right less wrong claimed orders
    variance: np.ndarray  # (S,) of the number of right claimed orders
    p_first: np.ndarray  # (N,) P(the first item is better)


def posterior_of_equal_easiness(pairs: Pairs) -> Posterior:
    """The parameters and the orders, given the judgements, where all pairs are as easy to judge."""
    return posterior_at(pairs, likelihood(pairs, EASINESS[:1]), SPREADS[0], SHARES[:1])


def posterior_of_hidden_easiness(pairs: Pairs) -> Posterior:
    """The same, where easiness is hidden: for pairs with several judgements.

    Where the model says nothing of any pair, nothing could show a misleading one: then there are none.
    """
    shares, table = SHARES if pairs.prior.any() else SHARES[:1], likelihood(pairs, EASINESS)
    return mixture([posterior_at(pairs, table, spread, shares) for spread in SPREADS])


def mixture(parts: Sequence[Posterior]) -> Posterior:
    """The posterior whose parameters are any of those of the parts."""
    parameters, log_weight, gain, variance = (np.concatenate([part[i] for part in parts]) for i in range(4))
    of_part = softmax([logsumexp(part.log_weight) for part in parts])
    return Posterior(parameters, log_weight, gain, variance, of_part @ [part.p_first for part in parts])


def posterior_at(pairs: Pairs, table: Likelihood, spread: float, shares: np.ndarray) -> Posterior:
    """The posterior at one spread."""
    levels, temperatures = np.linspace(-MAX_LEVEL, MAX_LEVEL, 13), first_temperatures(pairs)
    for _ in range(REFINEMENTS):
        prior = tempered(pairs, temperatures)
        at = [log_likelihood(pairs, table, level, spread, shares[::7], prior)[0] for level in levels]
        at += np.log(np.where(levels < 0, EXCHANGED, 1 - EXCHANGED))[:, None, None] - temperatures**2 / 2
        weight = np.exp(at - np.max(at))  # (levels, H, temperatures)
        levels, fine = refined(levels, weight.sum(axis=(1, 2)))
        temperatures, also = refined(temperatures, weight.sum(axis=(0, 1)))
        if fine and also:
            break
    prior = tempered(pairs, temperatures)
    log_prior = np.log(np.where(shares.any(axis=1), (1 - NO_MISLEADING) / (len(SHARES) - 1), NO_MISLEADING))[:, None]
    log_prior = log_prior + np.log((1 - NO_SPREAD) / (len(SPREADS) - 1) if spread else NO_SPREAD)
    log_prior = log_prior - temperatures**2 / 2 + log_widths(temperatures)
    points, p_first = [], []
    for level, log_width in zip(levels, log_widths(levels), strict=True):
        log_weight, p = log_likelihood(pairs, table, level, spread, shares, prior)
        log_weight += log_prior + log_width + np.log(EXCHANGED if level < 0 else 1 - EXCHANGED)
        columns = (level, spread, *shares.T[..., None], pairs.temperature_sd * temperatures, log_weight)
        points.append(np.stack(np.broadcast_arrays(*columns, *pairs.gain(p)), axis=-1).reshape(-1, 8))
        p_first.append(np.tensordot(softmax(log_weight), p, 2))
    grid = np.concatenate(points)
    of_level = softmax([logsumexp(part[:, 5]) for part in points])
    return Posterior(grid[:, :5], grid[:, 5], grid[:, 6], grid[:, 7], of_level @ p_first)


def first_temperatures(pairs: Pairs) -> np.ndarray:
    """Logarithms of temperatures (T,), in standard deviations, before the grid is refined."""
    return np.linspace(-2.5, 2.5, 5) if pairs.temperature_sd and pairs.prior.any() else np.zeros(1)


def tempered(pairs: Pairs, temperatures: np.ndarray) -> np.ndarray:
    """The model's P(the first item is better), (T, N), at these temperatures (T,)."""
    return sigmoid(np.multiply.outer(np.exp(pairs.temperature_sd * temperatures), pairs.prior))


def log_widths(axis: np.ndarray) -> np.ndarray:
    """The logarithms of the weights that the points of an axis have in an integral (trapezoidal rule)."""
    if len(axis) == 1:
        return np.zeros(1)
    return np.log(np.diff(np.concatenate([axis[:1], (axis[1:] + axis[:-1]) / 2, axis[-1:]])))


def refined(axis: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, bool]:
    """As many points, where the weight is; and whether they were there already."""
    kept = np.flatnonzero(weight > LIKELY * weight.max())
    if len(axis) == 1 or len(kept) >= len(axis) / 2:
        return axis, True
    return np.linspace(axis[max(kept[0] - 1, 0)], axis[min(kept[-1] + 1, len(axis) - 1)], len(axis)), False


def log_likelihood(
    pairs: Pairs, table: Likelihood, level: float, spread: float, shares: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm (H, T), and P(the first item is better) (H, T, N), at shares (H, 2) and a prior (T, N) of it."""
    points, weights = easiness(level, spread, shares)
    found = table if spread else likelihood(pairs, points)
    first = (weights @ found.if_first)[:, None] * prior
    both = first + (weights @ found.if_second)[:, None] * (1 - prior)
    return np.log(both).sum(axis=-1) + found.log_scale.sum(), first / both


def log_likelihood_of_level(pairs: Pairs, level: float, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same (T,) and (T, N), where all pairs are as easy."""
    log_fit, p_first = log_likelihood(pairs, likelihood(pairs, EASINESS[:1]), level, SPREADS[0], SHARES[:1], prior)
    return log_fit[0], p_first[0]


def likelihood(pairs: Pairs, points: np.ndarray) -> Likelihood:
    """Of the judgements of each pair, if its easiness is one of the points (K,)."""
    log_first = pairs.sums(log_sigmoid(np.multiply.outer(points, pairs.evidence)))
    log_second = log_first - np.multiply.outer(points, pairs.sums(pairs.evidence))  # log s(-x) = log s(x) - x
    log_scale = np.maximum(log_first, log_second).max(axis=0)
    return Likelihood(np.exp(log_first - log_scale), np.exp(log_second - log_scale), log_scale)


def easiness(level: float, spread: float, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K points of the distribution of easiness, and their weights (H, K) at the shares (H, 2).

    Where it has a spread, these are the points EASINESS.
    """
    rest, misleading = 1 - shares.sum(axis=1, keepdims=True), MISLEADING * level
    if not spread:
        kept = 3 if shares.any() else 1
        return np.array([level, *misleading])[:kept], np.concatenate([rest, shares], axis=1)[:, :kept]
    below = gammainc(spread**-2, spread**-2 * (EASINESS[:-1] + STEP / 2).clip(0) / max(abs(level), STEP / 10))
    usual = np.diff(below, prepend=0, append=1)
    tents = np.maximum(1 - np.abs(EASINESS - misleading[:, None]) / STEP, 0)  # (2, E) the two points nearest to each
    return EASINESS, rest * (usual if level > 0 else usual[::-1]) + shares @ tents


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.log(1 + np.exp(-x))  # three times as fast as logaddexp; overflows below -700


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2  # without overflow


def logit(p: np.ndarray | float) -> np.ndarray:
    return np.log(p) - np.log1p(-p)
