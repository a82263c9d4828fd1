"""Figures of runs and sweeps, at the width of a paper's column where they have one panel across.

Every function returns matplotlib figures; `save_figure` writes one. Noise ratios run through cividis, which
colour-blind readers see in order and grey prints keep in order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from noisy_feedback.config import LABELS, SETTING_AXES
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
REFERENCE: Any = {"color": GREY, "linewidth": 0.8}
CHANGE = ("vs_before", "vs_before_p")  # columns of a summary
SIGNIFICANT = 0.05
ONE_SEED = "1 seed"
COLUMNS = 3  # of draw_curves
AXIS_NAMES = {"ratio": "noise ratio", "labels": "labels"}


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
        add_legend(figure, [*handles, kept], [*(lines[name][0] for name in shown), "kept epoch"], columns=2)
        axes.set(ylabel="score")
        set_epochs(axes, len(result.training), len(result.fine_tuning))
        notes = [f"one run: seed {result.config.seed}, noise ratio {result.config.ratio:g}"]
        if result.fine_tuning:
            notes.append("preference accuracy: share of the feedback that the reward agrees with")
        add_notes(figure, [*notes, *fine_tuning_note(len(result.training), len(result.fine_tuning))])
        return figure


def draw_curves(curves: "pd.DataFrame") -> Figure:
    """The study's figure: validation accuracy over training, then fine-tuning epochs, one line per noise ratio.

    Where people compared texts of the validation part, the preference accuracy on them takes its place. Lines are
    means over seeds, bands one standard deviation; training, which has no noise, is one black line. One panel per
    setting of loss, KL weight, labels and kind of noise. `curves` has the columns of a sweep's curves.csv.
    """
    training, fine_tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
    settings = split_settings(fine_tuning) or [("", fine_tuning)]
    score = "validation_preference_accuracy"
    score = score if score in curves and curves[score].notna().any() else "validation_accuracy"
    ratios = sorted(set(fine_tuning["ratio"]))
    lengths = [0 if phase.empty else int(phase["epoch"].max()) for phase in (training, fine_tuning)]
    seeds = describe_seeds(curves)
    band = "" if seeds == ONE_SEED else "; band: one standard deviation"
    columns = min(len(settings), COLUMNS)
    rows = -(-len(settings) // columns)
    width, height = (COLUMN, 2.5) if columns == 1 else SMALL_PANEL
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for axes, (name, panel) in zip(grid, settings, strict=False):
            draw_curve_panel(axes, score, training, panel, ratios, lengths[0])
            axes.set_title(fill(name, 34, break_on_hyphens=False) if len(settings) > 1 else "", fontsize=7)
            axes.set(ylabel=fill(score.replace("_", " "), 22))
            set_epochs(axes, *lengths)
            axes.label_outer()
        for axes in grid[len(settings) :]:
            axes.remove()
        if ratios:
            handles = [Line2D([], [], color=color, linestyle=line) for color, line in ratio_styles(len(ratios))]
            add_legend(figure, handles, [f"{ratio:g}" for ratio in ratios], columns=5, title="noise ratio")
        add_notes(figure, [f"{seeds}{band}; black: training", *fine_tuning_note(*lengths)])
        return figure


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


def draw_metrics(runs: "pd.DataFrame", summary: "pd.DataFrame") -> Figure:
    """Test metrics against the noise ratio: means with intervals, seeds as dots; below, the number of comparisons.

    Of one setting the best and the last epoch; of several the last, one line for each. Dotted lines are means before
    fine-tuning and of always predicting the most frequent rating. Where there is one ratio, the labels take its place.
    `runs` has the columns of runs.csv, `summary` those of summary.csv.
    """
    from noisy_feedback.evaluation.statistics import shown_metrics

    axis = varied_axis(runs)
    places = {value: place for place, value in enumerate(sort_axis(runs[axis]))}
    settings = split_settings(summary, leave_out=axis)
    if len(settings) == 1:
        lines = [(f"{stage} epoch", stage, settings[0][1]) for stage in ("last", "best")]
    else:
        lines = [(name, "last", rows) for name, rows in settings]
    shown = shown_metrics(summary)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 1.2 + 1.4 * len(shown)), layout="constrained")
        *panels, below = figure.subplots(len(shown) + 1, 1, sharex=True, height_ratios=[1] * len(shown) + [0.5])
        for axes, metric in zip(panels, shown, strict=True):
            of_seeds = runs.drop_duplicates("seed")
            axes.axhline(of_seeds[f"before_{metric}"].mean(), **REFERENCE, linestyle=":", label="before fine-tuning")
            axes.axhline(
                of_seeds[f"majority_{metric}"].mean(), **REFERENCE, linestyle="--", label="most frequent rating"
            )
            for number, (label, stage, rows) in enumerate(lines):
                shift, style = dodge(number, len(lines)), line_style(number)
                own = same_setting(runs, rows, leave_out=axis)
                axes.plot(own[axis].map(places) + shift, own[f"{stage}_{metric}"], **style | DOTS)
                means = rows[(rows["stage"] == stage) & (rows["metric"] == metric)]
                draw_means(axes, means[axis].map(places) + shift, means, label=label, **style)
            axes.set(ylabel=fill(f"test {METRICS[metric]}", 16))
        for number, counts in enumerate(different_counts([rows for _, rows in settings], axis)):
            style = line_style(number) if len(settings) > 1 else {"color": BLACK, "marker": "o"}
            below.plot([places[value] for value in counts], list(counts.values()), markersize=3, **style)
        below.set(ylabel="comparisons", ylim=(0, 1.2 * summary["comparisons"].max()), xlabel=AXIS_NAMES[axis])
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        set_places(below, places)
        figure.align_ylabels()
        handles, labels = panels[0].get_legend_handles_labels()
        add_legend(figure, handles, labels, columns=1 if max(map(len, labels)) > 20 else 2, fontsize=6)
        add_notes(figure, [*([] if len(settings) == 1 else ["last epoch of fine-tuning"]), *interval_notes(runs)])
        return figure


def different_counts(settings: Sequence["pd.DataFrame"], axis: str) -> list[dict[Any, float]]:
    """Numbers of comparisons by noise ratio (or labels), those of each setting that differ from all before it."""
    counts: list[dict[Any, float]] = []
    for rows in settings:
        own = rows.drop_duplicates(axis).set_index(axis)["comparisons"].sort_index().to_dict()
        if own not in counts:
            counts.append(own)
    return counts


def draw_means(axes: Axes, places: "pd.Series", rows: "pd.DataFrame", **style: Any) -> None:
    """Means of one metric with their intervals; no bar where an interval is not defined."""
    order = places.argsort()
    places, rows = places.iloc[order], rows.iloc[order]
    error = np.nan_to_num([rows["mean"] - rows["ci_low"], rows["ci_high"] - rows["mean"]])
    axes.errorbar(places, rows["mean"], yerr=error, markersize=3.5, elinewidth=0.8, capsize=2, **style)


def draw_change(summary: "pd.DataFrame") -> Figure:
    """Heat maps of the mean change of test metrics from before fine-tuning to its last epoch.

    One row per setting, one column per noise ratio; one scale of colours per metric, centred on 0. A change that is
    not significant (paired t-test, p >= 0.05) is white.
    """
    from noisy_feedback.evaluation.statistics import shown_metrics

    shown = shown_metrics(summary)
    last = summary[summary["stage"] == "last"]
    ratios = sorted(set(last["ratio"]))
    settings = split_settings(last)
    width = 1.4 + 0.057 * max(len(name) for name, _ in settings) + max(0.42 * len(ratios), 2.1)  # inches
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 1 + (0.4 + 0.2 * len(settings)) * len(shown)), layout="constrained")
        for axes, metric in zip(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0], shown, strict=True):
            by_ratio = [rows[rows["metric"] == metric].set_index("ratio").reindex(ratios) for _, rows in settings]
            image = draw_heat_map(axes, *(np.array([rows[name] for rows in by_ratio]) for name in CHANGE))
            figure.colorbar(image, ax=axes)
            axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
            axes.set_yticks(range(len(settings)), [name for name, _ in settings], fontsize=7)
            axes.set_title(f"test {METRICS[metric]}", fontsize=8)
        axes.set(xlabel="noise ratio")
        notes = [f"change from before fine-tuning to the last epoch, {describe_seeds(last)}"]
        add_notes(figure, [*notes, "white: not significant (paired t-test, p \u2265 0.05)"])
        return figure


def draw_audit(runs: "pd.DataFrame") -> Figure:
    """How well the audit finds wrong comparisons: estimated against true flip rate, and AUROC against the noise ratio.

    A dot is the feedback of one seed, a line the mean over seeds; one line for each kind of labels and noise, whatever
    the loss: that comes after the audit. `runs` has the columns of runs.csv.
    """
    runs = runs.drop_duplicates(["seed", "labels", "noise", "ratio"])
    kinds = [(", ".join(map(str, kind)), rows) for kind, rows in runs.groupby(["labels", "noise"], sort=False)]
    places = {ratio: place for place, ratio in enumerate(sorted(set(runs["ratio"])))}
    highest = np.nanmax(runs[["true_flip_rate", "estimated_flip_rate"]].to_numpy())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 4.2), layout="constrained")
        rates, scores = figure.subplots(2, 1)
        rates.plot([0, highest], [0, highest], **REFERENCE, linestyle=":")
        for number, (_, rows) in enumerate(kinds):
            style, shift = line_style(number), dodge(number, len(kinds))
            rates.plot(rows["true_flip_rate"], rows["estimated_flip_rate"], **style | DOTS)
            means = rows.groupby("ratio")["auroc"].mean()
            scores.plot(rows["ratio"].map(places) + shift, rows["auroc"], **style | DOTS)
            scores.plot(means.index.map(places) + shift, means, markersize=3.5, **style)
        scores.axhline(0.5, **REFERENCE, linestyle=":")
        rates.set(xlabel="true flip rate", ylabel="estimated flip rate")
        scores.set(xlabel="noise ratio", ylabel="AUROC of p_wrong")
        set_places(scores, places)
        if len(kinds) > 1:
            handles = [Line2D([], [], markersize=3.5, **line_style(number)) for number in range(len(kinds))]
            add_legend(figure, handles, [name for name, _ in kinds], columns=2, fontsize=6)
        add_notes(figure, ["small dots: single seeds; dotted: a right estimate, and chance"])
        return figure


def draw_heat_map(axes: Axes, change: np.ndarray, p: np.ndarray) -> AxesImage:
    """Changes (rows, columns) as colours about 0, with their values; white, and grey, where p is not below 0.05."""
    limit = max(np.nanmax(np.abs(change), initial=0), 1e-9)
    significant = ~(p >= SIGNIFICANT)  # also where there is no test: one seed
    image = axes.imshow(np.where(significant, change, 0), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(change):
        dark = significant[row, column] and abs(value) > 0.65 * limit
        color = "white" if dark else BLACK if significant[row, column] else GREY
        text = f"{value:+.3f}" if np.isfinite(value) else "-"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    return image


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the path's suffix says. The same figure gives the same bytes: no dates, no versions."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None})


# --- parts that several figures share


def varied_axis(runs: "pd.DataFrame") -> str:
    """The horizontal axis: the noise ratio, or the labels where there is one ratio and several labels."""
    return "labels" if runs["ratio"].nunique() == 1 and runs["labels"].nunique() > 1 else "ratio"


def sort_axis(values: "pd.Series") -> list[Any]:
    """The different values on an axis: ratios by size, labels in the order of their declaration."""
    return sorted(set(values), key=lambda value: LABELS.index(value) if value in LABELS else value)


def split_settings(table: "pd.DataFrame", leave_out: str = "") -> list[tuple[str, "pd.DataFrame"]]:
    """Every setting of loss, KL weight, labels and kind of noise in the table: its name and its rows, in order."""
    from noisy_feedback.evaluation.statistics import setting_names

    axes = [axis for axis in SETTING_AXES if axis != leave_out]
    named = table.assign(name=setting_names(table, axes))
    return [(group["name"].iloc[0], group) for _, group in named.groupby(axes, sort=False)]


def same_setting(runs: "pd.DataFrame", rows: "pd.DataFrame", leave_out: str = "") -> "pd.DataFrame":
    """The runs of the setting that all of `rows` are of."""
    axes = [axis for axis in SETTING_AXES if axis != leave_out]
    return runs[(runs[axes] == rows[axes].iloc[0]).all(axis=1)]


def describe_seeds(table: "pd.DataFrame") -> str:
    """How many seeds stand behind every point: "mean of 3 to 20 seeds" where settings or ratios differ."""
    counts = seeds_of(table)
    least, most = int(counts.min()), int(counts.max())
    if most == 1:
        return ONE_SEED
    return f"mean of {least} to {most} seeds" if least < most else f"mean of {most} seeds"


def seeds_of(table: "pd.DataFrame") -> "pd.Series":
    """Numbers of seeds of every setting and ratio in a table of runs, curves or summaries."""
    if "seeds" in table:
        return table["seeds"]
    fine_tuning = table.dropna(subset=["ratio"])
    if fine_tuning.empty:
        return table[["seed"]].nunique()
    return fine_tuning.groupby([*SETTING_AXES, "ratio"])["seed"].nunique()


def interval_notes(runs: "pd.DataFrame") -> list[str]:
    """What the marks of `draw_metrics` are."""
    seeds = describe_seeds(runs)
    if seeds == ONE_SEED:
        return [seeds]
    return [
        f"{seeds}; bars: 95 % intervals of the mean; small dots: seeds",
        "paired differences have narrower intervals (summary.csv)",
    ]


def fine_tuning_note(training: int, fine_tuning: int) -> list[str]:
    """What the dotted line of `set_epochs` means, where there is one."""
    if training and fine_tuning:
        return ["dotted line: fine-tuning starts, from the best training epoch"]
    return []


def add_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int, fontsize: int = 7, **legend: Any
) -> None:
    """A legend above the panels; the figure grows by its height."""
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        fontsize=fontsize,
        title_fontsize=fontsize,
        handlelength=2.6,
        **legend,
    )
    figure.set_figheight(figure.get_figheight() + 1.6 * fontsize * -(-len(labels) // columns) / 72)


def add_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Small grey lines below a figure."""
    figure.supxlabel("\n".join(notes), fontsize=6, color=GREY)


