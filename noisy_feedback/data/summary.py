"""What can be counted about judgements before anything expensive runs."""

import math
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from noisy_feedback.data.preferences import Judgements


@dataclass(frozen=True)
class Summary:
    """Counts of judgements, for the screen and run.json.

    `repeated_pairs` were judged more than once; `disagreement` is the share of disagreeing ones among all pairs of
    judgements of the same pair, `implied_flip_rate` the share of wrong judgements that it implies where errors are
    independent: two judgements disagree with probability 2e(1 - e). `largest_component` is the share of the judgements
    that shared texts connect with each other. None: there are none.
    """

    comparisons: int
    pairs: int
    texts: int
    annotators: int | None
    prompts: int | None
    repeated_pairs: int
    disagreement: float | None
    implied_flip_rate: float | None
    largest_component: float
    dropped: dict[str, int]
    unused_columns: list[str]

    def lines(self) -> list[str]:
        """What the screen shows beside the number of comparisons, pairs and annotators."""
        prompts = "no prompts" if self.prompts is None else f"{self.prompts:,} prompts"
        lines = [
            f"{self.texts:,} texts, {prompts}; shared texts connect {self.largest_component:.1%} of the comparisons"
        ]
        if self.disagreement is not None and self.implied_flip_rate is not None:
            lines += [
                f"{self.repeated_pairs:,} pairs were judged more than once: two judgements disagree in "
                f"{self.disagreement:.1%} of cases, as if {self.implied_flip_rate:.1%} were wrong independently"
            ]
        if self.dropped:
            lines += [f"left out: {', '.join(f'{count:,} {reason}' for reason, count in self.dropped.items())}"]
        if self.unused_columns:
            lines += [f"columns that are not used: {', '.join(self.unused_columns)}"]
        return [f"{'':11}{part}" for line in lines for part in textwrap.wrap(line, 69, break_on_hyphens=False)]


def summarize(judgements: Judgements) -> Summary:
    """Count what there is."""
    chosen, judged = judgements.chosen, np.bincount(judgements.pairs)
    disagreement = disagreement_of(chosen, judgements.pairs)
    groups = components(chosen, judgements.rejected)
    return Summary(
        comparisons=len(chosen),
        pairs=len(judged),
        texts=len(np.unique([chosen, judgements.rejected])),
        annotators=None if judgements.annotators is None else len(judgements.annotator_names),
        prompts=None if judgements.prompts is None else int(judgements.prompts.max()) + 1,
        repeated_pairs=int((judged > 1).sum()),
        disagreement=disagreement,
        implied_flip_rate=None if disagreement is None else implied_flip_rate(disagreement),
        largest_component=float(np.bincount(groups).max() / len(groups)),
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


def components(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Group numbers (J,), in the order of the rows: two comparisons are in one group if shared texts connect them."""
    from scipy.sparse import coo_array  # half a second, which runs without human comparisons do without
    from scipy.sparse.csgraph import connected_components

    texts = int(max(chosen.max(), rejected.max())) + 1
    graph = coo_array((np.ones(len(chosen), dtype=bool), (chosen, rejected)), shape=(texts, texts))
    return pd.factorize(connected_components(graph, directed=False)[1][chosen])[0].astype(np.int64)
