"""Figures of sweeps, from their tables. Every function returns one matplotlib figure; `plots.save_figure` writes it."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from noisy_feedback.config import ADAPTIVE, LABELS, SETTING_AXES
from noisy_feedback.evaluation.statistics import no_information, setting_names, shown_metrics
from noisy_feedback.metrics import METRICS
from noisy_feedback.output import plots

DOTS: Any = {"linestyle": "", "markersize": 2, "alpha": 0.35, "zorder": 1}  # single seeds, behind their mean
REFERENCE: Any = {"color": plots.GREY, "linewidth": 0.8}
SIGNIFICANT = 0.05
ONE_SEED = "1 seed"
COLUMNS = 3  # of draw_curves


@matplotlib.rc_context(plots.STYLE)
def draw_curves(curves: pd.DataFrame, classes: int) -> Figure:
    """The study's figure: validation accuracy over training, then fine-tuning epochs, one line per noise ratio.

    With human comparisons of the validation part, the preference accuracy on them takes its place. Lines are means over
    seeds, bands one standard deviation; training, which has no noise, is one black line. One panel per setting of loss,
    KL weight, labels and kind of noise. `curves` has the columns of a sweep's curves.csv.
    """
    training, fine_tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
    fine_tuning, axis, names = with_places(fine_tuning)
    settings = split_settings(fine_tuning) or {"": fine_tuning}
    compared = curves["validation_preference_accuracy"].notna().any()
    score = "validation_preference_accuracy" if compared else "validation_accuracy"
    lengths = [0 if phase.empty else int(phase["epoch"].max()) for phase in (training, fine_tuning)]
    columns = min(len(settings), COLUMNS)
    rows = -(-len(settings) // columns)
    width, height = (plots.COLUMN, 2.5) if columns == 1 else (2.4, 2.1)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (name, panel) in zip(grid, settings.items(), strict=False):
        draw_curve_panel(axes, score, training, panel, range(len(names)), lengths[0], "place")
        axes.set_title(fill(name, 34, break_on_hyphens=False) if len(settings) > 1 else "", fontsize=7)
        axes.set(ylabel=fill(score.replace("_", " "), 22))
        plots.set_epochs(axes, *lengths)
        axes.label_outer()
    for axes in grid[len(settings) :]:
        axes.remove()
    if names:
        handles = [Line2D([], [], **style) for style in plots.ratio_styles(len(names))]
        plots.add_legend(figure, handles, names, columns=5, title=axis)
    seeds = describe_seeds(training if fine_tuning.empty else fine_tuning)
    band = "" if seeds == ONE_SEED else "; band: one standard deviation"
    notes = [f"{seeds}{band}; black: training", *plots.fine_tuning_note(*lengths)]
    if fine_tuning.empty:
        notes.append("nothing was fine-tuned: no epochs, or an adaptive KL weight that is infinite")
    if ADAPTIVE in set(fine_tuning["kl_weight"]):
        notes.append(f"KL weight {ADAPTIVE}: no line where nothing was fine-tuned")
    plots.add_notes(figure, [*notes, *information_notes(fine_tuning, classes)])
    return figure


def draw_curve_panel(
    axes: Axes,
    score: str,
    training: pd.DataFrame,
    fine_tuning: pd.DataFrame,
    values: Sequence[Any],
    start: int,
    axis: str = "ratio",
) -> None:
    """The curves of one setting, a line for each value of `axis`, from epoch `start` on; and training of its seeds."""
    if len(fine_tuning):
        training = training[training["seed"].isin(fine_tuning["seed"])]
    parts = [(training, 0), *((fine_tuning[fine_tuning[axis] == value], start) for value in values)]
    styles = [{"color": plots.BLACK, "linestyle": "-"}, *plots.ratio_styles(len(values))]
    for (rows, before), style in zip(parts, styles, strict=True):
        by_epoch = rows.groupby("epoch")[score]
        mean, sd = by_epoch.mean(), by_epoch.std().fillna(0)
        epochs = mean.index.to_numpy() + before
        axes.plot(epochs, mean, marker="o" if len(epochs) == 1 else "", markersize=3, **style)
        axes.fill_between(epochs, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


@matplotlib.rc_context(plots.STYLE)
def draw_metrics(runs: pd.DataFrame, summary: pd.DataFrame, classes: int) -> Figure:
    """Test metrics against the noise ratio: means with intervals, seeds as dots; below, the number of comparisons.

    A line for the last epoch of each setting, and for the best epoch where there is one setting. Horizontal lines are
    means before fine-tuning, and of always predicting the most frequent rating; a vertical one marks the ratio without
    information. Where there is one ratio, the labels take its place. `runs` has the columns of runs.csv, `summary`
    those of summary.csv.
    """
    (runs, axis, names), (summary, _, _) = with_places(runs), with_places(summary)
    lines = [
        (setting, "last", summary[summary["setting"] == setting], own, plots.line_style(number))
        for number, (setting, own) in enumerate(split_settings(runs).items())
    ]
    notes = ["last epoch of fine-tuning"]
    if len(lines) == 1:
        ((_, _, rows, own, style),) = lines
        best = style | {"linestyle": ":", "markerfacecolor": "white"}
        lines = [("last epoch", "last", rows, own, style), ("best epoch", "best", rows, own, best)]
        notes = []
    shown = shown_metrics(summary)
    figure = Figure(figsize=(plots.COLUMN, 1.2 + 1.4 * len(shown)), layout="constrained")
    *panels, below = figure.subplots(len(shown) + 1, 1, sharex=True, height_ratios=[1] * len(shown) + [0.5])
    of_seeds = runs.drop_duplicates("seed")
    for axes, metric in zip(panels, shown, strict=True):
        axes.axhline(of_seeds[f"before_{metric}"].mean(), **REFERENCE, linestyle=":", label="before fine-tuning")
        if metric == "macro_f1":  # the other metrics of a constant prediction are 0 or 0.5, which would flatten a panel
            level = of_seeds[f"majority_{metric}"].mean()
            axes.axhline(level, **REFERENCE, linestyle="--", label="most frequent rating")
        for noise, ratio in no_information(runs, classes).items():
            place = np.interp(ratio, sorted(set(runs["ratio"])), range(len(names)))
            axes.axvline(place, **REFERENCE, label=f"no information ({noise})")
        for number, (label, stage, rows, own, style) in enumerate(lines):
            shift = plots.dodge(number, len(lines))
            axes.plot(own["place"] + shift, own[f"{stage}_{metric}"], **style | DOTS)
            means = rows[(rows["stage"] == stage) & (rows["metric"] == metric)]
            draw_means(axes, means["place"] + shift, means, label=label, **style)
        axes.set(ylabel=fill(f"test {METRICS[metric]}", 16))
    drawn: list[dict[Any, float]] = []  # numbers of comparisons: equal ones are one line
    for _, _, rows, _, style in lines:
        counts = rows.set_index("place")["comparisons"].to_dict()
        if counts not in drawn:
            below.plot(list(counts), list(counts.values()), markersize=3, **style)
            drawn.append(counts)
    below.set(ylabel="comparisons", ylim=(0, 1.2 * summary["comparisons"].max()))
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    set_places(below, axis, names)
    figure.align_ylabels()
    handles, labels = panels[0].get_legend_handles_labels()
    plots.add_legend(figure, handles, labels, columns=1 if max(map(len, labels)) > 20 else 2, fontsize=6)
    seeds = describe_seeds(runs)
    if seeds != ONE_SEED:
        seeds += "; bars: 95 % intervals of the mean; small dots: seeds"
        notes.append("paired differences have narrower intervals (summary.csv)")
    plots.add_notes(figure, [seeds, *notes, *information_notes(runs, classes)])
    return figure


def draw_means(axes: Axes, places: pd.Series, rows: pd.DataFrame, **style: Any) -> None:
    """Means of one metric with their intervals; no bar where an interval is not defined."""
    error = np.nan_to_num([rows["mean"] - rows["ci_low"], rows["ci_high"] - rows["mean"]])
    axes.errorbar(places, rows["mean"], yerr=error, markersize=3.5, elinewidth=0.8, capsize=2, **style)


@matplotlib.rc_context(plots.STYLE)
def draw_change(summary: pd.DataFrame, classes: int) -> Figure:
    """Heat maps of the mean change of test metrics from before fine-tuning to its last epoch.

    One row per setting, one column per noise ratio (or labels, where there is one ratio); one scale of colours per
    metric, centred on 0. Significant changes (paired t-test, p < 0.05) are bold on their colour, others grey on white;
    a question mark says that there is no test.
    """
    shown = shown_metrics(summary)
    last, axis, names = with_places(summary[summary["stage"] == "last"])
    settings = split_settings(last)
    width = 1.4 + 0.057 * max(map(len, settings)) + max(0.42 * len(names), 2.1)  # inches
    figure = Figure(figsize=(width, 1 + (0.4 + 0.2 * len(settings)) * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, shown, strict=True):
        of_metric = (rows[rows["metric"] == metric].set_index("place") for rows in settings.values())
        cells = [rows.reindex(range(len(names))) for rows in of_metric]
        change, p = (np.array([row[name] for row in cells]) for name in ("vs_before", "vs_before_p"))
        limit = max(np.nanmax(np.abs(change), initial=0), 1e-9)
        significant = np.where(p < SIGNIFICANT, change, np.nan)
        figure.colorbar(axes.imshow(significant, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto"), ax=axes)
        for place, value in np.ndenumerate(change):
            style: Any = {"color": plots.GREY}
            if p[place] < SIGNIFICANT:
                style = {"color": "white" if abs(value) > 0.65 * limit else plots.BLACK, "fontweight": "bold"}
            text = "-" if np.isnan(value) else f"{value:+.3f}" + "?" * bool(np.isnan(p[place]))
            axes.text(*place[::-1], text, ha="center", va="center", fontsize=6, **style)
        axes.set_yticks(range(len(settings)), list(settings), fontsize=7)
        axes.set_title(f"test {METRICS[metric]}", fontsize=8)
    set_places(axes, axis, names)
    notes = [f"change from before fine-tuning to the last epoch, {describe_seeds(last)}"]
    notes.append("bold: significant (paired t-test, p < 0.05); ?: no test (one seed, or equal changes)")
    plots.add_notes(figure, [*notes, *information_notes(last, classes)])
    return figure


@matplotlib.rc_context(plots.STYLE)
def draw_audit(runs: pd.DataFrame, classes: int) -> Figure:
    """How well the audit finds wrong comparisons: estimated against true flip rate, and AUROC against the noise ratio.

    A dot is the feedback of one seed, a line the mean over seeds; one line for each kind of labels and noise, whatever
    the loss: that comes after the audit. `runs` has the columns of runs.csv.
    """
    runs, axis, names = with_places(runs.drop_duplicates(["seed", "labels", "noise", "ratio"]))
    kinds = split_settings(runs.assign(setting=setting_names(runs, ("labels", "noise"))))
    highest = np.nanmax(runs[["true_flip_rate", "estimated_flip_rate"]].to_numpy())
    figure = Figure(figsize=(plots.COLUMN, 4.2), layout="constrained")
    rates, scores = figure.subplots(2, 1)
    rates.plot([0, highest], [0, highest], **REFERENCE, linestyle=":")
    for number, rows in enumerate(kinds.values()):
        style, shift = plots.line_style(number), 0 if axis == "labels" else plots.dodge(number, len(kinds))
        rates.plot(rows["true_flip_rate"], rows["estimated_flip_rate"], **style | DOTS)
        means = rows.groupby("place")["auroc"].mean()
        scores.plot(rows["place"] + shift, rows["auroc"], **style | DOTS)
        scores.plot(means.index + shift, means, markersize=3.5, **style)
    scores.axhline(0.5, **REFERENCE, linestyle=":")
    rates.set(xlabel="true flip rate", ylabel="estimated flip rate")
    scores.set(ylabel="AUROC of p_wrong")
    set_places(scores, axis, names)
    if len(kinds) > 1:
        handles = [Line2D([], [], markersize=3.5, **plots.line_style(number)) for number in range(len(kinds))]
        plots.add_legend(figure, handles, list(kinds), columns=2, fontsize=6)
    notes = ["small dots: single seeds; dotted: a right estimate, and chance"]
    plots.add_notes(figure, [*notes, *information_notes(runs, classes)])
    return figure


# --- parts that several figures share


def with_places(table: pd.DataFrame) -> tuple[pd.DataFrame, str, list[str]]:
    """The table with each row's `setting`, and its `place` on the axis of a figure; that axis, and what stands there.

    The axis is the noise ratio, or the labels where there is one ratio and several labels; a setting is all else.
    """
    axis, values = "ratio", sorted(set(table["ratio"]))
    if len(values) == 1 and table["labels"].nunique() > 1:
        axis, values = "labels", [name for name in LABELS if name in set(table["labels"])]
    names = setting_names(table, [name for name in SETTING_AXES if name != axis])
    placed = table.assign(setting=names, place=[values.index(value) for value in table[axis]])
    if axis == "labels":
        return placed, axis, values
    return placed, "noise ratio", [f"{value:g}" for value in values]


def split_settings(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of every setting, in order."""
    return {str(name): rows for name, rows in table.groupby("setting", sort=False)}


def set_places(axes: Axes, axis: str, names: Sequence[str]) -> None:
    """Ratios or labels side by side, at equal distances."""
    axes.set_xticks(range(len(names)), names, rotation=90 if len("".join(names)) > 40 else 0)
    axes.set(xlabel=axis, xlim=(-0.5, len(names) - 0.5))


def describe_seeds(table: pd.DataFrame) -> str:
    """How many seeds stand behind every point: "mean of 3 to 20 seeds" where settings or ratios differ."""
    by_point = table.groupby([*SETTING_AXES, "ratio"], dropna=False)  # a summary has a column of their numbers
    counts = table["seeds"] if "seeds" in table else by_point["seed"].nunique()
    least, most = counts.min(), counts.max()
    if most == 1:
        return ONE_SEED
    return f"mean of {least} to {most} seeds" if least < most else f"mean of {most} seeds"


def information_notes(table: pd.DataFrame, classes: int) -> list[str]:
    """At which ratio noisy ratings say nothing of the true ones."""
    found = no_information(table, classes)
    return [f"{noise} noise of ratio {ratio:.3g} leaves no information" for noise, ratio in found.items()]
