"""Figures of runs and sweeps, at the width of a paper's column where they have one panel across.

Every function returns matplotlib figures; `save_figure` writes one. Noise ratios run through cividis, which
colour-blind readers see in order and grey prints keep in order.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from noisy_feedback.config import COMBINATION
from noisy_feedback.evaluation.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from noisy_feedback.output.records import RunResult

# Okabe and Ito 2008: colours that colour-blind readers tell apart; and neutral tones.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
ORANGE, BLUE, GREEN, GREY, BLACK = *PALETTE[:3], "#767676", "#222222"
MARKERS = ("s", "o", "^", "D", "v", "P", "X")
LINES: Any = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # a second way to tell lines apart
COLUMN = 3.4  # inches
SMALL_PANEL = (2.4, 2.1)  # inches
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
DOTS: Any = {"linestyle": "", "markersize": 2, "alpha": 0.35, "zorder": 1}  # single seeds, behind their mean
ONE_SEED = "1 seed"
PANELS_A_PAGE = 12  # of draw_curves, in three columns
LINES_A_PAGE = len(PALETTE)  # of draw_metrics
ROWS_A_PAGE = 21  # of draw_change


def draw_run(result: "RunResult") -> Figure:
    """Scores of one run over training, then fine-tuning epochs; dots mark the epochs that were kept."""
    phases = (
        (0, result.training, result.best_epochs["training"]),
        (len(result.training), result.fine_tuning, result.best_epochs["fine_tuning"]),
    )
    lines: dict[str, tuple[str, str, Any]] = {
        "validation_accuracy": ("validation accuracy", BLUE, "-"),
        "validation_macro_f1": ("validation macro F1", ORANGE, "--"),
        "validation_preference_accuracy": ("validation preference accuracy", PALETTE[3], "-."),
        "preference_accuracy": ("preference accuracy", GREEN, ":"),
    }
    compared = any(not np.isnan(epoch.validation_preference_accuracy) for epoch in result.training + result.fine_tuning)
    if not compared:
        del lines["validation_preference_accuracy"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        axes = figure.subplots()
        for start, epochs, best in phases:
            numbers = np.arange(start, start + len(epochs)) + 1
            for name, (_, color, line) in lines.items():
                values = np.array([getattr(epoch, name) for epoch in epochs])
                axes.plot(numbers, values, color=color, linestyle=line)
                if best:
                    axes.plot(start + best, values[best - 1], "o", color=color, markersize=4)
        shown = [name for name in lines if name != "preference_accuracy" or result.fine_tuning]
        handles = [Line2D([], [], color=lines[name][1], linestyle=lines[name][2]) for name in shown]
        kept = Line2D([], [], color=GREY, marker="o", markersize=4, linestyle="")
        add_legend(figure, [*handles, kept], [*(lines[name][0] for name in shown), "kept epoch"])
        axes.set(ylabel="score")
        set_epochs(axes, len(result.training), len(result.fine_tuning))
        notes = [f"one run: seed {result.config.seed}, noise ratio {result.config.ratio:g}"]
        if result.fine_tuning:
            notes.append("preference accuracy: share of the feedback that the reward agrees with")
        add_notes(figure, [*notes, *fine_tuning_note(len(result.training), len(result.fine_tuning))])
        return figure


def draw_curves(curves: "pd.DataFrame") -> list[Figure]:
    """The study's figure: validation accuracy over training, then fine-tuning epochs, one line per noise ratio.

    Where people compared texts of the validation part, the preference accuracy on them takes its place. Lines are
    means over seeds, bands one standard deviation; training, which has no noise, is one black line. One panel per
    combination of loss, KL weight, labels and kind of noise; pages of twelve, on the same axes. `curves` has the
    columns of a sweep's curves.csv.
    """
    training, fine_tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
    combinations = split_combinations(fine_tuning) or [("", fine_tuning)]
    score = "validation_preference_accuracy"
    score = score if score in curves and curves[score].notna().any() else "validation_accuracy"
    ratios = sorted(set(fine_tuning["ratio"]))
    lengths = [0 if phase.empty else int(phase["epoch"].max()) for phase in (training, fine_tuning)]
    seeds = describe_seeds(curves)
    band = "" if seeds == ONE_SEED else "; band: one standard deviation"
    notes = [f"{seeds}{band}; black: training", *fine_tuning_note(*lengths)]
    figures = []
    with matplotlib.rc_context(STYLE):
        for page in pages(combinations, PANELS_A_PAGE):
            columns = 2 if len(page) == 4 else min(len(page), 3)
            rows = -(-len(page) // columns)
            width, height = (COLUMN, 2.5) if columns == 1 else SMALL_PANEL
            figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
            grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
            for number, (axes, (name, panel)) in enumerate(zip(grid, page, strict=False)):
                draw_curve_panel(axes, score, training, panel, ratios, lengths[0])
                if len(combinations) > 1:
                    axes.set_title(fill(name, 34, break_on_hyphens=False), fontsize=7)
                if number % columns == 0:
                    axes.set(ylabel=fill(score.replace("_", " "), 22))
                set_epochs(axes, *lengths)
                below = number + columns < len(page)
                axes.set(xlabel="" if below else axes.get_xlabel())
                axes.tick_params(labelbottom=not below)  # also where the place below is empty
            for axes in grid[len(page) :]:
                axes.remove()
            if ratios:
                handles = [Line2D([], [], color=color, linestyle=line) for color, line in ratio_styles(len(ratios))]
                add_legend(figure, handles, [f"{ratio:g}" for ratio in ratios], title="noise ratio")
            add_notes(figure, notes)
            figures.append(figure)
    share_limits([axes for figure in figures for axes in figure.axes])
    return figures


def draw_curve_panel(
    axes: Axes,
    score: str,
    training: "pd.DataFrame",
    fine_tuning: "pd.DataFrame",
    ratios: Sequence[float],
    start: int,
) -> None:
    """The curves of one combination, fine-tuning from epoch `start` on, and training of the same seeds."""
    if len(fine_tuning):
        training = training[training["seed"].isin(fine_tuning["seed"])]
    draw_band(axes, training[score], training["epoch"], 0, BLACK, "-")
    for ratio, (color, line) in zip(ratios, ratio_styles(len(ratios)), strict=True):
        rows = fine_tuning[fine_tuning["ratio"] == ratio]
        draw_band(axes, rows[score], rows["epoch"], start, color, line)


def draw_band(axes: Axes, scores: "pd.Series", epochs: "pd.Series", start: int, color: Any, line: Any) -> None:
    """Mean over seeds of a score, and a band of one standard deviation."""
    by_epoch = scores.groupby(epochs)
    mean, sd = by_epoch.mean(), by_epoch.std().fillna(0)
    places = mean.index.to_numpy() + start
    single = len(places) == 1  # a line of one point has no length, and a band no width
    axes.plot(places, mean, color=color, linestyle=line, marker="o" if single else "", markersize=3)
    axes.fill_between(places, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=1 if single else 0)


def draw_metrics(runs: "pd.DataFrame", summary: "pd.DataFrame") -> list[Figure]:
    """Test metrics against the noise ratio: means with intervals, seeds as dots; below, the number of comparisons.

    Of one combination the best and the last epoch; of several the last, one line for each, and pages of seven on
    the same axes. A dotted line is the mean before fine-tuning. `runs` has the columns of runs.csv, `summary` those of
    summary.csv.
    """
    from noisy_feedback.evaluation.statistics import shown_metrics

    combinations = split_combinations(summary)
    if len(combinations) == 1:
        lines = [(f"{stage} epoch", stage, combinations[0][1]) for stage in ("best", "last")]
    else:
        lines = [(name, "last", rows) for name, rows in combinations]
    notes = [] if len(combinations) == 1 else ["last epoch of fine-tuning"]
    notes += interval_notes(runs)
    ratios = sorted(set(runs["ratio"]))
    shown = shown_metrics(summary)
    figures = []
    with matplotlib.rc_context(STYLE):
        for page in pages(lines, LINES_A_PAGE):
            figure = Figure(figsize=(COLUMN, 4.8), layout="constrained")
            *panels, below = figure.subplots(len(shown) + 1, 1, sharex=True, height_ratios=[1] * len(shown) + [0.5])
            for axes, metric in zip(panels, shown, strict=True):
                before = runs.drop_duplicates("seed")[f"before_{metric}"].mean()
                axes.axhline(before, color=GREY, linewidth=0.8, linestyle=":", label="before fine-tuning")
                for number, (label, stage, rows) in enumerate(page):
                    shift, style = dodge(number, len(page), ratios), line_style(number)
                    own = same_combination(runs, rows)
                    axes.plot(own["ratio"] + shift, own[f"{stage}_{metric}"], **style | DOTS)
                    means = rows[(rows["stage"] == stage) & (rows["metric"] == metric)]
                    draw_means(axes, means, shift, label=label, **style)
                axes.set(ylabel=fill(f"test {METRICS[metric]}", 16))
            for number, (_, _, rows) in enumerate(page[: len(combinations)]):  # one line for each combination
                counts = rows.drop_duplicates("ratio")
                style = line_style(number) if len(combinations) > 1 else {"color": BLACK, "marker": "o"}
                shift = dodge(number, min(len(page), len(combinations)), ratios)
                below.plot(counts["ratio"] + shift, counts["comparisons"], markersize=3, **style)
            below.set(ylabel="comparisons", ylim=(0, 1.2 * summary["comparisons"].max()), xlabel="noise ratio")
            below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            set_ratios(below, ratios)
            figure.align_ylabels()
            handles, labels = panels[0].get_legend_handles_labels()
            add_legend(figure, handles, labels, fontsize=6)
            add_notes(figure, notes)
            figures.append(figure)
    for place in range(len(shown)):
        share_limits([figure.axes[place] for figure in figures])
    return figures


def draw_means(axes: Axes, rows: "pd.DataFrame", shift: float, **style: Any) -> None:
    """Means of one metric with their intervals; no bar where an interval is not defined."""
    error = np.nan_to_num([rows["mean"] - rows["ci_low"], rows["ci_high"] - rows["mean"]])
    axes.errorbar(
        rows["ratio"] + shift,
        rows["mean"],
        yerr=np.maximum(error, 0),  # BCa intervals of few seeds need not hold the mean
        markersize=3.5,
        elinewidth=0.8,
        capsize=2,
        **style,
    )


def draw_change(summary: "pd.DataFrame") -> list[Figure]:
    """Heat maps of the mean change of test metrics from before fine-tuning to its last epoch.

    One row per combination, one column per noise ratio; pages of 21 rows with the same colours.
    """
    from noisy_feedback.evaluation.statistics import shown_metrics

    shown = shown_metrics(summary)
    last = summary[summary["stage"] == "last"]
    ratios = sorted(set(last["ratio"]))
    limits = {metric: last[last["metric"] == metric]["vs_before"].abs().max() for metric in shown}
    combinations = split_combinations(last)
    name_length = max(len(name) for name, _ in combinations)
    notes = ["change from before fine-tuning", f"to the last epoch, {describe_seeds(last)}"]
    figures = []
    with matplotlib.rc_context(STYLE):
        for page in pages(combinations, ROWS_A_PAGE):
            width = 0.5 + 0.057 * name_length + max(0.42 * len(ratios), 2.1)  # inches; the titles need 2.1
            figure = Figure(figsize=(width, 1.3 + 0.2 * max(len(page), 2) * len(shown)), layout="constrained")
            for axes, metric in zip(figure.subplots(len(shown), 1, sharex=True), shown, strict=True):
                of_metric = [rows[rows["metric"] == metric].set_index("ratio") for _, rows in page]
                change = np.array([rows["vs_before"].reindex(ratios) for rows in of_metric])
                draw_heat_map(axes, change, limits[metric])
                axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
                axes.set_yticks(range(len(page)), [name for name, _ in page], fontsize=7)
                axes.set_title(f"test {METRICS[metric]}", fontsize=8)
            axes.set(xlabel="noise ratio")
            add_notes(figure, notes)
            figures.append(figure)
    return figures


def draw_audit(runs: "pd.DataFrame") -> list[Figure]:
    """How well the audit finds wrong comparisons: estimated against true flip rate, and AUROC against the noise ratio.

    A dot is the feedback of one seed, a line the mean over seeds; one line for each kind of labels and noise, whatever
    the loss: that comes after the audit. Pages of seven. `runs` has the columns of runs.csv.
    """
    runs = runs.drop_duplicates(["seed", "labels", "noise", "ratio"])
    kinds = [(", ".join(map(str, kind)), rows) for kind, rows in runs.groupby(["labels", "noise"], sort=False)]
    ratios = sorted(set(runs["ratio"]))
    highest = np.nanmax(runs[["flip_rate", "estimated_flip_rate"]].to_numpy())
    figures = []
    with matplotlib.rc_context(STYLE):
        for page in pages(kinds, LINES_A_PAGE):
            figure = Figure(figsize=(COLUMN, 4.2), layout="constrained")
            rates, scores = figure.subplots(2, 1)
            rates.plot([0, highest], [0, highest], color=GREY, linewidth=0.8, linestyle=":")
            for number, (_, rows) in enumerate(page):
                style = line_style(number)
                rates.plot(rows["flip_rate"], rows["estimated_flip_rate"], **style | DOTS)
                means = rows.groupby("ratio")["auroc"].mean()
                shift = dodge(number, len(page), ratios)
                scores.plot(rows["ratio"] + shift, rows["auroc"], **style | DOTS)
                scores.plot(means.index + shift, means, markersize=3.5, **style)
            scores.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            rates.set(xlabel="true flip rate", ylabel="estimated flip rate")
            scores.set(xlabel="noise ratio", ylabel="AUROC of p_wrong")
            set_ratios(scores, ratios)
            if len(kinds) > 1:
                handles = [Line2D([], [], markersize=3.5, **line_style(number)) for number in range(len(page))]
                add_legend(figure, handles, [name for name, _ in page], fontsize=6)
            add_notes(figure, ["small dots: single seeds; dotted: a right estimate, and chance"])
            figures.append(figure)
    return figures


def draw_heat_map(axes: Axes, change: np.ndarray, limit: float) -> None:
    """Changes (rows, columns) as colours between -limit and limit, with their values."""
    limit = limit if limit > 0 else 1
    axes.imshow(change, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(change):
        shade = "white" if abs(value) > 0.65 * limit else BLACK
        text = f"{value:+.3f}" if np.isfinite(value) else "-"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the path's suffix says. The same figure gives the same bytes: no dates, no versions."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None})


# --- parts that several figures share


def split_combinations(table: "pd.DataFrame") -> list[tuple[str, "pd.DataFrame"]]:
    """Every combination of loss, KL weight and kind of noise in the table: its name and its rows, in order."""
    from noisy_feedback.evaluation.statistics import combination_names  # imports scipy, which draw_run does without

    named = table.assign(name=combination_names(table))
    return [(group["name"].iloc[0], group) for _, group in named.groupby(list(COMBINATION), sort=False)]


def same_combination(runs: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
    """The runs of the combination that all of `rows` are of."""
    return runs[(runs[list(COMBINATION)] == rows[list(COMBINATION)].iloc[0]).all(axis=1)]


def pages(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """The items in as few pages of at most `most` as possible, of about the same length."""
    count = -(-len(items) // most)
    length = -(-len(items) // count)
    return [items[start : start + length] for start in range(0, len(items), length)]


def describe_seeds(table: "pd.DataFrame") -> str:
    """How many seeds stand behind every point: "mean of 3 to 20 seeds" where combinations or ratios differ."""
    counts = seeds_of(table)
    least, most = int(counts.min()), int(counts.max())
    if most == 1:
        return ONE_SEED
    return f"mean of {least} to {most} seeds" if least < most else f"mean of {most} seeds"


def seeds_of(table: "pd.DataFrame") -> "pd.Series":
    """Numbers of seeds of every combination and ratio in a table of runs, curves or summaries."""
    if "seeds" in table:
        return table["seeds"]
    fine_tuning = table.dropna(subset=["ratio"])
    if fine_tuning.empty:
        return table[["seed"]].nunique()
    return fine_tuning.groupby([*COMBINATION, "ratio"])["seed"].nunique()


def interval_notes(runs: "pd.DataFrame") -> list[str]:
    """What the marks of `draw_metrics` are, and how far intervals of few seeds can be trusted."""
    from noisy_feedback.evaluation.statistics import coverage_note

    seeds = describe_seeds(runs)
    if seeds == ONE_SEED:
        return [seeds]
    note = coverage_note(int(seeds_of(runs).min()))
    return [f"{seeds}; bars: 95 % intervals; small dots: seeds", *([note] if note else [])]


def fine_tuning_note(training: int, fine_tuning: int) -> list[str]:
    """What the dotted line of `set_epochs` means, where there is one."""
    if training and fine_tuning:
        return ["dotted line: fine-tuning starts, from the best training epoch"]
    return []


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], fontsize: int = 7, **legend: Any) -> None:
    """A legend above the panels, in as many columns as fit; the figure grows by its height."""
    entry = fontsize * (0.62 * max(map(len, labels)) + 4.5)  # points: the longest label, its line, and space
    rows = -(-len(labels) // max(int(72 * figure.get_figwidth() / entry), 1))
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=-(-len(labels) // rows),
        fontsize=fontsize,
        title_fontsize=fontsize,
        handlelength=2.6,
        handletextpad=0.6,
        columnspacing=1.2,
        **legend,
    )
    figure.set_figheight(figure.get_figheight() + 1.6 * fontsize * rows / 72)


def add_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Small grey lines below a figure."""
    figure.supxlabel("\n".join(notes), fontsize=6, color=GREY)


