"""What all figures share, at the width of a paper's column where they have one panel across; and the figure of a run.

Noise ratios run through cividis, which colour-blind readers see in order and grey prints keep in order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from noisy_feedback.evaluation.results import RunResult

# Okabe and Ito 2008: colours that colour-blind readers tell apart; and neutral tones.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
GREY, BLACK = "#767676", "#222222"
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
SCORES: Mapping[str, Any] = {  # of an epoch
    "validation_accuracy": {"color": PALETTE[1], "linestyle": "-"},
    "validation_macro_f1": {"color": PALETTE[0], "linestyle": "--"},
    "validation_preference_accuracy": {"color": PALETTE[3], "linestyle": "-."},
    "preference_accuracy": {"color": PALETTE[2], "linestyle": ":"},
}


@matplotlib.rc_context(STYLE)
def draw_run(result: RunResult) -> Figure:
    """Scores of one run over training, then fine-tuning epochs; dots mark the epochs that were kept."""
    training, fine_tuning = len(result.training), len(result.fine_tuning)
    epochs = pd.DataFrame(map(vars, result.training + result.fine_tuning))
    epochs.index += 1
    starts = {"training": 0, "fine_tuning": training}
    kept = epochs.loc[[starts[phase] + best for phase, best in result.best_epochs.items() if best]]
    shown = {name: style for name, style in SCORES.items() if epochs[name].notna().any()}
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    for name, style in shown.items():
        for phase in (epochs.iloc[:training], epochs.iloc[training:]):
            axes.plot(phase[name], **style)
        axes.plot(kept[name], "o", color=style["color"], markersize=4)
    handles = [Line2D([], [], **style) for style in shown.values()]
    dot = Line2D([], [], color=GREY, marker="o", markersize=4, linestyle="")
    names = [name.replace("_", " ").replace("f1", "F1") for name in shown]
    add_legend(figure, [*handles, dot], [*names, "kept epoch"], columns=2)
    axes.set(ylabel="score")
    set_epochs(axes, training, fine_tuning)
    notes = [f"one run: seed {result.config.seed}, noise ratio {result.config.ratio:g}"]
    if fine_tuning:
        notes.append("preference accuracy: share of the feedback that the reward agrees with")
    add_notes(figure, [*notes, *fine_tuning_note(training, fine_tuning)])
    return figure


@matplotlib.rc_context(STYLE)
def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the path's suffix says. The same figure gives the same bytes: no dates, no versions."""
    figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None})
    figure.set_layout_engine("none")  # computed once: another format has the same layout


def add_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int, fontsize: int = 7, **legend: Any
) -> None:
    """A legend above the panels; the figure grows by its height."""
    sizes = {"fontsize": fontsize, "title_fontsize": fontsize, "handlelength": 2.6}
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, **sizes, **legend)
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


def fine_tuning_note(training: int, fine_tuning: int) -> list[str]:
    """What the dotted line of `set_epochs` means, where there is one."""
    return ["dotted line: fine-tuning starts, from the best training epoch"] if training and fine_tuning else []


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


def ratio_styles(count: int) -> list[dict[str, Any]]:
    """A colour and a kind of line for each ratio: from dark to light, without the palest, which is hard to see."""
    colors = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, count))
    return [{"color": color, "linestyle": LINES[number % len(LINES)]} for number, color in enumerate(colors)]
