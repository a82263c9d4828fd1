"""How much does a noisy rating say about the true one? The mutual information under `uniform` noise, in bits.

    python experiments/information.py --figure docs/images/information.png

In closed form, for true ratings that are all equally frequent. It falls to 0 where the noise makes all ratings equally
frequent too, at a ratio of (C - 1) / C, and grows again beyond: there a noisy rating says what the true one is not.
"""

import sys
from argparse import Namespace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sweeps import make_parser, print_table, run_script

from noisy_feedback.feedback.noise import uniform_matrix
from noisy_feedback.files import atomic_write
from noisy_feedback.output import plots

CLASSES = (2, 3, 5, 10)
RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def mutual_information(ratio: float, classes: int) -> float:
    """I(true; noisy) = sum p(true) p(noisy | true) log2(p(noisy | true) / p(noisy)), true ratings equally frequent."""
    conditional = uniform_matrix(ratio, classes)  # (true, noisy)
    noisy = conditional.mean(axis=0)
    surprise = np.log2(conditional / noisy, where=conditional > 0, out=np.zeros_like(conditional))  # 0 log 0 = 0
    return max(float((conditional * surprise).sum() / classes), 0.0)  # rounding can make it -1e-16


def draw(file: Path) -> None:
    ratios = np.linspace(0, 1, 401)
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(plots.COLUMN, 2.4), layout="constrained")
        axes = figure.subplots()
        for number, classes in enumerate(CLASSES):
            color, line = plots.PALETTE[number], plots.LINES[number]
            bits = [mutual_information(ratio, classes) for ratio in ratios]
            axes.plot(ratios, bits, color=color, linestyle=line, label=f"{classes} ratings")
            axes.plot((classes - 1) / classes, 0, plots.MARKERS[number], color=color, markersize=4, clip_on=False)
        axes.set(xlabel="noise ratio", ylabel="mutual information (bits)", xlim=(0, 1), ylim=(0, None))
        axes.legend()
        with atomic_write(file) as temporary:
            plots.save_figure(figure, temporary)


def work(given: Namespace) -> None:
    print("mutual information between true and noisy rating, in bits")
    rows = []
    for classes in CLASSES:
        zero = (classes - 1) / classes
        bits = [mutual_information(ratio, classes) for ratio in RATIOS]
        at_zero = abs(mutual_information(zero, classes))
        rows.append([str(classes), *(f"{value:.3f}" for value in bits), f"{zero:.3g} ({at_zero:.0e} bits)"])
    print_table(["ratings", *(f"noise {ratio:g}" for ratio in RATIOS), "zero at (C - 1) / C"], rows)
    draw(given.figure)
    print(given.figure)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--figure", type=Path, required=True, metavar="FILE", help=".png or .pdf to draw")
    sys.exit(run_script(parser, work))
