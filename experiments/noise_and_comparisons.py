"""Noise also changes how many comparisons there are. What of its effect remains with equally many?

    python experiments/noise_and_comparisons.py --data sst5.csv tripadvisor_hotel_reviews.csv --skew sst5.csv \\
        --output noise_and_comparisons --figure docs/images/lists.png

`--data`: the study's loss, k = 3, noise 0 to 0.8, 20 seeds, once with all comparisons and once with as many for every
ratio (`--lists`, the smallest count). Prints both side by side and draws them.

`--skew`: the same on a selection of one file whose ratings have the shares 2, 2, 7, 21 and 68 %, where noise seems to
help. Three explanations are separated by crossing three things: a model that starts from always predicting the most
frequent rating (`--select accuracy`) or not (`--select macro_f1`), all comparisons or equally many, and noise.
"""

import sys
from argparse import Namespace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sweeps import (
    METRICS,
    change,
    change_and_p,
    integer_from,
    last_epoch,
    make_parser,
    print_table,
    read,
    run_script,
    run_sweep,
    seed_options,
    write_selection,
)

from noisy_feedback.errors import InputError
from noisy_feedback.files import atomic_write
from noisy_feedback.output import figures, plots

SKEWED_SHARES = np.array([0.02, 0.02, 0.07, 0.21, 0.68])  # of 1 to 5 stars


def sweep_twice(data: Path, output: Path, *options: str) -> tuple[Path, Path]:
    """Sweep with all comparisons, then with equally many at every ratio; both results folders."""
    options = ("--k", "3", "--shuffle", *options)
    everything = run_sweep(data, output, *options)
    smallest = pd.read_csv(everything / "runs.csv")["comparisons"].min()
    return everything, run_sweep(data, output, *options, "--lists", str(smallest))


def print_side_by_side(name: str, everything: Path, equal: Path) -> None:
    """Test metrics after the last epoch: with all comparisons on the left, with equally many on the right."""
    print(f"\n{name}: test metrics after the last epoch; all comparisons, then equally many at every ratio")
    columns, rows = ["noise"], [[f"{ratio:g}"] for ratio in last_epoch(everything, "macro_f1")["ratio"]]
    for folder in (everything, equal):
        columns.append("comparisons")
        for row, count in zip(rows, last_epoch(folder, "macro_f1")["comparisons"], strict=True):
            row.append(f"{count:.0f}")
        for metric, shown in METRICS.items():
            columns += [shown, "vs noise 0"]
            for row, (_, found) in zip(rows, last_epoch(folder, metric).iterrows(), strict=True):
                row += [f"{found['mean']:.3f}", change_and_p(found, "vs_noise0")]
    print_table(columns, rows)


def draw(results: dict[str, tuple[Path, Path]], file: Path) -> None:
    """Macro F1 and kappa against the noise ratio, a column per data set, with all and with equally many comparisons."""
    labels = ("all comparisons", "equally many")
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.2 * len(results) + 0.4, 3.8), layout="constrained")
        grid = figure.subplots(len(METRICS), len(results), sharex=True, sharey="row", squeeze=False)
        for column, (name, folders) in zip(grid.T, results.items(), strict=True):
            column[0].set_title(name.partition("_")[0], fontsize=8)
            column[-1].set(xlabel="noise ratio")
            for axes, metric in zip(column, METRICS, strict=True):
                for number, (label, folder) in enumerate(zip(labels, folders, strict=True)):
                    rows = last_epoch(folder, metric)
                    shift = rows["ratio"].diff().min() * plots.dodge(number, len(folders))
                    figures.draw_means(axes, rows["ratio"] + shift, rows, label=label, **plots.line_style(number))
                    axes.set_xticks(rows["ratio"])
        for axes, shown in zip(grid[:, 0], METRICS.values(), strict=True):
            axes.set(ylabel=f"test {shown}")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        plots.add_notes(figure, ["mean over seeds after the last epoch, 95 % intervals"])
        with atomic_write(file) as temporary:
            plots.save_figure(figure, temporary)


def resample(file: Path, output: Path) -> Path:
    """Write as many reviews as possible with the skewed shares of ratings, drawn without replacement, fixed seed."""
    reviews = read(file)
    if len(reviews.scale) != len(SKEWED_SHARES):
        raise InputError(f"--skew {file}: has {len(reviews.scale)} different ratings; {len(SKEWED_SHARES)} are needed")
    available = np.bincount(reviews.ratings)
    counts = np.floor(SKEWED_SHARES * (available / SKEWED_SHARES).min()).astype(int)
    rng = np.random.default_rng(0)
    rows = [
        rng.choice(np.flatnonzero(reviews.ratings == rating), size=count, replace=False)
        for rating, count in enumerate(counts)
    ]
    skewed = output / f"{file.name.partition('.')[0]}_skewed.csv"
    write_selection(reviews, rng.permutation(np.concatenate(rows)), skewed)
    print(f"\n{skewed.name}: {counts.sum():,} reviews, rated 1 to 5: {', '.join(map(str, counts))}")
    return skewed


def explain_skew(skewed: Path, output: Path, seeds: int) -> None:
    """Print what noise does on skewed ratings by start, number of comparisons and noise ratio."""
    columns = ["best epoch by", "comparisons", "noise"]
    for shown in METRICS.values():
        columns += [f"{shown}: before", "last", "vs before", "vs noise 0"]
    rows = []
    for select in ("accuracy", "macro_f1"):
        folders = sweep_twice(skewed, output, *seed_options(seeds), "--select", select)
        for kind, folder in zip(("all", "equal"), folders, strict=True):
            by_metric = [last_epoch(folder, metric) for metric in METRICS]
            for found in zip(*(table.iterrows() for table in by_metric), strict=True):
                first = found[0][1]
                cells = [select, f"{first['comparisons']:.0f} ({kind})", f"{first['ratio']:g}"]
                for _, row in found:
                    cells += [f"{row['mean'] - row['vs_before']:.3f}", f"{row['mean']:.3f}"]
                    cells += [change(row, "vs_before"), change_and_p(row, "vs_noise0")]
                rows.append(cells)
    majority = pd.read_csv(folder / "runs.csv")["majority_macro_f1"].mean()
    print_table(columns, rows)
    print(f"always predicting the most frequent rating: macro F1 {majority:.3f}, kappa 0")


def work(given: Namespace) -> None:
    if not given.data and given.skew is None:
        raise InputError("nothing to do: give --data, --skew or both")
    results = {}
    for file in given.data:
        name = file.name.partition(".")[0]
        results[name] = sweep_twice(file, given.output, *seed_options(given.seeds))
        print_side_by_side(name, *results[name])
    if results:
        figure = given.figure or given.output / "lists.png"
        draw(results, figure)
        print(f"figure {figure}")
    if given.skew is not None:
        explain_skew(resample(given.skew, given.output), given.output, given.seeds)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="FILE", help="files of reviews, as they are"
    )
    parser.add_argument("--skew", type=Path, metavar="FILE", help="a file of reviews to select a skewed part of")
    parser.add_argument("--seeds", type=integer_from(2), default=20, metavar="N", help="how many seeds, from 1 on")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the sweeps")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="figure of --data (default: lists.png in --output)")
    sys.exit(run_script(parser, work))
