"""Figures of sweeps, from their tables. Every function returns one matplotlib figure; `plots.save_figure` writes it."""

from collections.abc import Sequence
from itertools import product
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from noisy_feedback.config import ADAPTIVE
from noisy_feedback.metrics import METRICS
from noisy_feedback.output import plots
from noisy_feedback.output.sweep_tables import ONE_SEED, SweepTables, setting_names

DOTS: Any = {"linestyle": "", "markersize": 2, "alpha": 0.35, "zorder": 1}  # single seeds, behind their mean
BEST: Any = {"linestyle": ":", "markerfacecolor": "white"}
REFERENCE: Any = {"color": plots.GREY, "linewidth": 0.8}
SIGNIFICANT = 0.05
COLUMNS = 3  # of draw_curves


@matplotlib.rc_context(plots.STYLE)
def draw_curves(sweep: SweepTables) -> Figure:
    """The study's figure: validation accuracy over training, then fine-tuning epochs, one line per noise ratio.

    With human comparisons of the validation part, the preference accuracy on them takes its place. Lines are means over
    seeds, bands one standard deviation; training, which has no noise, is one black line. One panel per setting.
    """
    curves, places = sweep.curves, range(len(sweep.ticks))
    training, fine_tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
    settings = list(dict.fromkeys(fine_tuning["setting"])) or [""]
    compared = curves["validation_preference_accuracy"].notna().any()
    score = "validation_preference_accuracy" if compared else "validation_accuracy"
    lengths = [0 if phase.empty else int(phase["epoch"].max()) for phase in (training, fine_tuning)]
    columns = min(len(settings), COLUMNS)
    rows = -(-len(settings) // columns)
    width, height = (plots.COLUMN, 2.5) if columns == 1 else (2.4, 2.1)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, name in zip(grid, settings, strict=False):
        own = fine_tuning[fine_tuning["setting"] == name]
        trained = training[training["seed"].isin(own["seed"])] if name else training
        draw_curve_panel(axes, score, trained, [own[own["place"] == place] for place in places], lengths[0])
        axes.set_title(fill(name, 34, break_on_hyphens=False) if len(sweep.settings) > 1 else "", fontsize=7)
        axes.set(ylabel=fill(score.replace("_", " "), 22))
        plots.set_epochs(axes, *lengths)
        axes.label_outer()
    for axes in grid[len(settings) :]:
        axes.remove()
    notes = plots.fine_tuning_note(*lengths)
    if fine_tuning.empty:
        notes.append("nothing was fine-tuned: no epochs, or an adaptive KL weight that is infinite")
    else:
        handles = [Line2D([], [], **style) for style in plots.ratio_styles(len(places))]
        plots.add_legend(figure, handles, sweep.ticks, columns=5, title=sweep.axis)
    if ADAPTIVE in set(fine_tuning["kl_weight"]):
        notes.append(f"KL weight {ADAPTIVE}: lines leave out seeds that were not fine-tuned")
    add_notes(figure, sweep, notes, "band: one standard deviation", "black: training")
    return figure


def draw_curve_panel(axes: Axes, score: str, training: pd.DataFrame, lines: Sequence[pd.DataFrame], start: int) -> None:
    """The curve of training, and a line for each table of fine-tuning, from epoch `start` on: means over seeds."""
    styles = [{"color": plots.BLACK, "linestyle": "-"}, *plots.ratio_styles(len(lines))]
    for rows, before, style in zip((training, *lines), (0, *[start] * len(lines)), styles, strict=True):
        by_epoch = rows.groupby("epoch")[score]
        mean, sd = by_epoch.mean(), by_epoch.std().fillna(0)
        epochs = mean.index.to_numpy() + before
        axes.plot(epochs, mean, marker="o" if len(epochs) == 1 else "", markersize=3, **style)
        axes.fill_between(epochs, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


@matplotlib.rc_context(plots.STYLE)
def draw_metrics(sweep: SweepTables) -> Figure:
    """Test metrics against the noise ratio: means with intervals, seeds as dots; below, the number of comparisons.

    A line for the last epoch of each setting, and for the best epoch where there is one setting. Horizontal lines are
    means before fine-tuning, and of always predicting the most frequent rating; a vertical one marks the ratio without
    information.
    """
    runs, shown = sweep.runs, sweep.metrics
    styles = {setting: plots.line_style(number) for number, setting in enumerate(sweep.settings)}
    stages = ("last", "best") if len(styles) == 1 else ("last",)
    figure = Figure(figsize=(plots.COLUMN, 1.2 + 1.4 * len(shown)), layout="constrained")
    *panels, below = figure.subplots(len(shown) + 1, 1, sharex=True, height_ratios=[1] * len(shown) + [0.5])
    of_seeds = runs.drop_duplicates("seed")
    for axes, metric in zip(panels, shown, strict=True):
        axes.axhline(of_seeds[f"before_{metric}"].mean(), **REFERENCE, linestyle=":", label="before fine-tuning")
        if metric == "macro_f1":  # the other metrics of a constant prediction are 0 or 0.5, which would flatten a panel
            level = of_seeds[f"majority_{metric}"].mean()
            axes.axhline(level, **REFERENCE, linestyle="--", label="most frequent rating")
        for noise, ratio in sweep.no_information.items():
            place = np.interp(ratio, sorted(set(runs["ratio"])), range(len(sweep.ticks)))
            axes.axvline(place, **REFERENCE, label=f"no information ({noise})")
        for number, (setting, stage) in enumerate(product(styles, stages)):
            style = styles[setting] | (BEST if stage == "best" else {})
            shift = plots.dodge(number, len(styles) * len(stages))
            own = runs[runs["setting"] == setting]
            axes.plot(own["place"] + shift, own[f"{stage}_{metric}"], **style | DOTS)
            means = sweep.summary.query("setting == @setting and stage == @stage and metric == @metric")
            label = setting if len(stages) == 1 else f"{stage} epoch"
            draw_means(axes, means["place"] + shift, means, label=label, **style)
        axes.set(ylabel=fill(f"test {METRICS[metric]}", 16))
    counts = runs.groupby(["setting", "place"])["comparisons"].mean().unstack().reindex(sweep.settings)
    for setting, row in counts.drop_duplicates().iterrows():  # equal numbers are one line
        below.plot(row.dropna(), markersize=3, **styles[str(setting)])
    below.set(ylabel="comparisons", ylim=(0, 1.2 * np.nanmax(counts)))
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    set_places(below, sweep)
    figure.align_ylabels()
    handles, labels = panels[0].get_legend_handles_labels()
    plots.add_legend(figure, handles, labels, columns=1 if max(map(len, labels)) > 20 else 2, fontsize=6)
    notes = [] if len(stages) > 1 else ["last epoch of fine-tuning"]
    if sweep.seeds != ONE_SEED:
        notes.append("paired differences have narrower intervals (summary.csv)")
    add_notes(figure, sweep, notes, "bars: 95 % intervals of the mean; small dots: seeds")
    return figure


def draw_means(axes: Axes, places: pd.Series, rows: pd.DataFrame, **style: Any) -> None:
    """Means of one metric with their intervals; no bar where an interval is not defined."""
    error = np.nan_to_num([rows["mean"] - rows["ci_low"], rows["ci_high"] - rows["mean"]])
    axes.errorbar(places, rows["mean"], yerr=error, markersize=3.5, elinewidth=0.8, capsize=2, **style)


@matplotlib.rc_context(plots.STYLE)
def draw_change(sweep: SweepTables) -> Figure:
    """Heat maps of the mean change of test metrics from before fine-tuning to its last epoch.

    One row per setting, one column per noise ratio; one scale of colours per metric, centred on 0. Significant changes
    (paired t-test, p < 0.05) are bold on their colour, others grey on white; ?: there is no test.
    """
    settings, places, shown = sweep.settings, range(len(sweep.ticks)), sweep.metrics
    width = 1.4 + 0.057 * max(map(len, settings)) + max(0.42 * len(places), 2.1)  # inches
    figure = Figure(figsize=(width, 1 + (0.4 + 0.2 * len(settings)) * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, shown, strict=True):
        rows = sweep.summary.query("stage == 'last' and metric == @metric").set_index(["setting", "place"])
        change, p = (
            rows[name].unstack().reindex(index=settings, columns=places).to_numpy()
            for name in ("vs_before", "vs_before_p")
        )
        limit = max(np.nanmax(np.abs(change), initial=0), 1e-9)
        significant = np.where(p < SIGNIFICANT, change, np.nan)
        figure.colorbar(axes.imshow(significant, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto"), ax=axes)
        for place, value in np.ndenumerate(change):
            style: Any = {"color": plots.GREY}
            if p[place] < SIGNIFICANT:
                style = {"color": "white" if abs(value) > 0.65 * limit else plots.BLACK, "fontweight": "bold"}
            text = "-" if np.isnan(value) else f"{value:+.3f}" + "?" * bool(np.isnan(p[place]))
            axes.text(*place[::-1], text, ha="center", va="center", fontsize=6, **style)
        axes.set_yticks(range(len(settings)), settings, fontsize=7)
        axes.set_title(f"test {METRICS[metric]}", fontsize=8)
    set_places(axes, sweep)
    test = "bold: significant (paired t-test, p < 0.05); ?: no test (one seed, or equal changes)"
    add_notes(figure, sweep, [test], always="change from before fine-tuning to the last epoch")
    return figure


@matplotlib.rc_context(plots.STYLE)
def draw_audit(sweep: SweepTables) -> Figure:
    """How well the audit finds wrong comparisons: estimated against true flip rate, and AUROC against the noise ratio.

    A dot is the feedback of one seed, a line the mean over seeds; one line for each kind of labels and noise, whatever
    the loss: that comes after the audit.
    """
    runs = sweep.runs.drop_duplicates(["seed", "labels", "noise", "ratio"])
    varied = [axis for axis in ("labels", "noise") if runs[axis].nunique() > 1]
    kinds = {str(name): rows for name, rows in runs.groupby(setting_names(runs, varied), sort=False)}
    highest = np.nanmax(runs[["true_flip_rate", "estimated_flip_rate"]].to_numpy())
    figure = Figure(figsize=(plots.COLUMN, 4.2), layout="constrained")
    rates, scores = figure.subplots(2, 1)
    rates.plot([0, highest], [0, highest], **REFERENCE, linestyle=":")
    for number, (name, rows) in enumerate(kinds.items()):
        style, shift = plots.line_style(number), 0 if sweep.axis == "labels" else plots.dodge(number, len(kinds))
        rates.plot(rows["true_flip_rate"], rows["estimated_flip_rate"], **style | DOTS)
        means = rows.groupby("place")["auroc"].mean()
        scores.plot(rows["place"] + shift, rows["auroc"], **style | DOTS)
        scores.plot(means.index + shift, means, markersize=3.5, label=name, **style)
    if len(kinds) > 1:
        handles, labels = scores.get_legend_handles_labels()
        plots.add_legend(figure, handles, labels, columns=2, fontsize=6)
    scores.axhline(0.5, **REFERENCE, linestyle=":")
    rates.set(xlabel="true flip rate", ylabel="estimated flip rate")
    scores.set(ylabel="AUROC of p_wrong")
    set_places(scores, sweep)
    add_notes(figure, sweep, ["dotted: a right estimate, and chance"], "small dots: single seeds")
    return figure


def set_places(axes: Axes, sweep: SweepTables) -> None:
    """Ratios or labels side by side, at equal distances."""
    axes.set_xticks(range(len(sweep.ticks)), sweep.ticks, rotation=90 if len("".join(sweep.ticks)) > 40 else 0)
    axes.set(xlabel=sweep.axis, xlim=(-0.5, len(sweep.ticks) - 0.5))


def add_notes(figure: Figure, sweep: SweepTables, notes: Sequence[str], of_seeds: str = "", always: str = "") -> None:
    """Below a figure: how many seeds a point has, how several are shown (`of_seeds`), `always`; then `notes`.

    The last lines say which ratios leave no information.
    """
    first = (sweep.seeds, of_seeds if sweep.seeds != ONE_SEED else "", always)
    plots.add_notes(figure, ["; ".join(filter(None, first)), *notes, *sweep.information_notes()])
