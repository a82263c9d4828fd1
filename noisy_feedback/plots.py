"""Figures at the width of a paper's column, from what results hold.

Noise ratios run through cividis, which colour-blind readers see in order and grey prints keep in order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisy_feedback.metrics import METRICS
from noisy_feedback.settings import COMBINATION
from noisy_feedback.training import Epoch

# Okabe and Ito 2008: colours that colour-blind readers tell apart; and neutral tones.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
ORANGE, BLUE, GREY, BLACK = *PALETTE[:2], "#767676", "#222222"
MARKERS = ("s", "o", "^", "D", "v", "P", "X")
LINES: Any = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # a second way to tell lines apart
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
            accuracy = [epoch.validation_accuracy for epoch in epochs]
            axes.plot(numbers, accuracy, color=BLUE)
            macro_f1 = [epoch.validation_macro_f1 for epoch in epochs]
            axes.plot(numbers, macro_f1, color=ORANGE, linestyle="--")
        mark_fine_tuning(axes, len(training), len(fine_tuning), f"fine-tuning,\nnoise={ratio:g}")
        axes.plot([], color=BLUE, label="accuracy (micro F1)")
        axes.plot([], color=ORANGE, linestyle="--", label="macro F1")
        axes.set(xlabel="epoch", ylabel="validation score")
        axes.legend(loc="lower left")
        save(figure, file)


def draw_curves(curves: pd.DataFrame, file: Path) -> None:
    """The study's figure: validation F1 over training, then fine-tuning epochs, one line per noise ratio.

    Lines are means over seeds, bands one standard deviation; training, which knows no noise, is drawn once. One
    panel per combination of loss, anchor and kind of noise.
    """
    with matplotlib.rc_context(STYLE):
        training = curves[curves["phase"] == "training"]
        fine_tuning = curves[curves["phase"] == "fine-tuning"]
        panels = [found for _, found in fine_tuning.groupby(list(COMBINATION), sort=False)] or [fine_tuning]
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        size = (COLUMN if columns == 1 else 2.4 * columns, 2.6 if columns == 1 else 2.2 * rows)
        figure = Figure(figsize=size, layout="constrained")
        for number, axes in enumerate(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat):
            if number >= len(panels):
                axes.set_visible(False)
                continue
            draw_curve_panel(axes, training, panels[number])
            if len(panels) > 1:
                axes.set_title(combinations(fine_tuning)[number], fontsize=8)
            if number >= len(panels) - columns:
                axes.set(xlabel="epoch")
            if number % columns == 0:
                axes.set(ylabel="validation F1 (micro)")
        if not fine_tuning.empty:
            figure.axes[0].legend(loc="lower left", handlelength=2.8)
        save(figure, file)


def draw_curve_panel(axes: Axes, training: pd.DataFrame, fine_tuning: pd.DataFrame) -> None:
    length = 0 if training.empty else int(training["epoch"].max())
    draw_band(axes, training, 0, color=BLACK, label=None)
    ratios = sorted(set(fine_tuning["ratio"]))
    for ratio, color, line in zip(ratios, ordered_colours(len(ratios)), cycle_lines(len(ratios)), strict=True):
        rows = fine_tuning[fine_tuning["ratio"] == ratio]
        draw_band(axes, rows, length, color=color, linestyle=line, label=f"noise={ratio:g}")
    mark_fine_tuning(
        axes, length, 0 if fine_tuning.empty else int(fine_tuning["epoch"].max()), "fine-tuning, from\nthe best epoch"
    )


def draw_metrics(runs: pd.DataFrame, summary: pd.DataFrame, file: Path) -> None:
    """Test metrics against the noise ratio: means with intervals, seeds as dots, before fine-tuning as a line.

    Of one combination the best and the last epoch; of several the last, one line for each.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 4.4), layout="constrained")
        ratios = sorted(set(runs["ratio"]))
        step = min(np.diff(ratios), default=0.2)
        names = combinations(runs)
        if len(names) == 1:
            lines = [("best epoch", "best", names[0]), ("last epoch", "last", names[0])]
        else:
            lines = [(name, "last", name) for name in names]
        shifts = 0.08 * (np.arange(len(lines)) - (len(lines) - 1) / 2)
        runs, summary = (table.assign(combination=named(table)) for table in (runs, summary))
        for axes, metric in zip(figure.subplots(len(SHOWN), 1, sharex=True), SHOWN, strict=True):
            before = runs.drop_duplicates("seed")[f"before_{metric}"].mean()
            axes.axhline(before, color=GREY, linewidth=0.8, linestyle=":", label="before fine-tuning")
            for number, (label, stage, name) in enumerate(lines):
                chosen = runs[runs["combination"] == name]
                color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
                dots = chosen["ratio"] + (2.2 if len(names) == 1 else 1) * shifts[number] * step
                axes.plot(dots, chosen[f"{stage}_{metric}"], marker, color=color, markersize=2, alpha=0.35, zorder=1)
                rows = summary[
                    (summary["combination"] == name) & (summary["stage"] == stage) & (summary["metric"] == metric)
                ]
                error = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
                axes.errorbar(
                    rows["ratio"] + shifts[number] * step,
                    rows["mean"],
                    yerr=np.nan_to_num(error),
                    color=color,
                    linestyle=LINES[number % len(LINES)],
                    marker=marker,
                    markersize=3.5,
                    elinewidth=0.8,
                    capsize=2,
                    label=label,
                )
            axes.set(ylabel=f"test {METRICS[metric]}", xticks=ratios)
        axes.set(xlabel="noise ratio")
        if len(names) == 1:
            figure.axes[0].legend(loc="lower left")
        else:
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=6)
        save(figure, file)


