"""Tables and figures of a sweep, from its kept runs."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.config import SWEEP_AXES
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.evaluation.statistics import setting_names, summarise
from noisy_feedback.files import atomic_write, write_csv
from noisy_feedback.output import figures
from noisy_feedback.output.records import CURVE_COLUMNS, SweepFolder, phase_rows

AUDIT_COLUMNS = {  # columns of the tables: keys of a run's audit record
    "estimated_flip_rate": "estimated_flip_rate",
    "estimated_flip_rate_low": "flip_rate_low",
    "estimated_flip_rate_high": "flip_rate_high",
    **{name: name for name in ("true_flip_rate", "auroc", "precision")},
}


def write(folder: SweepFolder, results: Sequence[RunResult]) -> tuple[pd.DataFrame, list[Path]]:
    """Write runs.csv, curves.csv, summary.csv and the figures, then sweep.json; the summary and the figures' files.

    Of each figure there is a .png and a .pdf; the heat map of changes compares settings, where there are several.
    """
    runs = pd.DataFrame(runs_rows(results)).astype(dict.fromkeys(AUDIT_COLUMNS, float))
    curves = pd.DataFrame(sweep_curve_rows(results), columns=[*SWEEP_AXES, *CURVE_COLUMNS])
    summary = summarise(runs)
    write_csv(folder.path / "curves.csv", [*SWEEP_AXES, *CURVE_COLUMNS], sweep_curve_rows(results))
    for name, table in (("runs.csv", runs), ("summary.csv", summary)):
        with atomic_write(folder.path / name) as file:
            table.to_csv(file, index=False, lineterminator="\n")
    drawn = {}
    if len(curves):
        drawn["curves"] = figures.draw_curves(curves)
    if runs["last_accuracy"].notna().any():
        drawn["metrics"] = figures.draw_metrics(runs, summary)
        if len(set(setting_names(runs))) > 1:
            drawn["change"] = figures.draw_change(summary)
    if runs["true_flip_rate"].notna().any():
        drawn["audit"] = figures.draw_audit(runs)
    for name, figure in drawn.items():
        for suffix in (".png", ".pdf"):
            with atomic_write(folder.path / f"{name}{suffix}") as file:
                figures.save_figure(figure, file)
    folder.write_record(results)
    return summary, [folder.path / f"{name}.png" for name in drawn]


def runs_rows(results: Sequence[RunResult]) -> list[dict[str, Any]]:
    """One row per run: every test metric before, best and last; best epochs; noise and comparisons."""
    rows = []
    for result in results:
        row: dict[str, Any] = {
            **{axis: getattr(result.config, axis) for axis in SWEEP_AXES},
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
        rows.append(row)
    return rows


def sweep_curve_rows(results: Sequence[RunResult]) -> Iterator[tuple[Any, ...]]:
    """Curves of all runs; training, which depends on the seed alone, once per seed, with empty cells for the rest."""
    seen = set()
    for result in results:
        seed = result.config.seed
        if seed not in seen:
            yield from phase_rows((seed, *[None] * (len(SWEEP_AXES) - 1)), "training", result.training)
        seen.add(seed)
        axes = tuple(getattr(result.config, axis) for axis in SWEEP_AXES)
        yield from phase_rows(axes, "fine-tuning", result.fine_tuning)
