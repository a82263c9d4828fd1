"""Tables and figures of a sweep, from its kept runs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from noisy_feedback.config import SWEEP_AXES
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.evaluation.statistics import setting_names, summarise
from noisy_feedback.files import atomic_write
from noisy_feedback.metrics import METRICS, STAGES
from noisy_feedback.output.records import SweepFolder, curves_table, write_table, write_text

RUN_COLUMNS = {  # of runs.csv: parts of a run's result
    **{axis: f"config.{axis}" for axis in SWEEP_AXES},
    "kl_weight_used": "kl_weight_used",
    "best_training_epoch": "best_epochs.training",
    "best_fine_tuning_epoch": "best_epochs.fine_tuning",
    "ratings_changed": "noise.changed",
    "ratings": "noise.total",
    "comparisons": "comparisons.count",
    **{name: f"comparisons.{name}" for name in ("reviews_used", "ties")},
    "estimated_flip_rate": "audit.estimated_flip_rate",
    "estimated_flip_rate_low": "audit.flip_rate_low",
    "estimated_flip_rate_high": "audit.flip_rate_high",
    **{name: f"audit.{name}" for name in ("true_flip_rate", "auroc", "precision")},
    **{f"{stage}_{metric}": f"{stage}.{metric}" for stage in ("majority", *STAGES) for metric in METRICS},
}


def write(folder: SweepFolder, results: Sequence[RunResult]) -> tuple[pd.DataFrame, list[Path]]:
    """Write runs.csv, curves.csv, summary.csv and the figures, then sweep.json; the summary and the figures' files.

    Of each figure there is a .png and a .pdf; the heat map of changes compares settings, where there are several. A
    figure that is there stays where sweep.json says that it is of the same runs: drawing takes a second.
    """
    classes = len(folder.provenance.data.scale)
    runs, curves = runs_table(results), curves_table(results)
    summary = summarise(runs)
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
    written, record = folder.path / "sweep.json", folder.record(results)
    same = written.is_file() and written.read_bytes() == record.encode()
    for name, drawn in shown.items():
        files = [folder.path / f"{name}{suffix}" for suffix in (".png", ".pdf")]
        if same and all(file.exists() for file in files):
            continue
        from noisy_feedback.output import figures, plots  # imports matplotlib: only when there is something to draw

        figure = getattr(figures, f"draw_{name}")(*drawn, classes)
        for file in files:
            with atomic_write(file) as temporary:
                plots.save_figure(figure, temporary)
    write_text(written, record)
    return summary, [folder.path / f"{name}.png" for name in shown]


def runs_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run: every test metric before, best and last; best epochs; noise, comparisons and their audit."""
    found = pd.json_normalize([asdict(result) for result in results])
    table = found.reindex(columns=list(RUN_COLUMNS.values())).set_axis(list(RUN_COLUMNS), axis=1)
    return table.astype(dict.fromkeys(("true_flip_rate", "auroc", "precision"), float))
