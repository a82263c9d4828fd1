"""Tables and figures of a sweep, from its kept runs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from noisy_feedback.config import SWEEP_AXES
from noisy_feedback.evaluation.statistics import combination_names, summarise
from noisy_feedback.files import atomic_write
from noisy_feedback.output import figures
from noisy_feedback.output.records import (
    AUDIT_COLUMNS,
    CURVE_COLUMNS,
    RunResult,
    SweepFolder,
    runs_rows,
    sweep_curve_rows,
    write_csv,
)


def write(folder: SweepFolder, results: Sequence[RunResult]) -> tuple[pd.DataFrame, list[Path]]:
    """Write runs.csv, curves.csv, summary.csv and the figures, then sweep.json; the summary and the figures' files.

    Of each figure there is a .png and a .pdf; the heat map of changes compares combinations, where there are several.
    """
    runs = pd.DataFrame(runs_rows(results)).astype(dict.fromkeys(AUDIT_COLUMNS, float))
    curves = pd.DataFrame(sweep_curve_rows(results), columns=[*SWEEP_AXES, *CURVE_COLUMNS])
    summary = summarise(runs)
    write_csv(folder.path / "curves.csv", [*SWEEP_AXES, *CURVE_COLUMNS], sweep_curve_rows(results))
    for name, table in (("runs.csv", runs), ("summary.csv", summary)):
        with atomic_write(folder.path / name) as file:
            table.to_csv(file, index=False, lineterminator="\n")
    drawn: dict[str, list[Figure]] = {"curves": figures.draw_curves(curves) if len(curves) else []}
    if runs["last_accuracy"].notna().any():
        drawn["metrics"] = figures.draw_metrics(runs, summary)
        if len(set(combination_names(runs))) > 1:
            drawn["change"] = figures.draw_change(summary)
    if runs["flip_rate"].notna().any():
        drawn["audit"] = figures.draw_audit(runs)
    files = []
    for name, pages in drawn.items():
        for number, figure in enumerate(pages, start=1):
            stem = name if number == 1 else f"{name}-{number}"
            for suffix in (".png", ".pdf"):
                with atomic_write(folder.path / f"{stem}{suffix}") as file:
                    figures.save_figure(figure, file)
            files.append(folder.path / f"{stem}.png")
    folder.write_record(results)
    return summary, files
