"""The published curves explained: the published protocol and the corrected one, same data, same seeds.

    python experiments/as_published.py --data tripadvisor_hotel_reviews.csv --output published

Prints what each departure of the published code from its description does when it alone is switched on, and draws both
protocols side by side.
"""

import sys
from argparse import Namespace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sweeps import make_parser, print_table, read, run_script, run_sweep

from noisy_feedback.cli import DEPARTURES
from noisy_feedback.data.splits import split_dataset
from noisy_feedback.files import atomic_write
from noisy_feedback.output import figures, plots

VARIANTS: dict[str, tuple[str, ...]] = {
    "corrected": (),
    **{departure: ("--as-published", departure) for departure in DEPARTURES},
    "all three": ("--as-published",),
}
RATIOS = (0.0, 0.2, 0.8)  # in the table


def cells(folder: Path) -> list[str]:
    """What the validation curves of one variant show, and the accuracy of its models on the test part."""
    curves, runs = pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "runs.csv")
    training = curves[curves["phase"] == "training"]["validation_accuracy"].mean()
    tuning = curves[curves["phase"] == "fine-tuning"]
    first, last = (tuning[tuning["epoch"] == tuning["epoch"].agg(which)] for which in ("min", "max"))
    shown = last.groupby("ratio")["validation_accuracy"].mean()
    test = runs.groupby("ratio")["last_accuracy"].mean()
    values = [training, first["validation_accuracy"].mean(), *shown[list(RATIOS)]]
    values += [runs["before_accuracy"].mean(), *test[list(RATIOS)]]
    return [f"{value:.3f}" for value in values]


def chance_agreement(file: Path) -> float:
    """sum_c p_c q_c: how often a rating of the training part and one of the validation part agree."""
    reviews = read(file)
    splits = split_dataset(len(reviews.ratings))
    training, validation = (
        np.bincount(reviews.ratings[rows], minlength=len(reviews.scale)) / len(rows)
        for rows in (splits.train, splits.validation)
    )
    return float(training @ validation)


def draw(folders: dict[str, Path], chance: float, file: Path) -> None:
    """The validation curves of both protocols; chance is the accuracy of ratings that belong to other reviews."""
    titles = {"all three": "the published protocol", "corrected": "corrected"}
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(2 * plots.COLUMN, 2.9), layout="constrained")
        for axes, (variant, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
            curves = pd.read_csv(folders[variant] / "curves.csv")
            training, tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
            ratios, epochs = sorted(set(tuning["ratio"])), int(training["epoch"].max())
            lines = [tuning[tuning["ratio"] == ratio] for ratio in ratios]
            figures.draw_curve_panel(axes, "validation_accuracy", training, lines, epochs)
            plots.set_epochs(axes, epochs, int(tuning["epoch"].max()))
            axes.axhline(chance, color=plots.GREY, linewidth=0.6)
            axes.annotate("chance", (1, chance), (0, 2), color=plots.GREY, fontsize=7, textcoords="offset points")
            axes.set_title(title, fontsize=8)
        figure.axes[0].set(ylabel="validation accuracy")
        handles = [Line2D([], [], **style) for style in plots.ratio_styles(len(ratios))]
        labels = [f"{ratio:g}" for ratio in ratios]
        figure.legend(handles, labels, title="noise ratio", title_fontsize=7, loc="outside right upper")
        seeds = f"mean of {curves['seed'].nunique()} seeds; band: one standard deviation"
        plots.add_notes(figure, [seeds, *plots.fine_tuning_note(epochs, int(tuning["epoch"].max()))])
        with atomic_write(file) as temporary:
            plots.save_figure(figure, temporary)


def work(given: Namespace) -> None:
    chance = chance_agreement(given.data)
    # A folder each: noise is an axis of a sweep, so that two kinds of it would come into the same tables.
    folders = {
        name: run_sweep(given.data, given.output / name.replace(" ", "_"), "--k", "3", *options)
        for name, options in VARIANTS.items()
    }
    print(f"a rating of the training part and one of the validation part agree with probability {chance:.3f}")
    noise = [f"last epoch, noise {ratio:g}" for ratio in RATIOS]
    columns = ["on", "validation F1: training", "fine-tuning, first epoch", *noise, "test accuracy: before", *noise]
    print_table(columns, [[name, *cells(folder)] for name, folder in folders.items()])
    figure = given.figure or given.output / "as_published.png"
    draw(folders, chance, figure)
    print(f"figure {figure}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="a file of reviews")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the sweeps")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="figure to draw (default: as_published.png in --output)"
    )
    sys.exit(run_script(parser, work))
