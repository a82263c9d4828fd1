"""The published curves explained: the published protocol and the corrected one, same data, same seeds.

    python benchmarks/as_published.py --data tripadvisor_hotel_reviews.csv --output published

Prints what each departure does when it alone is switched on, and draws both protocols side by side (figure.png).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from noisy_feedback import plots
from noisy_feedback.files import written_atomically
from noisy_feedback.reviews import read_reviews, split

ROOT = Path(__file__).parent.parent
VARIANTS = {
    "corrected": (),
    "labels": ("--as-published", "labels"),
    "noise": ("--as-published", "noise"),
    "order": ("--as-published", "order"),
    "all three": ("--as-published",),
}
RATIOS = (0.0, 0.2, 0.8)


def sweep(data: Path, output: Path, variant: tuple[str, ...]) -> Path:
    """Run (or find) the multiclass sweep at k = 3 with some departures; its folder."""
    command = [sys.executable, "config.py", "--k", "3", "--path", str(data.resolve())]
    command += ["--output", str(output.resolve()), *variant]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(
        command, cwd=ROOT / "multiclass", check=True, text=True, capture_output=True, env=environment
    ).stdout
    (line,) = (line for line in told.splitlines() if line.startswith("results "))
    return Path(line.split(maxsplit=1)[1])


def row(name: str, folder: Path) -> str:
    """What the curves of one variant show, and what the model is really worth."""
    curves, runs = pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "runs.csv")
    training = curves[curves["phase"] == "training"]["validation_accuracy"].mean()
    tuning = curves[curves["phase"] == "fine-tuning"]
    last = tuning[tuning["epoch"] == tuning["epoch"].max()].groupby("ratio")["validation_accuracy"].mean()
    true = runs.groupby("ratio")["last_accuracy"].mean()
    cells = [f"{training:.3f}", f"{tuning[tuning['epoch'] == 1]['validation_accuracy'].mean():.3f}"]
    cells += [f"{last[ratio]:.3f}" for ratio in RATIOS] + [f"{runs['before_accuracy'].mean():.3f}"]
    cells += [f"{true[ratio]:.3f}" for ratio in RATIOS]
    return f"| {name} | {' | '.join(cells)} |"


def chance(data: Path) -> float:
    """sum_c p_c q_c: how often a label of the training part agrees with one of the validation part."""
    reviews = read_reviews(data)
    parts = split(len(reviews.ratings))
    shares = (pd.Series(reviews.ratings[rows]).value_counts(normalize=True) for rows in (parts.train, parts.validation))
    return float(pd.concat(shares, axis=1).fillna(0).prod(axis=1).sum())


def draw(folders: dict[str, Path], level: float, file: Path) -> None:
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(2 * plots.COLUMN, 2.6), layout="constrained")
        for axes, (title, name) in zip(
            figure.subplots(1, 2, sharey=True),
            (("the published protocol", "all three"), ("corrected", "corrected")),
            strict=True,
        ):
            curves = pd.read_csv(folders[name] / "curves.csv")
            training, tuning = (curves[curves["phase"] == phase] for phase in ("training", "fine-tuning"))
            plots.draw_curve_panel(axes, training, tuning)
            axes.axhline(level, color=plots.GREY, linewidth=0.6)
            axes.annotate("chance", (1, level), (0, 2), color=plots.GREY, fontsize=7, textcoords="offset points")
            axes.set_title(title, fontsize=8)
            axes.set(xlabel="epoch")
        figure.axes[0].set(ylabel="validation F1 (micro)")
        figure.axes[0].legend(loc="upper left", handlelength=2.8)
        with written_atomically(file) as temporary:
            plots.save(figure, temporary)


def main(data: Path, output: Path) -> None:
    folders = {name: sweep(data, output, variant) for name, variant in VARIANTS.items()}
    level = chance(data)
    print(f"two labels, one of the training and one of the validation part, agree with probability {level:.3f}")
    columns = ["on", "validation F1: training", "fine-tuning, first epoch"]
    columns += [f"last epoch, noise {ratio:g}" for ratio in RATIOS] + ["test accuracy: before"]
    columns += [f"last epoch, noise {ratio:g}" for ratio in RATIOS]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, folder in folders.items():
        print(row(name, folder))
    draw(folders, level, output / "figure.png")
    print(output / "figure.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a file of reviews")
    parser.add_argument("--output", type=Path, required=True, help="folder for the sweeps and the figure")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"--data {arguments.data}: no such file")
    main(arguments.data, arguments.output)
