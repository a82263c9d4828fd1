"""Which loss and KL weight gain most and harm nowhere? Chosen on one half of the data, judged on the other.

    python experiments/remedies.py --data sst5.csv tripadvisor_hotel_reviews.csv --unseen arguments.csv \
        --output remedies --figure docs/images/remedies.png

Each file of --data is split once, by a permutation with a fixed seed, into two halves: choice.csv and judgement.csv in
the output folder. No row that takes part in the choice is seen again in the judgement. The files of --unseen, which
have a column Topic, are judged only.

The rule of the choice (choice.py), written before it was run. Candidates: three losses (symmetric-sigmoid, holder-dpo,
robust with the audit's flip rate), with KL weights 0.1, 0.3 and 1, or w0 / (1 - 2 e)^p for w0 = 0.05, 0.1, 0.2 and p =
1, 1.5, 2, where e is the audit's estimate of the flip rate, or the upper limit of its interval; from one half on
nothing is fine-tuned. All are run on the first halves with one list per review, on k = 3 and binary with 3 seeds; the
eight best go on to k = 1, 2, 3 and binary with 8 seeds (4 on files of more than 2,000 rows) and with one and three
lists per review. The noise ratios are 0 to 0.8. Measured is the paired change of macro F1, kappa and pairwise accuracy
from before fine-tuning to the last epoch, on the half's own test part: no epoch was chosen there, so that before and
after are compared fairly, and none of its rows is in the judgement. A cell is one data set, study, noise ratio and
metric. A candidate does harm if the change of one of its cells is negative with p < 0.05 / (number of its cells), or
if the changes of more than 2.5 % of its cells (what chance gives; 5 % with 3 seeds) are negative with p < 0.05. Of the
others those with the highest mean change over the three metrics and noise 0, 0.2 and 0.4 go on, and the best is
chosen.

The judgement, with 20 other seeds on the second halves and the unseen files: cells with an interval below or above 0,
for the chosen setting, the same loss with fixed KL weights, and the study's loss; at noise 0 to 0.8, and with other
kinds of noise at 0.4.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import choice
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sweeps import (
    LOW_NOISE,
    METRICS,
    change,
    check_files,
    data_name,
    group_column,
    integer_from,
    last_epoch,
    make_parser,
    print_table,
    read,
    run_script,
    run_sweep,
    seed_options,
    weight_text,
    write_selection,
)

from noisy_feedback.config import ADAPTIVE, RATIOS
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.files import atomic_write, check_writable
from noisy_feedback.learning.objective import KL_BASE, KL_POWER
from noisy_feedback.output import plots

KAPPA = "quadratic_weighted_kappa"
# What the choice has chosen; `--kl-weight adaptive` is made of KL_BASE and KL_POWER.
CHOSEN = (LOSS, WEIGHT, LISTS_PER_REVIEW) = ("holder-dpo", choice.Weight(KL_BASE, KL_POWER, upper=True), 1)
FIXED = ("0.1", "0.3")
EARLIER = ("symmetric-sigmoid", "0.3")  # the recommendation before the adaptive weight
STUDY = ("study", "0")
SEEDS = seed_options(20)
STUDIES: dict[str, tuple[str, dict[str, int]]] = {
    "k = 1": ("multiclass", {"k": 1}),
    "k = 2": ("multiclass", {"k": 2}),
    "k = 3": ("multiclass", {"k": 3}),
    "binary": ("binary", {}),
}
OTHER_NOISE = ("adjacent", "reversed", "least-confident")
BASELINES = ("majority", "before")
SHOWN = 0.12  # of the change of kappa, in the figure
CHANCE = 0.025  # of a 95 % interval to lie on one given side of 0 where nothing changes


def split_in_halves(file: Path, output: Path) -> Path:
    """Write choice.csv and judgement.csv, which share no row, to a folder named after the file; returns the folder."""
    reviews = read(file)
    folder = output / file.name.partition(".")[0]
    order = np.random.default_rng(0).permutation(len(reviews.texts))
    for name, rows in zip(("choice.csv", "judgement.csv"), np.array_split(order, 2), strict=True):
        write_selection(reviews, rows, folder / name)
    return folder


def judge(files: Sequence[Path], output: Path, settings: Sequence[tuple[str, str]], *options: str) -> pd.DataFrame:
    """The cells of settings (loss, KL weight): rows of the sweeps' summaries, last epoch, one per metric.

    `kl_weight` is a text. Runs of the same options are kept together, so rows that were not asked for are left out.
    """
    found = []
    for file in files:
        for study, (protocol, of_study) in STUDIES.items():
            groups = ("--group-column", column) if (column := group_column(file)) else ()
            own = [part for name, value in of_study.items() for part in (f"--{name}", str(value))]
            losses = ("--loss", *(f"{loss}:{weight}" for loss, weight in settings))
            place = output / "judged" / file.parent.name / file.stem
            folder = run_sweep(file, place, "--shuffle", *groups, *own, *losses, *SEEDS, *options, protocol=protocol)
            cells = pd.concat([last_epoch(folder, metric) for metric in METRICS])
            cells["kl_weight"] = cells["kl_weight"].map(weight_text)
            asked = np.array([key in settings for key in zip(cells["loss"], cells["kl_weight"], strict=True)])
            names = cells["noise"].isin(options) if "--noise" in options else cells["noise"] == "uniform"
            found.append(cells[asked & names].assign(data=data_name(file), study=study, folder=str(folder)))
    return pd.concat(found)


def of(cells: pd.DataFrame, setting: tuple[str, str], **values: str) -> pd.DataFrame:
    """The cells of one loss and KL weight, and of other columns' values."""
    for name, value in {"loss": setting[0], "kl_weight": setting[1], **values}.items():
        cells = cells[cells[name] == value]
    return cells


