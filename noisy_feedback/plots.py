"""Figures at the width of a paper's column, from what results hold.

Noise ratios run through cividis, which colour-blind readers see in order and grey prints keep in order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("agg")  # files, never windows: the programs run where there is no screen

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisy_feedback.metrics import METRICS
from noisy_feedback.training import Epoch

BLUE, ORANGE, GREY, BLACK = "#0072B2", "#D55E00", "#767676", "#222222"  # Okabe and Ito 2008; neutral tones
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # a second way to tell lines apart
COLUMN = 3.4  # inches
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}
SHOWN = ("macro_f1", "quadratic_weighted_kappa")


def draw_run(training: Sequence[Epoch], fine_tuning: Sequence[Epoch], ratio: float, file: Path) -> None:
    """Validation accuracy and macro F1 of one run over training, then fine-tuning epochs."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
        axes = figure.subplots()
        for start, epochs in ((0, training), (len(training), fine_tuning)):
            numbers = np.arange(start, start + len(epochs)) + 1
            named = start == 0  # each line once in the legend
            accuracy = [epoch.validation_accuracy for epoch in epochs]
            axes.plot(numbers, accuracy, color=BLUE, label="accuracy (micro F1)" if named else None)
            macro_f1 = [epoch.validation_macro_f1 for epoch in epochs]
            axes.plot(numbers, macro_f1, color=ORANGE, linestyle="--", label="macro F1" if named else None)
        mark_fine_tuning(axes, len(training), len(fine_tuning), f"fine-tuning,\nnoise={ratio:g}")
        axes.set(xlabel="epoch", ylabel="validation score")
        axes.legend(loc="lower left")
        save(figure, file)


def draw_curves(curves: pd.DataFrame, file: Path) -> None:
    """The study's figure: validation F1 over training, then fine-tuning epochs, one line per noise ratio.

    Lines are means over seeds, bands one standard deviation; training, which knows no noise, is drawn once.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        axes = figure.subplots()
        training = curves[curves["phase"] == "training"]
        fine_tuning = curves[curves["phase"] == "fine-tuning"]
        length = 0 if training.empty else int(training["epoch"].max())
        draw_band(axes, training, 0, color=BLACK, label=None)
        ratios = sorted(set(fine_tuning["ratio"]))
        for ratio, color, line in zip(ratios, ordered_colours(len(ratios)), cycle_lines(len(ratios)), strict=True):
            rows = fine_tuning[fine_tuning["ratio"] == ratio]
            draw_band(axes, rows, length, color=color, linestyle=line, label=f"noise={ratio:g}")
        mark_fine_tuning(axes, length, 0 if fine_tuning.empty else int(fine_tuning["epoch"].max()), "fine-tuning")
        axes.set(xlabel="epoch", ylabel="validation F1 (micro)")
        if ratios:
            axes.legend(loc="lower left", handlelength=2.8)
        save(figure, file)


def draw_metrics(runs: pd.DataFrame, summary: pd.DataFrame, file: Path) -> None:
    """Test metrics against the noise ratio: means with intervals, seeds as dots, before fine-tuning as a line."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 4.4), layout="constrained")
        ratios = sorted(set(runs["ratio"]))
        step = min(np.diff(ratios), default=0.2)
        for axes, metric in zip(figure.subplots(len(SHOWN), 1, sharex=True), SHOWN, strict=True):
            before = runs.drop_duplicates("seed")[f"before_{metric}"].mean()
            axes.axhline(before, color=GREY, linewidth=0.8, linestyle=":", label="before fine-tuning")
            for stage, shift, color, line, marker in (
                ("best", -0.04, ORANGE, "--", "s"),
                ("last", 0.04, BLUE, "-", "o"),
            ):
                rows = summary[(summary["stage"] == stage) & (summary["metric"] == metric)].sort_values("ratio")
                dots = runs["ratio"] + 2.2 * shift * step
                axes.plot(dots, runs[f"{stage}_{metric}"], marker, color=color, markersize=2, alpha=0.35, zorder=1)
                error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
                axes.errorbar(
                    rows["ratio"] + shift * step,
                    rows["mean"],
                    yerr=np.nan_to_num(error),
                    color=color,
                    linestyle=line,
                    marker=marker,
                    markersize=3.5,
                    elinewidth=0.8,
                    capsize=2,
                    label=f"{stage} epoch",
                )
            axes.set(ylabel=f"test {METRICS[metric]}", xticks=ratios)
        axes.set(xlabel="noise ratio")
        figure.axes[0].legend(loc="lower left")
        save(figure, file)


def draw_band(axes: Axes, curves: pd.DataFrame, start: int, **line: Any) -> None:
    """Mean over seeds of the validation F1, and a band of one standard deviation."""
    by_epoch = curves.groupby("epoch")["validation_accuracy"]
    mean, spread = by_epoch.mean(), by_epoch.std().fillna(0)
    epochs = mean.index.to_numpy() + start
    axes.plot(epochs, mean, **line)
    axes.fill_between(epochs, mean - spread, mean + spread, color=line["color"], alpha=0.15, linewidth=0)


def mark_fine_tuning(axes: Axes, training: int, fine_tuning: int, text: str) -> None:
    """A dotted line where fine-tuning starts: from the best training epoch, so curves may jump there."""
    if not training or not fine_tuning:
        return
    axes.axvline(training + 0.5, color=GREY, linewidth=0.6, linestyle=":")
    axes.annotate(
        text,
        (training + 0.5, 1),
        (3, -1),
        color=GREY,
        fontsize=7,
        va="top",
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
    )


def ordered_colours(count: int) -> list[Any]:
    """Colours from dark to light, without the palest, which paper swallows."""
    return list(matplotlib.colormaps["cividis"](np.linspace(0, 0.85, count)))


def cycle_lines(count: int) -> list[Any]:
    return [LINES[number % len(LINES)] for number in range(count)]


def save(figure: Figure, file: Path) -> None:
    """The same figure gives the same bytes: no dates, no versions."""
    figure.savefig(file, metadata={"CreationDate": None} if file.suffix == ".pdf" else {"Software": None})
