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
from noisy_feedback.feedback.noise import reverse_lists
from noisy_feedback.rng import rng_for


def feedback(config: Config, judgements: Judgements, splits: Splits, ratings: np.ndarray) -> Feedback:
    """The comparisons of the fine-tuning part that a run learns from, `config.ratio` of them reversed.

    `ratings` (n,) are those of the reviews, which `--loss study` needs. Errors: InputError where there is none.
    """
    rng = rng_for(config.seed, "comparisons")
    rows = np.flatnonzero(splits.judgements == FINE_TUNING)
    found = select_judgements(config.labels, judgements, rows, rng)
    if config.lists is not None:
        found = found.subset(rng.permutation(len(found.lists))[: config.lists])
    noisy = reverse_lists(found, config.ratio, rng_for(config.seed, "noise"))  # as simulated ones
    return replace(noisy, ratings=np.append(ratings, np.full(len(judgements.texts), -1))[noisy.lists])


def comparisons_to_score(judgements: Judgements | None, splits: Splits, part: int) -> np.ndarray | None:
    """Comparisons (V, 2) of a part that predictions are scored against, the better first, for all `labels`.

    The true order of a pair, or each of its judgements where that is not known. None where there are none.
    """
    if judgements is None:
        return None
    rows = np.flatnonzero(splits.judgements == part)
    known = rows[:0] if judgements.correct is None else rows[~np.isnan(judgements.correct[rows])]
    judged = rows[~np.isin(judgements.pairs[rows], judgements.pairs[known])]
    found = feedback_of(judgements, judged).lists
    if len(known):
        found = np.concatenate([true_orders(judgements, known, "gold").lists, found])
    return found if len(found) else None


def select_judgements(labels: str, judgements: Judgements, rows: np.ndarray, rng: np.random.Generator) -> Feedback:
    """Comparisons of the judgements `rows`, as `labels` says. Errors: InputError for none, or if no truth is known."""
    if not len(rows):
        raise InputError(
            f"{judgements.name}: no comparison has both texts in the fine-tuning part; --group-column keeps the texts "
            "of a topic together, --shuffle puts them in random order"
        )
    if labels == "all":
        return feedback_of(judgements, rows)
    if labels == "majority":
        return majority(judgements, rows)
    if labels == "gold":
        return true_orders(judgements, rows, labels)
    mixed = rng.permutation(rows)
    drawn = mixed[np.unique(judgements.pairs[mixed], return_index=True)[1]]  # one of each pair, in the order of pairs
    one = feedback_of(judgements, drawn)
    if labels == "one":
        return replace(one, judged=feedback_of(judgements, rows))
    gold = true_orders(judgements, rows, labels)
    return gold.reverse(rng.permutation(len(gold.lists))[: int(np.nansum(one.flipped))])


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


def majority(judgements: Judgements, rows: np.ndarray) -> Feedback:
    """The order that most judgements of a pair say; pairs with as many for either order are left out and counted.

    Errors: InputError where every pair is such a tie.
    """
    _, first, own = np.unique(judgements.pairs[rows], return_index=True, return_inverse=True)
    reference = rows[first]
    agrees = judgements.chosen[rows] == judgements.chosen[reference][own]
    votes = np.bincount(own, np.where(agrees, 1, -1))  # for the first judgement's order, minus those against it
    if not votes.any():
        raise InputError(f"{judgements.name}: every pair of the fine-tuning part is a tie; --labels majority has none")
    decided = reference[votes != 0]
    found = feedback_of(judgements, decided).reverse(np.flatnonzero(votes[votes != 0] < 0))
    return replace(found, annotators=None, ties=int((votes == 0).sum()), judged=feedback_of(judgements, rows))


def true_orders(judgements: Judgements, rows: np.ndarray, labels: str) -> Feedback:
    """The true order of every pair whose truth is known. Errors: InputError where none is."""
    if judgements.correct is None or np.isnan(judgements.correct[rows]).all():
        raise InputError(
            f"--labels {labels}: {judgements.name} does not say which judgements are right (column 'correct')"
        )
    known = rows[~np.isnan(judgements.correct[rows])]
    first = known[np.unique(judgements.pairs[known], return_index=True)[1]]
    found = feedback_of(judgements, first).reverse(np.flatnonzero(judgements.correct[first] == 0))
    return replace(found, annotators=None)