def draw_change(summary: pd.DataFrame, file: Path) -> None:
    """Heat maps of the mean change of test metrics from before fine-tuning to its last epoch."""
    with matplotlib.rc_context(STYLE):
        last = summary[summary["stage"] == "last"].assign(combination=lambda table: named(table))
        names, ratios = combinations(summary), sorted(set(summary["ratio"]))
        width = 0.5 + 0.06 * max(map(len, names)) + max(0.5 * len(ratios), 1.6)  # inches; the titles need 1.6
        size = (width, 1.0 + 0.4 * len(names) * len(SHOWN))
        figure = Figure(figsize=size, layout="constrained")
        for axes, metric in zip(figure.subplots(len(SHOWN), 1, sharex=True), SHOWN, strict=True):
            table = last[last["metric"] == metric].pivot(index="combination", columns="ratio", values="change")
            change = table.loc[names, ratios].to_numpy()
            most = np.max(np.abs(change), where=np.isfinite(change), initial=0) or 1
            axes.imshow(change, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
            for (row, column), value in np.ndenumerate(change):
                shade = "white" if abs(value) > 0.65 * most else BLACK
                text = f"{value:+.3f}" if np.isfinite(value) else "-"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)
            axes.set(xticks=range(len(ratios)), yticks=range(len(names)))
            axes.set_xticklabels([f"{ratio:g}" for ratio in ratios])
            axes.set_yticklabels(names)
            axes.set_title(f"change of test {METRICS[metric]}", fontsize=8)
        axes.set(xlabel="noise ratio")
        save(figure, file)


def combinations(table: pd.DataFrame) -> list[str]:
    """The names of the combinations of loss, anchor and noise in a table, in order."""
    return list(dict.fromkeys(named(table)))


def named(table: pd.DataFrame) -> list[str]:
    """For each row what sets its combination apart: the loss, and what else varies in the table."""
    varied = [name for name in COMBINATION if name == "preference_loss" or table[name].nunique() > 1]
    words = {"preference_loss": "{}", "anchor": "anchor {:g}", "noise": "{} noise"}
    return [
        ", ".join(words[name].format(value) for name, value in zip(varied, row, strict=True))
        for row in table[varied].itertuples(index=False)
    ]


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
        (training + 0.5, 0),
        (3, 3),
        color=GREY,
        fontsize=7,
        va="bottom",
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
