"""Human feedback: judgements -> comparisons.

What is learned from is chosen by `labels`: `all` judgements; `one` of each pair, drawn at random; the `majority` of
each pair; `gold`, the true order of each pair; or `flipped`, the true orders with as many pairs reversed at random as
`one` has wrong.
"""

from dataclasses import replace

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.splits import FINE_TUNING, Splits
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.rng import rng_for


def feedback(config: Config, judgements: Judgements, splits: Splits, ratings: np.ndarray) -> Feedback:
    """The comparisons of the fine-tuning part that a run learns from, `config.ratio` of them reversed.

    `ratings` (n,) are those of the reviews, which `--loss study` needs. Errors: InputError where there is none.
    """
    rng = rng_for(config.seed, "comparisons")
    everything = feedback_of(judgements, np.flatnonzero(splits.judgements == FINE_TUNING))
    found = select(config.labels, everything, rng)
    if not len(found.lists):
        reason = (
            "no comparison has both texts in the fine-tuning part (--group-column keeps the texts of a topic together, "
            "--shuffle puts them in random order)"
        )
        if len(everything.lists):
            ties = "every pair of the fine-tuning part is a tie; choose other --labels"
            reason = ties if config.labels == "majority" else "its column 'correct' must say which judgements are right"
        raise InputError(f"--labels {config.labels}: {judgements.name}: {reason}")
    if config.lists is not None:
        found = found.subset(rng.permutation(len(found.lists))[: config.lists])
    noisy = found.reverse_share(config.ratio, rng_for(config.seed, "noise"))
    return replace(noisy, ratings=np.append(ratings, np.full(len(judgements.texts), -1))[noisy.lists])


def feedback_of(judgements: Judgements, rows: np.ndarray) -> Feedback:
    """The judgements `rows` as comparisons."""
    correct = np.full(len(rows), np.nan) if judgements.correct is None else judgements.correct[rows]
    return Feedback(
        lists=np.stack([judgements.chosen[rows], judgements.rejected[rows]], axis=1),
        ratings=np.full((len(rows), 2), -1),
        changed=0,
        total=len(rows),
        flipped=1 - correct[:, None],
        pairs=judgements.pairs[rows],
        annotators=None if judgements.annotators is None else judgements.annotators[rows],
    )


def comparisons_to_score(judgements: Judgements | None, splits: Splits, part: int) -> np.ndarray:
    """Comparisons (V, 2) of a part that predictions are scored against, the better first, for all `labels`.

    The true order of a pair, or each of its judgements where that is not known.
    """
    if judgements is None:
        return np.empty((0, 2), dtype=np.int64)
    everything = feedback_of(judgements, np.flatnonzero(splits.judgements == part))
    known = true_orders(everything)
    assert everything.pairs is not None and known.pairs is not None
    return np.concatenate([known.lists, everything.lists[~np.isin(everything.pairs, known.pairs)]])


def select(labels: str, everything: Feedback, rng: np.random.Generator) -> Feedback:
    """What `labels` chooses of the comparisons that all judgements make."""
    if labels == "all":
        return everything
    if labels == "majority":
        return majority(everything)
    gold = true_orders(everything)
    if labels == "gold":
        return gold
    order = rng.permutation(len(everything.lists))
    one = first_of_pairs(everything, order)
    if labels == "one":
        return replace(one, judged=everything)
    return gold.reverse(rng.permutation(len(gold.lists))[: int(np.nansum(one.flipped))])


def first_of_pairs(given: Feedback, order: np.ndarray) -> Feedback:
    """The first comparison of each pair in this order (some of the places in `given`), by the numbers of the pairs."""
    assert given.pairs is not None
    return given.subset(order[np.unique(given.pairs[order], return_index=True)[1]])


def true_orders(given: Feedback) -> Feedback:
    """The true order of every pair whose truth is known."""
    found = first_of_pairs(given, np.flatnonzero(~np.isnan(given.flipped[:, 0])))
    return replace(found.reverse(np.flatnonzero(found.flipped[:, 0])), annotators=None)


def majority(given: Feedback) -> Feedback:
    """The order that most judgements of a pair say; pairs with as many for either order are left out and counted."""
    assert given.pairs is not None
    _, first, own = np.unique(given.pairs, return_index=True, return_inverse=True)
    agrees = given.lists[:, 0] == given.lists[first, 0][own]
    votes = np.bincount(own, np.where(agrees, 1, -1))  # for the first judgement's order, minus those against it
    found = given.subset(first[votes != 0]).reverse(np.flatnonzero(votes[votes != 0] < 0))
    return replace(found, annotators=None, ties=int((votes == 0).sum()), judged=given)
