"""What is written about the comparisons of a run: feedback.csv, annotators.csv, and a preference data set."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import number_pairs
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.files import atomic_write, check_writable, write_csv

FEEDBACK_COLUMNS = ("better", "worse", "pair", "annotator", "margin_before", "margin_after", "p_wrong", "wrong")
ANNOTATOR_COLUMNS = ("annotator", "judgements", "reliability", "ci_low", "ci_high", "true_reliability")
EXPORT_FORMATS = (".jsonl", ".parquet")


@dataclass(frozen=True)
class AuditedFeedback:
    """The comparisons of a run, what the audit says of them, and the rewards (n,) of all texts before and after."""

    feedback: Feedback
    audit: Audit
    rewards_before: np.ndarray
    rewards_after: np.ndarray  # of the last epoch


def feedback_rows(audited: AuditedFeedback, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """One row per comparison: adjacent items of a list. Margins: the reward of the better minus that of the worse."""
    feedback = audited.feedback
    better, worse = feedback.adjacent_pairs()
    before, after = (rewards[better] - rewards[worse] for rewards in (audited.rewards_before, audited.rewards_after))
    wrong = [int(value) if value in (0, 1) else None for value in feedback.flipped.ravel()]
    nothing = [None] * len(better)
    pairs = nothing if feedback.pairs is None else feedback.pairs.tolist()
    annotators = nothing if feedback.annotators is None else [names[code] for code in feedback.annotators]
    measured = (before.tolist(), after.tolist(), audited.audit.p_wrong.tolist())
    yield from zip(better.tolist(), worse.tolist(), pairs, annotators, *measured, wrong, strict=True)


def annotator_rows(audited: AuditedFeedback, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """One row per annotator who judged a comparison of the feedback, or one behind it."""
    behind, found = audited.feedback.judged or audited.feedback, audited.audit.annotators
    codes, flipped = behind.annotators, behind.flipped[:, 0]
    if codes is None or found is None:
        return
    known = ~np.isnan(flipped)
    judged = np.bincount(codes[known], minlength=len(found.judgements))
    right = np.bincount(codes[known], 1 - flipped[known], minlength=len(found.judgements))
    for code in np.flatnonzero(found.judgements).tolist():
        estimate = [float(column[code]) for column in (found.reliability, found.low, found.high)]
        true = float(right[code] / judged[code]) if judged[code] else None
        yield (names[code], int(found.judgements[code]), *(None if math.isnan(x) else x for x in estimate), true)


def save_comparisons(folder: Path, audited: AuditedFeedback, names: Sequence[str]) -> None:
    """Write feedback.csv, and annotators.csv where there are annotators, whose names these are."""
    write_csv(folder / "feedback.csv", FEEDBACK_COLUMNS, feedback_rows(audited, names))
    if audited.audit.annotators is not None:
        write_csv(folder / "annotators.csv", ANNOTATOR_COLUMNS, annotator_rows(audited, names))


def export_comparisons(file: Path, feedback: Feedback, audit: Audit, dataset: Dataset) -> None:
    """Write the comparisons as a preference data set, .jsonl or .parquet: `--comparisons` reads the same ones back."""
    import pandas as pd  # only where a table is wanted

    better, worse = feedback.adjacent_pairs()
    stars = {-1: None, **dict(enumerate(dataset.scale.tolist()))}
    claimed = {"chosen": feedback.ratings[:, :-1], "rejected": feedback.ratings[:, 1:]}
    wrong = [bool(value) if value in (0, 1) else None for value in feedback.flipped.ravel()]
    table = pd.DataFrame(
        {
            "chosen": [dataset.texts[row] for row in better],
            "rejected": [dataset.texts[row] for row in worse],
            **{
                f"{side}_rating": pd.Series([stars[rating] for rating in ratings.ravel().tolist()], dtype="Int64")
                for side, ratings in claimed.items()
            },
            "p_wrong": audit.p_wrong,
            "wrong": pd.Series(wrong, dtype="boolean"),
            # By rows: other reviews with the same texts are another pair, whose true order may be the opposite.
            "pair": number_pairs(better, worse) if feedback.pairs is None else feedback.pairs,
        }
    )
    if feedback.annotators is not None and dataset.judgements is not None:
        table["annotator"] = [dataset.judgements.annotator_names[code] for code in feedback.annotators]
    table = table[table["chosen"] != table["rejected"]]  # two reviews with the same text: no preference
    with atomic_write(file) as temporary:
        if file.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def check_export(file: Path, inputs: Sequence[Path]) -> None:
    """Refuse a file that cannot be written, or that the run reads: the `inputs`, and the embeddings beside them.

    Errors: InputError.
    """
    if file.suffix not in EXPORT_FORMATS:
        raise InputError(f"--export {file}: ends with neither {' nor '.join(EXPORT_FORMATS)}; choose one of them")
    if not file.parent.is_dir() or file.is_dir():
        raise InputError(f"--export {file}: there is no folder {file.parent}, or {file} is one; choose another file")
    for read in (path for given in inputs for path in (given, given.with_name("embeddings.pt"))):
        if file.exists() and read.exists() and file.samefile(read):
            raise InputError(f"--export {file}: would replace {read}, which this run reads; choose another file")
    for store in (given.parent / "embeddings" for given in inputs):
        if store.resolve() in file.resolve().parents:
            raise InputError(f"--export {file}: {store} is for stored embeddings; choose another folder")
    check_writable(file.parent, "--export")
