"""What can be counted about judgements before anything expensive runs."""

import math
import textwrap
from dataclasses import dataclass

import numpy as np

from noisy_feedback.data.preferences import Judgements


@dataclass(frozen=True)
class Summary:
    """Counts of judgements, for the screen and run.json.

    `repeated_pairs` were judged more than once; `disagreement` is the share of disagreeing ones among all pairs of
    judgements of the same pair, `implied_flip_rate` the share of wrong judgements that it implies where errors are
    independent: two judgements disagree with probability 2e(1 - e). `largest_group` is the share of the judgements that
    the largest group of the split holds. `cut_alike` comparisons were left out since the encoder cuts their texts to
    the same. None: there are none.
    """

    comparisons: int
    pairs: int
    texts: int
    annotators: int | None
    prompts: int
    repeated_pairs: int
    disagreement: float | None
    implied_flip_rate: float | None
    largest_group: float
    cut_alike: int
    dropped: dict[str, int]
    unused_columns: list[str]

    def lines(self) -> list[str]:
        """What the screen shows beside the number of comparisons, pairs and annotators."""
        prompts = f"{self.prompts:,} prompts" if self.prompts else "no prompts"
        lines = [f"{self.texts:,} texts, {prompts}; largest group: {self.largest_group:.1%} of the comparisons"]
        if self.disagreement is not None:
            lines.append(
                f"{self.repeated_pairs:,} pairs were judged more than once: two judgements disagree in "
                f"{self.disagreement:.1%} of cases, as if {self.implied_flip_rate:.1%} were wrong independently"
            )
        if self.dropped:
            lines.append(f"left out: {', '.join(f'{count:,} {reason}' for reason, count in self.dropped.items())}")
        if self.cut_alike:
            alike = f"{self.cut_alike:,} comparisons left out: the encoder cuts their texts to the same"
            lines.append(f"{alike} (--truncate, or a --model_name that reads more)")
        if self.unused_columns:
            lines.append(f"columns that are not used: {', '.join(self.unused_columns)}")
        return [f"{'':11}{part}" for line in lines for part in textwrap.wrap(line, 69, break_on_hyphens=False)]


def summarize(judgements: Judgements) -> Summary:
    """Count what there is."""
    chosen, judged = judgements.chosen, np.bincount(judgements.pairs)
    disagreement = disagreement_of(chosen, judgements.pairs)
    return Summary(
        comparisons=len(chosen),
        pairs=len(judged),
        texts=len(np.unique([chosen, judgements.rejected])),
        annotators=None if judgements.annotators is None else len(np.unique(judgements.annotators)),
        prompts=len(np.unique(judgements.prompts[judgements.prompts >= 0])),
        repeated_pairs=int((judged > 1).sum()),
        disagreement=disagreement,
        implied_flip_rate=None if disagreement is None else implied_flip_rate(disagreement),
        largest_group=float(np.bincount(judgements.groups).max() / len(chosen)),
        cut_alike=judgements.cut_alike,
        dropped=judgements.dropped,
        unused_columns=judgements.unused,
    )


def disagreement_of(chosen: np.ndarray, pairs: np.ndarray) -> float | None:
    """How often two judgements of a pair disagree; None where no pair has two.

    `chosen` (J,) are the preferred texts, `pairs` (J,) the numbers of the pairs.
    """
    _, first, own = np.unique(pairs, return_index=True, return_inverse=True)
    judged = np.bincount(own)  # (G,)
    as_first = np.bincount(own, chosen == chosen[first][own])
    both = (judged * (judged - 1) / 2).sum()  # pairs of judgements of the same pair
    return float((as_first * (judged - as_first)).sum() / both) if both else None


def implied_flip_rate(disagreement: float) -> float:
    """The flip rate e at which independent errors disagree so often, 2e(1 - e); 1/2 where they do more often.

    1 - e is also the most that a model can expect to agree with single judgements: if a share p of the judgements of a
    pair is for one text, it agrees with max(p, 1 - p) of them, at most (1 + sqrt(1 - 4p(1 - p))) / 2, a concave
    function of the disagreement 2p(1 - p).
    """
    return (1 - math.sqrt(max(0.0, 1 - 2 * disagreement))) / 2
