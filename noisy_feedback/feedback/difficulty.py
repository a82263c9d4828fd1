"""What judgements say of the order of each pair, where some pairs are harder to judge than others.

Hidden are the order of a pair, and how easy it is to judge. A judgement is right with log-odds easiness * evidence of
its annotator (GLAD: Whitehill et al. 2009, *Whose vote should count more*). The prior of the order is the model's
log-odds times a temperature. Neither the temperature nor the easiness is known: the posterior is computed at all
points of a grid, so that what the judgements do not show makes the flip rate uncertain.

Several judgements of a pair show how easy it is: easiness is hidden for each pair. One or two do not: the pairs are
sorted by how sure the model is and put into six bins; easiness is one level in each bin, with a random step from bin to
bin. Where the model is unsure, the levels of other bins and the walk decide, and the interval of the flip rate is
wide. The posterior of a walk is that of the forward-backward algorithm (Rabiner 1989, *A tutorial on hidden Markov
models*).
"""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammainc, logsumexp, ndtr, softmax

EXCHANGED = 0.01  # prior probability that the level is negative
MAX_LEVEL = 6.0  # at most 99.75 % of the judgements are right
LIKELY = np.log(0.001)  # relative to the largest weight: where the grid is made finer
REFINEMENTS = 8

# Hidden easiness has the mean `level` and one of these coefficients of variation (a gamma distribution). Shares of the
# pairs are misleading: their easiness is MISLEADING * level, so that most people are wrong.
SPREADS = (0.0, 0.3, 0.5, 0.65, 0.8, 1.0)
MISLEADING = np.array([-0.25, -0.75])
SHARES = np.array([(a, b) for a in (0, 3, 7, 11, 16, 22) for b in (0, 3, 7, 11, 16, 22) if a + b <= 30]) / 100  # (H, 2)
NO_SPREAD, NO_MISLEADING = 0.8, 0.5  # prior probabilities
STEP = 0.2
EASINESS = np.arange(-45, 46) * STEP  # (E,) a distribution of easiness has weights at these points

# Before a step of the walk, the level stays, or falls as the model's log-odds do (people err as Bradley and Terry say).
BINS = 6
STEPS = (0.5, 1.0)  # standard deviations of a step; here a level is the log-odds that a judgement is right
LEAST = -0.5  # the lowest level: below 0, so that guessing lies inside the grid
# Weight of the posterior in which all pairs are equally easy. Its own prior is NO_SPREAD * NO_MISLEADING = 0.4, so its
# total prior weight is 0.1 * 0.4 = 0.04, against 0.9 for all walks together.
EQUAL = 0.1


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