def set_epochs(axes: Axes, training: int, fine_tuning: int) -> None:
    """An axis of training, then fine-tuning epochs, and a dotted line between them: curves may jump there."""
    axes.set(xlabel="epoch", xlim=(0.5, training + fine_tuning + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if training and fine_tuning:
        axes.axvline(training + 0.5, color=GREY, linewidth=0.6, linestyle=":")


def set_places(axes: Axes, places: Mapping[Any, int]) -> None:
    """Ratios or labels side by side, at equal distances."""
    names = [value if isinstance(value, str) else f"{value:g}" for value in places]
    axes.set_xticks(list(places.values()), names, rotation=90 if len("".join(names)) > 40 else 0)
    axes.set(xlim=(-0.5, len(places) - 0.5))


def dodge(number: int, count: int) -> float:
    """How far a line is moved sideways so that bars do not cover each other; all lines lie evenly about the place."""
    return (number - (count - 1) / 2) * 0.5 / max(count, 6)


def line_style(number: int) -> dict[str, Any]:
    """A colour, a kind of line and a marker."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def ratio_styles(count: int) -> list[tuple[Any, Any]]:
    """A colour and a kind of line for each ratio: from dark to light, without the palest, which is hard to see."""
    colors = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, count))
    return [(color, LINES[number % len(LINES)]) for number, color in enumerate(colors)]