def counts(name: str, cells: pd.DataFrame) -> list[str]:
    """A row of the summary: cells, how many intervals lie below and above 0, the lowest, and the mean gains."""
    low = cells[cells["ratio"] <= LOW_NOISE]
    worse, better = (cells["vs_before_ci_high"] < 0).sum(), (cells["vs_before_ci_low"] > 0).sum()
    significant = cells.loc[cells["vs_before_ci_high"] < 0, "vs_before"]
    gains = [low[low["metric"] == metric]["vs_before"].mean() for metric in METRICS]
    gains += [of_data["vs_before"].mean() for _, of_data in low[low["metric"] == KAPPA].groupby("data", sort=False)]
    shown = [f"{significant.min():+.4f}" if len(significant) else "", *(f"{gain:+.4f}" for gain in gains)]
    return [name, *map(str, (len(cells), f"{CHANCE * len(cells):.1f}", worse, better)), *shown]


def most_frequent(cells: pd.DataFrame) -> pd.DataFrame:
    """The same cells for always predicting the most frequent rating of the training part instead of fine-tuning."""
    rows = []
    for _, row in cells.iterrows():
        runs = runs_of(row)
        runs = runs[runs["ratio"] == row["ratio"]]
        test = paired_t_test("vs_before", *(runs[f"{stage}_{row['metric']}"].to_numpy() for stage in BASELINES))
        rows.append(row.to_dict() | test)
    return pd.DataFrame(rows)


def runs_of(row: pd.Series) -> pd.DataFrame:
    """The runs that a row of `judge` summarises, at every ratio."""
    runs = pd.read_csv(Path(row["folder"]) / "runs.csv")
    same = runs["kl_weight"].map(weight_text) == row["kl_weight"]
    return runs[same & (runs["loss"] == row["loss"]) & (runs["noise"] == row["noise"])]


def change_by_noise(cells: pd.DataFrame, data: str) -> pd.DataFrame:
    """Change of kappa by fine-tuning on one data set, the mean of the studies; per noise ratio, paired over seeds."""
    own = cells[(cells["data"] == data) & (cells["metric"] == KAPPA)]
    runs = pd.concat([runs_of(row) for _, row in own.drop_duplicates("study").iterrows()])
    rows = []
    for ratio, of_ratio in runs.groupby("ratio"):
        means = of_ratio.groupby("seed")[[f"last_{KAPPA}", f"before_{KAPPA}"]].mean()
        rows.append({"ratio": ratio} | paired_t_test("change", *means.to_numpy().T))
    return pd.DataFrame(rows)


