"""Figures. Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles serve grey prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")  # files, never windows: the programs run where there is no screen

from matplotlib.figure import Figure

from noisy_feedback.training import Epoch

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
COLUMN = 3.4  # inches: the width of a column in a two-column paper
DPI = 200
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,
}


def draw_curves(training: Sequence[Epoch], fine_tuning: Sequence[Epoch], ratio: float, file: Path) -> None:
    """Validation accuracy and macro F1 of one run over training, then fine-tuning epochs."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
        axes = figure.subplots()
        epochs = [*training, *fine_tuning]
        numbers = range(1, len(epochs) + 1)
        axes.plot(numbers, [epoch.validation_accuracy for epoch in epochs], color=BLUE, label="accuracy (micro F1)")
        axes.plot(
            numbers, [epoch.validation_macro_f1 for epoch in epochs], color=ORANGE, linestyle="--", label="macro F1"
        )
        if training and fine_tuning:
            axes.axvline(len(training) + 0.5, color=GREY, linewidth=0.6, linestyle=":")
            axes.annotate(
                f"fine-tuning\nnoise={ratio:g}",
                (len(training) + 0.5, 0.02),
                (3, 0),
                color=GREY,
                fontsize=7,
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
            )
        axes.set(xlabel="epoch", ylabel="validation score")
        if epochs:
            axes.legend(loc="lower left" if training else "best")
        figure.savefig(file, metadata={"Software": None})
