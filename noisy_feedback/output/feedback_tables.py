"""What is written about the comparisons of a run: feedback.csv, annotators.csv, and a preference data set."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import number_pairs
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback, adjacent_pairs
from noisy_feedback.files import atomic_write, check_writable

EXPORT_FORMATS = (".jsonl", ".parquet")


def feedback_table(
    feedback: Feedback, audit: Audit, before: np.ndarray, after: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """One row per comparison: adjacent items of a list.

    Margins are the reward of the better text minus that of the worse, from the rewards (n,) of all texts before
    fine-tuning and after its last epoch. `names` are those of the annotators.
    """
    better, worse = adjacent_pairs(feedback.lists).T
    return pd.DataFrame(
        {
            "better": better,
            "worse": worse,
            "pair": feedback.pairs,
            "annotator": None if feedback.annotators is None else [names[code] for code in feedback.annotators],
            "margin_before": before[better] - before[worse],
            "margin_after": after[better] - after[worse],
            "p_wrong": audit.p_wrong,
            "wrong": pd.array(known_wrong(feedback), dtype="Int64"),
        }
    )


def annotator_table(feedback: Feedback, audit: Audit, names: Sequence[str]) -> pd.DataFrame | None:
    """One row per annotator who judged a comparison of the feedback, or one behind it; None without annotators."""
    found, behind = audit.annotators, feedback.judged or feedback
    if found is None or behind.annotators is None:
        return None
    table = pd.DataFrame(
        {
            "annotator": names[: len(found.judgements)],
            "judgements": found.judgements,
            "reliability": found.reliability,
            "ci_low": found.low,
            "ci_high": found.high,
        }
    )
    table["true_reliability"] = pd.Series(1 - behind.flipped[:, 0]).groupby(behind.annotators).mean()
    return table[table["judgements"] > 0]


def known_wrong(feedback: Feedback) -> np.ndarray:
    """Which comparisons (L * k,) are wrong: 1, 0, or NaN where the texts are truly alike or the truth is not known."""
    flipped = feedback.flipped.ravel()
    return np.where(flipped == 0.5, np.nan, flipped)


def export_comparisons(file: Path, feedback: Feedback, audit: Audit, dataset: Dataset) -> None:
    """Write the comparisons as a preference data set, .jsonl or .parquet: `--comparisons` reads the same ones back."""
    better, worse = adjacent_pairs(feedback.lists).T
    stars = np.append(dataset.scale.astype(float), np.nan)  # of a rating; at -1: it is not known
    chosen_stars, rejected_stars = stars[adjacent_pairs(feedback.ratings).T]
    table = pd.DataFrame(
        {
            "chosen": [dataset.texts[row] for row in better],
            "rejected": [dataset.texts[row] for row in worse],
            "chosen_rating": pd.array(chosen_stars, dtype="Int64"),
            "rejected_rating": pd.array(rejected_stars, dtype="Int64"),
            "p_wrong": audit.p_wrong,
            "wrong": pd.array(known_wrong(feedback), dtype="boolean"),
            # By rows: other reviews with the same texts are another pair, whose true order may be the opposite.
            "pair": number_pairs(better, worse) if feedback.pairs is None else feedback.pairs,
        }
    )
    if feedback.annotators is not None and dataset.judgements is not None:
        table["annotator"] = [dataset.judgements.annotator_names[code] for code in feedback.annotators]
    if not dataset.is_rated:
        table["cross_fitted"] = True
    table = table[table["chosen"] != table["rejected"]]  # two reviews with the same text: no preference
    with atomic_write(file) as temporary:
        if file.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def check_export(file: Path, inputs: Sequence[Path]) -> None:
    """Refuse a file that cannot be written, or that is one of the `inputs` of the run. Errors: InputError."""
    if file.suffix not in EXPORT_FORMATS:
        raise InputError(f"--export {file}: ends with neither {' nor '.join(EXPORT_FORMATS)}; choose one of them")
    if not file.parent.is_dir() or file.is_dir():
        raise InputError(f"--export {file}: there is no folder {file.parent}, or {file} is one; choose another file")
    for read in inputs:
        if file.exists() and read.exists() and file.samefile(read):
            raise InputError(f"--export {file}: would replace {read}, which this run reads; choose another file")
    check_writable(file.parent, "--export")