def set_epochs(axes: Axes, training: int, fine_tuning: int) -> None:
    """An axis of training, then fine-tuning epochs, and a dotted line between them: curves may jump there."""
    axes.set(xlabel="epoch", xlim=(0.5, training + fine_tuning + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if training and fine_tuning:
        axes.axvline(training + 0.5, color=GREY, linewidth=0.6, linestyle=":")


def set_ratios(axes: Axes, ratios: Sequence[float]) -> None:
    """A tick at every ratio, with its number where there is space for it: upright if that shows more of them."""
    margin, points = ratio_margin(ratios), ratio_points(ratios)
    labels = [f"{ratio:g}" for ratio in ratios]
    upright = ratio_step(ratios) * points < 5 * max(map(len, labels)) + 3
    last = -np.inf
    for number, ratio in enumerate(ratios):
        if upright and (ratio - last) * points < 10:
            labels[number] = ""
        else:
            last = ratio
    axes.set(xlim=(ratios[0] - margin, ratios[-1] + margin))
    axes.set_xticks(ratios, labels, rotation=90 if upright else 0)


def dodge(number: int, count: int, ratios: Sequence[float]) -> float:
    """How far a line is moved sideways so that bars do not cover each other; all lines lie evenly about the ratio."""
    distance = min(0.08 * ratio_step(ratios), 4 / ratio_points(ratios))
    return distance * (number - (count - 1) / 2)


def ratio_step(ratios: Sequence[float]) -> float:
    """The smallest distance between two ratios."""
    return float(np.diff(ratios).min()) if len(ratios) > 1 else 0.2


def ratio_margin(ratios: Sequence[float]) -> float:
    """What an axis of ratios shows on either side of them."""
    return max(ratio_step(ratios) / 2, 0.04 * (ratios[-1] - ratios[0]))


def ratio_points(ratios: Sequence[float]) -> float:
    """Points on paper per unit of ratio, on an axis in a column: about 180 in all."""
    return 180 / (ratios[-1] - ratios[0] + 2 * ratio_margin(ratios))


def line_style(number: int) -> dict[str, Any]:
    """A colour, a kind of line and a marker, of LINES_A_PAGE that differ."""
    return {"color": PALETTE[number], "linestyle": LINES[number % len(LINES)], "marker": MARKERS[number]}


def share_limits(panels: Sequence[Axes]) -> None:
    """Give panels of several figures the same y axis."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def ratio_styles(count: int) -> list[tuple[Any, Any]]:
    """A colour and a kind of line for each ratio: from dark to light, without the palest, which is hard to see."""
    colors = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, count))
    return [(color, LINES[number % len(LINES)]) for number, color in enumerate(colors)]
