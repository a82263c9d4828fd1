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
from noisy_feedback.evaluation.metrics import expected_class
from noisy_feedback.feedback.audit import Audit, audit_scores
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.files import atomic_write, check_writable, write_csv

FEEDBACK_COLUMNS = ("better", "worse", "pair", "annotator", "margin_before", "margin_after", "p_wrong", "wrong")
ANNOTATOR_COLUMNS = ("annotator", "judgements", "reliability", "ci_low", "ci_high", "true_reliability")
EXPORT_FORMATS = (".jsonl", ".parquet")


@dataclass(frozen=True)
class AuditedFeedback:
    """The comparisons of a run, what the audit says of them, and the model's output (n, C) before and after."""

    feedback: Feedback
    audit: Audit
    output_before: np.ndarray
    output_after: np.ndarray | None = None  # of the last epoch

    def scores(self) -> dict[str, float | None]:
        """The estimated flip rate, the true one, and how well p_wrong finds what is wrong; None where not known."""
        wrong = self.feedback.wrong.ravel()
        known = wrong[~np.isnan(wrong)]
        auroc, precision = audit_scores(self.audit.p_wrong, wrong)
        scores = {
            "estimated_flip_rate": self.audit.flip_rate,
            "flip_rate": float(known.mean()) if len(known) else math.nan,
            "auroc": auroc,
            "precision": precision,
        }
        return {name: None if math.isnan(value) else value for name, value in scores.items()}

    def margins(self, output: np.ndarray | None) -> np.ndarray:
        """The reward of the better text minus that of the worse, (L * k,), as a model with this output says."""
        better, worse = self.feedback.neighbours()
        if output is None:
            return np.full(len(better), np.nan)
        rewards = expected_class(output)
        return rewards[better] - rewards[worse]


def feedback_rows(audited: AuditedFeedback, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """One row per comparison: neighbours in a list."""
    feedback = audited.feedback
    better, worse = feedback.neighbours()
    before, after = audited.margins(audited.output_before), audited.margins(audited.output_after)
    wrong = [None if math.isnan(value) else int(value) for value in feedback.wrong.ravel()]
    nothing = [None] * len(better)
    pairs = nothing if feedback.pairs is None else feedback.pairs.tolist()
    annotators = nothing if feedback.annotators is None else [names[code] for code in feedback.annotators]
    measured = (before.tolist(), after.tolist(), audited.audit.p_wrong.tolist())
    yield from zip(better.tolist(), worse.tolist(), pairs, annotators, *measured, wrong, strict=True)


def annotator_rows(audited: AuditedFeedback, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """One row per annotator who judged a comparison of the feedback."""
    codes, found, wrong = audited.feedback.annotators, audited.audit.annotators, audited.feedback.wrong[:, 0]
    if codes is None or found is None:
        return
    known = ~np.isnan(wrong)
    judged = np.bincount(codes[known], minlength=len(found.judgements))
    right = np.bincount(codes[known], 1 - wrong[known], minlength=len(found.judgements))
    for code in np.flatnonzero(found.judgements).tolist():
        estimate = (float(column[code]) for column in (found.reliability, found.low, found.high))
        true = float(right[code] / judged[code]) if judged[code] else None
        yield (names[code], int(found.judgements[code]), *estimate, true)


def save_comparisons(folder: Path, audited: AuditedFeedback, names: Sequence[str]) -> None:
    """Write feedback.csv, and annotators.csv where there are annotators, whose names these are."""
    write_csv(folder / "feedback.csv", FEEDBACK_COLUMNS, feedback_rows(audited, names))
    if audited.feedback.annotators is not None:
        write_csv(folder / "annotators.csv", ANNOTATOR_COLUMNS, annotator_rows(audited, names))


def export_comparisons(file: Path, audited: AuditedFeedback, dataset: Dataset) -> None:
    """Write the comparisons as a preference data set, .jsonl or .parquet: `--comparisons` reads the same ones back."""
    import pandas as pd  # only where a table is wanted

    feedback, names = audited.feedback, dataset.judgements.annotator_names if dataset.judgements else []
    better, worse = feedback.neighbours()
    stars = {-1: None, **dict(enumerate(dataset.scale.tolist()))}
    claimed = {"chosen": feedback.ratings[:, :-1], "rejected": feedback.ratings[:, 1:]}
    wrong = [None if math.isnan(value) else bool(value) for value in feedback.wrong.ravel()]
    table = pd.DataFrame(
        {
            "chosen": [dataset.texts[row] for row in better],
            "rejected": [dataset.texts[row] for row in worse],
            **{
                f"{side}_rating": pd.Series([stars[rating] for rating in ratings.ravel().tolist()], dtype="Int64")
                for side, ratings in claimed.items()
            },
            "p_wrong": audited.audit.p_wrong,
            "wrong": pd.Series(wrong, dtype="boolean"),
            # By rows: other reviews with the same texts are another pair, whose true order may be the opposite.
            "pair": number_pairs(better, worse) if feedback.pairs is None else feedback.pairs,
        }
    )
    if feedback.annotators is not None:
        table["annotator"] = [names[code] for code in feedback.annotators]
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
