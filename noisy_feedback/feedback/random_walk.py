"""What judgements say of the order of each pair, where easiness may change with how sure the model is of a pair.

For pairs with one judgement or two, which do not show how easy a single pair is (see difficulty.py). Pairs are put into
bins, from those of which the model is most sure to the least sure, and in each easiness is one level. From bin to bin
the level takes a random step; before it, it stays, or falls as the model's log-odds do (people err as Bradley and Terry
say). Where the model is unsure, judgements say little of how many of them are wrong; there the levels of other bins and
the walk decide, and the interval of the flip rate is wide.

The posterior of the levels is computed by the forward-backward algorithm (Rabiner 1989, *A tutorial on hidden Markov
models*) on a grid.
"""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, softmax

from noisy_feedback.feedback.difficulty import (
    EXCHANGED,
    MAX_LEVEL,
    REFINEMENTS,
    Pairs,
    Posterior,
    first_temperatures,
    log_likelihood_of_level,
    log_widths,
    mixture,
    posterior_of_equal_easiness,
    refined,
    tempered,
)

BINS = 6
STEPS = (0.5, 1.0)  # standard deviations of a step; here a level is the log-odds that a judgement is right
LEAST = -0.5  # the lowest level: below 0, so that guessing lies inside the grid
# Weight of the posterior in which all pairs are as easy. That has a prior of NO_SPREAD * NO_MISLEADING = 0.4 in itself,
# so that the probability is 0.04 against 0.9, the sum of the walks.
EQUAL = 0.1
STAYS = 0.5  # prior probability, among walks, that the level expected after a step is that before it; else it falls


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
    """The parameters and the orders, given the judgements, where easiness may change with how sure the model is."""
    equal = posterior_of_equal_easiness(pairs)
    if not pairs.prior.any():
        return equal
    scale = np.abs(pairs.evidence).mean() or 1.0  # a level times the evidence is the log-odds that a judgement is right
    bins, temperatures = make_bins(pairs, LEAST / scale)
    parts = [equal._replace(log_weight=equal.log_weight + np.log(EQUAL))]
    for step, stays in product(STEPS, (True, False)):
        log_prior = np.log((1 - EQUAL) / len(STEPS) * (STAYS if stays else 1 - STAYS) * (1 - EXCHANGED))
        moves = [log_move(*two, LEAST / scale, step / scale, stays) for two in pairwise(bins)]
        part = posterior_of_walk(bins, moves, log_prior - temperatures**2 / 2 + log_widths(temperatures))
        part.parameters[:, 4] *= pairs.temperature_sd
        parts.append(part)
    return mixture(parts)


def make_bins(pairs: Pairs, least: float) -> tuple[list[Bin], np.ndarray]:
    """The bins, from the surest, and the temperatures (T,); both grids are where the likelihood is."""
    order = np.argsort(-np.abs(pairs.prior), kind="stable")
    parts = [np.sort(part) for part in np.array_split(order, min(BINS, len(order)))]
    of_parts = [pairs.select(rows) for rows in parts]
    levels, temperatures = [np.linspace(least, MAX_LEVEL, 13)] * len(parts), first_temperatures(pairs)
    for _ in range(REFINEMENTS):
        at = temperatures
        bins = [make_bin(*part, at) for part in zip(of_parts, parts, levels, strict=True)]
        total = sum(np.logaddexp.reduce(own.log_likelihood) for own in bins) - at**2 / 2
        temperatures, fine = refined(at, np.exp(total - total.max()))
        by_level = [own.log_likelihood.max(axis=1) for own in bins]
        found = [refined(grid, np.exp(own - own.max())) for grid, own in zip(levels, by_level, strict=True)]
        levels = [grid for grid, _ in found]
        if fine and all(also for _, also in found):
            break
    return bins, at


def make_bin(pairs: Pairs, rows: np.ndarray, levels: np.ndarray, temperatures: np.ndarray) -> Bin:
    """One bin, of these pairs with these numbers."""
    prior = tempered(pairs, temperatures)
    fit, p_first = zip(*(log_likelihood_of_level(pairs, level, prior) for level in levels), strict=True)
    p = np.array(p_first)
    return Bin(rows, float(np.abs(pairs.prior).mean()), levels, np.array(fit), p, *pairs.gain(p))


def log_move(before: Bin, after: Bin, least: float, step: float, stays: bool) -> np.ndarray:
    """The logarithm (L, L') of the weights of the levels of a bin, given a level of the bin before it.

    They are those of a normal distribution between `least` and MAX_LEVEL.
    """
    ratio = 1.0 if stays else after.sure / max(before.sure, 1e-9)
    expected = before.levels[:, None] * ratio
    inside = ndtr((MAX_LEVEL - expected) / step) - ndtr((least - expected) / step)
    log_density = -(((after.levels - expected) / step) ** 2) / 2 - np.log(step * np.sqrt(2 * np.pi) * inside)
    return log_density + log_widths(after.levels)


def posterior_of_walk(bins: list[Bin], moves: list[np.ndarray], log_prior: np.ndarray) -> Posterior:
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
    parameters = np.zeros((*forward[-1].shape, 5))
    parameters[..., 0] = bins[-1].levels[:, None]
    return Posterior(parameters.reshape(-1, 5), forward[-1].ravel(), gain.ravel(), variance.ravel(), p_first)
