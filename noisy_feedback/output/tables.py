"""Tables and figures of a sweep, from its kept runs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from noisy_feedback.config import SETTING_AXES, SWEEP_AXES
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.files import atomic_write
from noisy_feedback.metrics import METRICS, STAGES
from noisy_feedback.output.records import SweepFolder, axes_of, curves_table, write_table, write_text
from noisy_feedback.output.sweep_tables import SweepTables

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


def write(folder: SweepFolder, results: Sequence[RunResult]) -> tuple[SweepTables, list[Path]]:
    """Write runs.csv, curves.csv, summary.csv and the figures, then sweep.json; the tables and the figures' files.

    Of each figure there is a .png and a .pdf. One that is there stays where sweep.json says that it is of the same
    runs: drawing takes a second.
    """
    runs, curves = runs_table(results), curves_table(results)
    summary = summarise(runs)
    for name, table in (("curves.csv", curves), ("runs.csv", runs), ("summary.csv", summary)):
        write_table(folder.path / name, table)
    sweep = SweepTables(runs, curves, summary, len(folder.provenance.data.scale))
    tuned = (summary["stage"] == "last").any()
    wanted = {
        "curves": len(curves) > 0,
        "metrics": tuned,
        "change": tuned and len(runs[list(SETTING_AXES)].drop_duplicates()) > 1,
        "audit": runs["true_flip_rate"].notna().any(),
    }
    shown = [name for name, is_wanted in wanted.items() if is_wanted]
    written, record = folder.path / "sweep.json", folder.record({"runs": [axes_of(run.config) for run in results]})
    same = written.is_file() and written.read_bytes() == record.encode()
    for name in shown:
        files = [folder.path / f"{name}{suffix}" for suffix in (".png", ".pdf")]
        if same and all(file.exists() for file in files):
            continue
        from noisy_feedback.output import figures, plots  # imports matplotlib: only when there is something to draw

        figure = getattr(figures, f"draw_{name}")(sweep)
        for file in files:
            with atomic_write(file) as temporary:
                plots.save_figure(figure, temporary)
    write_text(written, record)
    return sweep, [folder.path / f"{name}.png" for name in shown]


def runs_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run: every test metric before, best and last; best epochs; noise, comparisons and their audit."""
    found = pd.json_normalize([asdict(result) for result in results])
    return found.reindex(columns=list(RUN_COLUMNS.values())).set_axis(list(RUN_COLUMNS), axis=1)