def draw(judged: dict[str, pd.DataFrame], file: Path) -> None:
    """The change of kappa against the noise ratio, a panel per data set, with 95 % intervals."""
    names = list(dict.fromkeys(next(iter(judged.values()))["data"]))
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.4 * len(names) + 0.4, 2.8), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        lowest = 0.0
        for axes, data in zip(panels, names, strict=True):
            for place, (label, cells) in enumerate(judged.items()):
                rows = change_by_noise(cells, data)
                lowest = min(lowest, rows["change"].min())
                errors = (rows["change_ci_high"] - rows["change"]).fillna(0)  # where nothing is fine-tuned
                places = rows["ratio"] + (RATIOS[1] - RATIOS[0]) * plots.dodge(place, len(judged))
                style = plots.line_style(place)
                axes.errorbar(places, rows["change"], errors, markersize=3, elinewidth=0.8, label=label, **style)
            axes.axhline(0, color=plots.GREY, linewidth=0.8, linestyle=":")
            axes.set_title(data.partition("_")[0], fontsize=8)
            axes.set_xticks(RATIOS)
            axes.set(xlabel="noise ratio")
        panels[0].set(ylabel="change of test kappa\nby fine-tuning", ylim=(-SHOWN, SHOWN))
        handles, labels = panels[0].get_legend_handles_labels()
        plots.add_legend(figure, handles, labels, columns=len(judged))
        notes = ["mean of k = 1, 2, 3 and binary, last epoch, 20 seeds, 95 % intervals"]
        if lowest < -SHOWN:
            notes.append(f"the lines that leave a panel fall to {lowest:.2f} at most")
        plots.add_notes(figure, notes)
        with atomic_write(file) as temporary:
            plots.save_figure(figure, temporary)


def print_cells(title: str, cells: pd.DataFrame) -> None:
    """The change of every cell with its interval."""
    print(f"\n{title}: change of test metrics [95 % interval]")
    rows = []
    for (data, study, metric), own in cells.groupby(["data", "study", "metric"], sort=False):
        shown = [change(row, "vs_before") for _, row in own.sort_values("ratio").iterrows()]
        rows.append([str(data), str(study), METRICS[str(metric)], *shown])
    print_table(["data", "study", "metric", *(f"noise {ratio:g}" for ratio in RATIOS)], rows)


def work(given: Namespace) -> None:
    check_files([*given.data, *given.unseen])
    check_writable(given.output)
    check_writable(given.figure.parent, "--figure")
    folders = [split_in_halves(file, given.output) for file in given.data]
    if not given.judge:
        first_halves = {folder.name: folder / "choice.csv" for folder in folders}
        loss, weight, lists = choice.choose(first_halves, STUDIES, given.output, given.processes)
        if (loss, weight, lists) != CHOSEN:
            raise InputError(f"chosen is {loss}, {weight}, {lists} list per review: put that into CHOSEN, then --judge")
    files = [*(folder / "judgement.csv" for folder in folders), *given.unseen]
    more = ["--lists-per-review", str(LISTS_PER_REVIEW)] if LISTS_PER_REVIEW > 1 else []
    ours = (LOSS, ADAPTIVE)
    found = judge(files, given.output, [ours, *((LOSS, weight) for weight in FIXED)], *more)
    plain = judge(files, given.output, [STUDY, EARLIER])
    noisy = judge(files, given.output, [ours, (LOSS, "0.3")], *more, "--noise", *OTHER_NOISE, "--ratio", str(LOW_NOISE))
    shown = {
        "the study's loss": of(plain, STUDY),
        f"{EARLIER[0]}, KL weight {EARLIER[1]}": of(plain, EARLIER),
        f"{LOSS}, adaptive": of(found, ours),
    }
    draw(shown, given.figure)
    judged = {"most frequent rating": most_frequent(of(found, ours)), **shown}
    judged |= {f"{LOSS}, KL weight {weight}": of(found, (LOSS, weight)) for weight in FIXED}
    judged |= {
        f"{weight}, {noise} noise {LOW_NOISE}": of(noisy, (LOSS, weight), noise=noise)
        for noise in OTHER_NOISE
        for weight in (ADAPTIVE, "0.3")
    }
    print("\nthe judgement: 20 seeds, test part, last epoch against before fine-tuning; gains up to noise 0.4")
    names = [*METRICS.values(), *(f"kappa, {data}" for data in dict.fromkeys(found["data"]))]
    columns = ["setting", "cells", "by chance", "worse", "better", "lowest of the worse", *names]
    print_table(columns, [counts(name, cells) for name, cells in judged.items()])
    for name, cells in shown.items():
        print_cells(name, cells)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FILE", help="files to choose and judge on"
    )
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], metavar="FILE", help="files to judge on alone")
    parser.add_argument("--judge", action="store_true", help="leave out the choice: judge what CHOSEN names")
    parser.add_argument("--processes", type=integer_from(1), default=2, metavar="N", help="of the choice (default: 2)")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the halves and the sweeps")
    parser.add_argument("--figure", type=Path, required=True, metavar="FILE", help="the figure to draw")
    sys.exit(run_script(parser, work))