class Easiness(NamedTuple):
    """Distributions of easiness with any mean; by default all pairs are equally easy to judge."""

    spread: float = 0.0
    shares: np.ndarray = SHARES[:1]  # (H, 2) of misleading pairs
    table: tuple[np.ndarray, np.ndarray] | None = None  # `likelihood` at EASINESS, where there is a spread

    def points(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """K points, and their weights (H, K). Where there is a spread, these are the points EASINESS."""
        rest, misleading = 1 - self.shares.sum(axis=1, keepdims=True), MISLEADING * level
        if not self.spread:
            kept = 3 if self.shares.any() else 1
            return np.array([level, *misleading])[:kept], np.concatenate([rest, self.shares], axis=1)[:, :kept]
        shape = self.spread**-2
        below = gammainc(shape, shape * (EASINESS[:-1] + STEP / 2).clip(0) / max(abs(level), STEP / 10))
        usual = np.diff(below, prepend=0, append=1)
        tents = np.maximum(1 - np.abs(EASINESS - misleading[:, None]) / STEP, 0)  # (2, E) the two nearest points
        return EASINESS, rest * (usual if level > 0 else usual[::-1]) + self.shares @ tents


EQUAL_EASINESS = Easiness()


class Posterior(NamedTuple):
    """Of the orders, and of what else is not known, at S points on a grid."""

    p_first: np.ndarray  # (N,) P(the first item is better)
    log_weight: np.ndarray  # (S,) not normalised
    gain: np.ndarray  # (S,) expected right less wrong claimed orders
    variance: np.ndarray  # (S,) of the number of right claimed orders
    level: np.ndarray  # (S,) of a walk, that of its last bin
    log_temperature: np.ndarray  # (S,)
    independent: np.ndarray  # (S,) whether errors are independent: no spread of easiness, nothing misleading


def posterior_at_points(p_first: np.ndarray, *columns: ArrayLike) -> Posterior:
    """A posterior from columns that are broadcast against each other."""
    return Posterior(p_first, *(column.ravel() for column in np.broadcast_arrays(*columns)))


def mixture(parts: Sequence[Posterior]) -> Posterior:
    """The posterior on the points of all parts."""
    of_part = softmax([logsumexp(part.log_weight) for part in parts])
    points = (np.concatenate(columns) for columns in zip(*(part[1:] for part in parts), strict=True))
    return Posterior(of_part @ [part.p_first for part in parts], *points)


def first_temperatures(pairs: Pairs) -> np.ndarray:
    """Logarithms of temperatures (T,), in standard deviations, before the grid is refined."""
    return np.linspace(-2.5, 2.5, 5) if pairs.temperature_sd and pairs.prior.any() else np.zeros(1)


def tempered(pairs: Pairs, temperatures: np.ndarray) -> np.ndarray:
    """The model's P(the first item is better), (T, N), at these temperatures (T,)."""
    return expit(np.multiply.outer(np.exp(pairs.temperature_sd * temperatures), pairs.prior))


def log_widths(axis: np.ndarray) -> np.ndarray:
    """The logarithms of the weights that the points of an axis have in an integral (trapezoidal rule)."""
    if len(axis) == 1:
        return np.zeros(1)
    return np.log(np.diff(np.concatenate([axis[:1], (axis[1:] + axis[:-1]) / 2, axis[-1:]])))


def refined(axes: Sequence[np.ndarray], log_weights: Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """Axes of the same length that cover only where the weight is; and whether none had to be narrowed."""
    found, fine = [], True
    for axis, log_weight in zip(axes, log_weights, strict=True):
        kept = np.flatnonzero(log_weight > log_weight.max() + LIKELY)
        if len(kept) < len(axis) / 2:
            axis = np.linspace(axis[max(kept[0] - 1, 0)], axis[min(kept[-1] + 1, len(axis) - 1)], len(axis))
            fine = False
        found.append(axis)
    return found, fine


# --- easiness that is the same for all pairs, or hidden for each


def posterior_of_hidden_easiness(pairs: Pairs) -> Posterior:
    """The posterior for pairs with several judgements.

    Where the model says nothing of any pair, nothing could show a misleading one: then there are none.
    """
    shares, table = SHARES if pairs.prior.any() else SHARES[:1], likelihood(pairs, EASINESS)
    return mixture([posterior_at(pairs, Easiness(spread, shares, table if spread else None)) for spread in SPREADS])


def posterior_at(pairs: Pairs, easiness: Easiness = EQUAL_EASINESS) -> Posterior:
    """The posterior at one spread of easiness."""
    axes = [np.linspace(-MAX_LEVEL, MAX_LEVEL, 13), first_temperatures(pairs)]
    some = easiness._replace(shares=easiness.shares[::7])
    for _ in range(REFINEMENTS):
        levels, temperatures = axes
        prior = tempered(pairs, temperatures)
        at = np.array([log_likelihood(pairs, some, level, prior)[0] for level in levels])
        at += np.log(np.where(levels < 0, EXCHANGED, 1 - EXCHANGED))[:, None, None] - temperatures**2 / 2
        axes, fine = refined(axes, [logsumexp(at, axis=(1, 2)), logsumexp(at, axis=(0, 1))])
        if fine:
            break
    levels, temperatures = axes
    prior = tempered(pairs, temperatures)
    misleading = easiness.shares.any(axis=1, keepdims=True)  # (H, 1)
    p_shares = np.where(misleading, (1 - NO_MISLEADING) / (len(SHARES) - 1), NO_MISLEADING)
    p_spread = (1 - NO_SPREAD) / (len(SPREADS) - 1) if easiness.spread else NO_SPREAD
    log_prior = np.log(p_shares * p_spread) - temperatures**2 / 2 + log_widths(temperatures)  # (H, T)
    independent, of_levels = ~misleading & (easiness.spread == 0), []
    for level, log_width in zip(levels, log_widths(levels), strict=True):
        log_weight, p_first = log_likelihood(pairs, easiness, level, prior)
        log_weight += log_prior + log_width + np.log(EXCHANGED if level < 0 else 1 - EXCHANGED)
        points = log_weight, *pairs.gain(p_first), level, pairs.temperature_sd * temperatures, independent
        of_levels.append(posterior_at_points(np.tensordot(softmax(log_weight), p_first, 2), *points))
    return mixture(of_levels)


def log_likelihood(pairs: Pairs, easiness: Easiness, level: float, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm (H, T), and P(the first item is better) (H, T, N), at a level and a prior (T, N) of the order."""
    points, weights = easiness.points(level)
    of_points, log_scale = easiness.table or likelihood(pairs, points)
    if_first, if_second = weights @ of_points  # (H, N) each
    first = if_first[:, None] * prior
    both = first + if_second[:, None] * (1 - prior)
    return np.log(both).sum(axis=-1) + log_scale.sum(), first / both


def likelihood(pairs: Pairs, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likelihood of each pair's judgements at points of easiness (K,), divided by a scale, and its logarithm (N,).

    The first has the shape (2, K, N): if the first item is better, and if the second is.
    """
    log_right = -np.log(1 + np.exp(-np.multiply.outer(points, pairs.evidence)))  # takes a third of log_expit's time
    log_first, evidence = pairs.sums(log_right), pairs.sums(pairs.evidence)
    log_both = np.stack([log_first, log_first - np.multiply.outer(points, evidence)])  # log s(-x) = log s(x) - x
    log_scale = log_both.max(axis=(0, 1))
    log_both -= log_scale
    return np.exp(log_both, out=log_both), log_scale


# --- easiness that changes with how sure the model is


class Bin(NamedTuple):
    """N pairs of which the model is about as sure, at L levels of easiness and T temperatures."""

    rows: np.ndarray  # (N,) the numbers of the pairs
    sure: float  # mean size of the model's log-odds
    levels: np.ndarray  # (L,)
    log_likelihood: np.ndarray  # (L, T)
    p_first: np.ndarray  # (L, T, N) P(the first item is better)
    gain: np.ndarray  # (L, T) expected right less wrong claimed orders
    variance: np.ndarray  # (L, T) of the number of right claimed orders


def posterior_of_changing_easiness(pairs: Pairs) -> Posterior:
    """The posterior for pairs with one judgement or two."""
    equal = posterior_at(pairs)
    if not pairs.prior.any():
        return equal
    scale = np.abs(pairs.evidence).mean() or 1.0  # a level times the evidence is the log-odds that a judgement is right
    bins, temperatures = make_bins(pairs, LEAST / scale)
    parts = [equal._replace(log_weight=equal.log_weight + np.log(EQUAL))]
    walks = list(product(STEPS, (True, False)))
    log_prior = np.log((1 - EQUAL) * (1 - EXCHANGED) / len(walks)) - temperatures**2 / 2 + log_widths(temperatures)
    for step, stays in walks:
        moves = [log_move(*two, LEAST / scale, step / scale, stays) for two in pairwise(bins)]
        parts.append(posterior_of_walk(bins, moves, log_prior, pairs.temperature_sd * temperatures))
    return mixture(parts)


def make_bins(pairs: Pairs, least: float) -> tuple[list[Bin], np.ndarray]:
    """The bins, surest first, and the temperatures (T,); all grids cover only where the likelihood is large."""
    order = np.argsort(-np.abs(pairs.prior), kind="stable")
    parts = [np.sort(part) for part in np.array_split(order, min(BINS, len(order)))]
    of_parts = [pairs.select(rows) for rows in parts]
    axes = [*[np.linspace(least, MAX_LEVEL, 13)] * len(parts), first_temperatures(pairs)]
    for _ in range(REFINEMENTS):
        *levels, temperatures = axes
        bins = [make_bin(*part, temperatures) for part in zip(of_parts, parts, levels, strict=True)]
        total = sum(np.logaddexp.reduce(own.log_likelihood) for own in bins) - temperatures**2 / 2
        axes, fine = refined(axes, [*(own.log_likelihood.max(axis=1) for own in bins), total])
        if fine:
            break
    return bins, temperatures


def make_bin(pairs: Pairs, rows: np.ndarray, levels: np.ndarray, temperatures: np.ndarray) -> Bin:
    """One bin, of these pairs with these numbers."""
    prior = tempered(pairs, temperatures)
    fit, p_first = zip(*(log_likelihood(pairs, EQUAL_EASINESS, level, prior) for level in levels), strict=True)
    p = np.concatenate(p_first)
    return Bin(rows, float(np.abs(pairs.prior).mean()), levels, np.concatenate(fit), p, *pairs.gain(p))


def log_move(before: Bin, after: Bin, least: float, step: float, stays: bool) -> np.ndarray:
    """The logarithm (L, L') of the weights of the levels of a bin, given a level of the bin before it.

    They are those of a normal distribution between `least` and MAX_LEVEL.
    """
    ratio = 1.0 if stays else after.sure / max(before.sure, 1e-9)
    expected = before.levels[:, None] * ratio
    inside = ndtr((MAX_LEVEL - expected) / step) - ndtr((least - expected) / step)
    log_density = -(((after.levels - expected) / step) ** 2) / 2 - np.log(step * np.sqrt(2 * np.pi) * inside)
    return log_density + log_widths(after.levels)


def posterior_of_walk(
    bins: list[Bin], moves: list[np.ndarray], log_prior: np.ndarray, log_temperatures: np.ndarray
) -> Posterior:
    """The posterior of one kind of walk, by the level of the last bin and the temperature, with a prior (T,) of it."""
    gain, variance = bins[0].gain, bins[0].variance  # of the bins so far
    forward = [bins[0].log_likelihood + log_widths(bins[0].levels)[:, None] + log_prior]
    for move, own in zip(moves, bins[1:], strict=True):
        joint = forward[-1][:, None] + move[:, :, None]  # (L, L', T)
        reached = np.logaddexp.reduce(joint)
        share = np.exp(joint - reached)
        mean = (share * gain[:, None]).sum(axis=0)
        # That of the levels, too, which differ; gain = 2 * right orders - claimed orders.
        variance = own.variance + (share * (variance[:, None] + (gain[:, None] - mean) ** 2 / 4)).sum(axis=0)
        gain = mean + own.gain
        forward.append(reached + own.log_likelihood)
    p_first = np.empty(sum(len(own.rows) for own in bins))
    backward = np.zeros_like(forward[-1])
    for number, own in reversed(list(enumerate(bins))):
        p_first[own.rows] = np.tensordot(softmax(forward[number] + backward), own.p_first, 2)
        if number:
            backward = np.logaddexp.reduce(moves[number - 1][:, :, None] + backward + own.log_likelihood, axis=1)
    return posterior_at_points(p_first, forward[-1], gain, variance, bins[-1].levels[:, None], log_temperatures, True)
