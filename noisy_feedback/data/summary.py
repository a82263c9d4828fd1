"""What can be counted about judgements before anything expensive runs."""

import math
import textwrap
from typing import Any

import numpy as np

from noisy_feedback.data.preferences import Judgements


def summarize(judgements: Judgements) -> dict[str, Any]:
    """What run.json says of judgements: see docs/human_feedback.md, the check.

    `disagreement` is the share of disagreeing ones among all pairs of judgements of the same pair, `implied_flip_rate`
    the share of wrong judgements that it implies where errors are independent; None where no pair has two.
    """
    chosen, judged = judgements.chosen, np.bincount(judgements.pairs)
    disagreement = disagreement_of(chosen, judgements.pairs)
    return {
        "comparisons": len(chosen),
        "pairs": len(judged),
        "texts": len(np.unique([chosen, judgements.rejected])),
        "annotators": None if judgements.annotators is None else len(np.unique(judgements.annotators)),
        "prompts": len(np.unique(judgements.prompts[judgements.prompts >= 0])),
        "repeated_pairs": int((judged > 1).sum()),
        "disagreement": disagreement,
        "implied_flip_rate": None if disagreement is None else implied_flip_rate(disagreement),
        "largest_group": float(np.bincount(judgements.groups).max() / len(chosen)),
        "cut_alike": judgements.cut_alike,
        "dropped": judgements.dropped,
        "unused_columns": judgements.unused,
    }


def summary_lines(found: dict[str, Any]) -> list[str]:
    """What the screen shows of a summary beside the number of comparisons, pairs and annotators."""
    prompts = f"{found['prompts']:,} prompts" if found["prompts"] else "no prompts"
    lines = [f"{found['texts']:,} texts, {prompts}; largest group: {found['largest_group']:.1%} of the comparisons"]
    if found["disagreement"] is not None:
        lines.append(
            f"{found['repeated_pairs']:,} pairs were judged more than once: two judgements disagree in "
            f"{found['disagreement']:.1%} of cases, as if {found['implied_flip_rate']:.1%} were wrong independently"
        )
    if found["dropped"]:
        lines.append(f"left out: {', '.join(f'{count:,} {reason}' for reason, count in found['dropped'].items())}")
    if found["cut_alike"]:
        alike = f"{found['cut_alike']:,} comparisons left out: the encoder cuts their texts to the same"
        lines.append(f"{alike} (--truncate, or a --model_name that reads more)")
    if found["unused_columns"]:
        lines.append(f"columns that are not used: {', '.join(found['unused_columns'])}")
    return [f"{'':11}{part}" for line in lines for part in textwrap.wrap(line, 69, break_on_hyphens=False)]


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
