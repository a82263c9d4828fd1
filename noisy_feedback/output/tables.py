"""Tables and figures of a sweep, from its kept runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.config import SWEEP_AXES
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.evaluation.statistics import setting_names, summarise
from noisy_feedback.files import atomic_write
from noisy_feedback.output.records import CURVE_COLUMNS, SweepFolder, axes_of, curve_rows, write_table

AUDIT_COLUMNS = {  # columns of the tables: keys of a run's audit record
    "estimated_flip_rate": "estimated_flip_rate",
    "estimated_flip_rate_low": "flip_rate_low",
    "estimated_flip_rate_high": "flip_rate_high",
    **{name: name for name in ("true_flip_rate", "auroc", "precision")},
}


def write(folder: SweepFolder, results: Sequence[RunResult]) -> tuple[pd.DataFrame, list[Path]]:
    """Write runs.csv, curves.csv, summary.csv and the figures, then sweep.json; the summary and the figures' files.

    Of each figure there is a .png and a .pdf; the heat map of changes compares settings, where there are several. A
    figure that is there stays where sweep.json says that it is of the same runs: drawing takes a second.
    """
    classes = len(folder.provenance.data.scale)
    runs = pd.DataFrame([run_row(result) for result in results]).astype(dict.fromkeys(AUDIT_COLUMNS, float))
    curves, summary = curves_table(results), summarise(runs)
    for name, table in (("curves.csv", curves), ("runs.csv", runs), ("summary.csv", summary)):
        write_table(folder.path / name, table)
    shown: dict[str, tuple[pd.DataFrame, ...]] = {}  # by figure: the tables that it is drawn from
    if len(curves):
        shown["curves"] = (curves,)
    if runs[["last_accuracy", "last_preference_accuracy"]].notna().any(axis=None):
        shown["metrics"] = (runs, summary)
        if len(set(setting_names(runs))) > 1:
            shown["change"] = (summary,)
    if runs["true_flip_rate"].notna().any():
        shown["audit"] = (runs,)
    same = folder.is_recorded(results)
    for name, drawn in shown.items():
        files = [folder.path / f"{name}{suffix}" for suffix in (".png", ".pdf")]
        if same and all(file.exists() for file in files):
            continue
        from noisy_feedback.output import figures, plots  # imports matplotlib: only when there is something to draw

        figure = getattr(figures, f"draw_{name}")(*drawn, classes)
        for file in files:
            with atomic_write(file) as temporary:
                plots.save_figure(figure, temporary)
    folder.write_record(results)
    return summary, [folder.path / f"{name}.png" for name in shown]


def run_row(result: RunResult) -> dict[str, Any]:
    """One run: every test metric before, best and last; best epochs; noise and comparisons."""
    row: dict[str, Any] = {
        **axes_of(result.config),
        "kl_weight_used": result.kl_weight_used,
        "best_training_epoch": result.best_epochs["training"],
        "best_fine_tuning_epoch": result.best_epochs["fine_tuning"],
        "ratings_changed": result.noise["changed"],
        "ratings": result.noise["total"],
        "comparisons": result.comparisons["count"],
        "reviews_used": result.comparisons["reviews_used"],
        "ties": result.comparisons["ties"],
        **{column: (result.audit or {}).get(key) for column, key in AUDIT_COLUMNS.items()},
    }
    for stage, metrics in {"majority": result.majority, **result.stages()}.items():
        row |= {f"{stage}_{name}": getattr(metrics, name) if metrics else math.nan for name in METRICS}
    return row


def curves_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Curves of all runs; training, which depends on the seed alone, once per seed, with empty cells for the rest."""
    rows, seeds = [], set()
    for result in results:
        seed = result.config.seed
        if seed not in seeds:
            rows += curve_rows({"seed": seed}, "training", result.training)
        seeds.add(seed)
        rows += curve_rows(axes_of(result.config), "fine-tuning", result.fine_tuning)
    return pd.DataFrame(rows, columns=[*SWEEP_AXES, *CURVE_COLUMNS])
