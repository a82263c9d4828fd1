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
eight best go on to k = 1, 2, 3 and binary with 8 seeds and with one and three lists per review. The noise ratios are 0
to 0.8. Measured is the paired change of macro F1, kappa and pairwise accuracy from before fine-tuning to the last
epoch, on the half's own test part: no epoch was chosen there, so that before and after are compared fairly, and none
of its rows is in the judgement. A cell is one data set, study, noise ratio and metric. A candidate does harm if the
change of one of its cells is negative with p < 0.05 / (number of its cells), or if the changes of more than 2.5 % of
its cells (what chance gives; 5 % with 3 seeds) are negative with p < 0.05. Of the others those with the highest mean
change over the three metrics and noise 0, 0.2 and 0.4 go on, and the best is chosen.

The judgement, with 20 other seeds on the second halves and the unseen files: cells with an interval below or above 0,
for the chosen setting, the same loss with fixed KL weights, and the study's loss; at noise 0 to 0.8, and with other
kinds of noise at 0.4.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

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
    harmed,
    last_epoch,
    make_parser,
    print_table,
    read,
    run_script,
    run_sweep,
    seed_options,
    write_selection,
)

from noisy_feedback.config import RATIOS
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.files import atomic_write, check_writable
from noisy_feedback.output import plots

LOSSES = ("bradley-terry", "label-smoothing", "symmetric-sigmoid", "holder-dpo", "re-po")
NEED_FLIP_RATE = ("label-smoothing", "robust")
NEEDS_INFORMATION = "robust"  # refuses noise 0.8, at which the flip rate is one half
KL_WEIGHTS = ("0.3", "1", "3")
MORE_KL_WEIGHTS = ("0.1", *KL_WEIGHTS)
EARLIER = ("symmetric-sigmoid", "3")  # the recommendation before this choice
STUDY = ("study", "0")
CHOICE_SEEDS = seed_options(8, first=101)
JUDGEMENT_SEEDS = seed_options(20)
STUDIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "k = 1": ("multiclass", ("--k", "1")),
    "k = 2": ("multiclass", ("--k", "2")),
    "k = 3": ("multiclass", ("--k", "3")),
    "binary": ("binary", ()),
}
LISTS_OF_FOUR = "k = 3"
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


def sweep(
    data: Path, study: str, output: Path, losses: Sequence[str], kl_weights: Sequence[str], *options: str
) -> pd.DataFrame:
    """The last epoch's rows of the summary of one sweep, kappa and macro F1, with the names of data and study.

    Runs of the same options are kept together, so the rows that were not asked for are left out.
    """
    protocol, k = STUDIES[study]
    groups = ("--group-column", column) if (column := group_column(data)) else ()
    ratios = [str(ratio) for ratio in RATIOS]
    for some, of_ratios in (
        (set(losses) - {NEEDS_INFORMATION}, ratios),
        (set(losses) & {NEEDS_INFORMATION}, ratios[:-1]),
    ):
        if some:
            every = ("--ratio", *of_ratios) if "--ratio" not in options else ()
            sweep_options = ("--loss", *sorted(some), "--kl-weight", *kl_weights, *every, *options)
            folder = run_sweep(data, output, "--shuffle", *groups, *k, *sweep_options, protocol=protocol)
    found = pd.concat([last_epoch(folder, metric) for metric in METRICS])
    asked = found["loss"].isin(losses) & found["kl_weight"].isin([float(weight) for weight in kl_weights])
    return found[asked].assign(data=data_name(data), study=study, folder=str(folder))


def choose(folders: Sequence[Path]) -> tuple[str, str]:
    """Apply the rule to the first halves; prints every candidate."""
    cells = pd.concat(
        sweep(folder / "choice.csv", study, folder / "choice", (*LOSSES, NEEDS_INFORMATION), KL_WEIGHTS, *CHOICE_SEEDS)
        for folder in folders
        for study in STUDIES
    )
    some = of(cells, loss=LOSSES[0], kl_weight=KL_WEIGHTS[0])
    baselines = {("most frequent rating", ""): most_frequent(some), ("no fine-tuning", ""): unchanged(some)}
    candidates = {(str(loss), f"{kl_weight:g}"): own for (loss, kl_weight), own in cells.groupby(["loss", "kl_weight"])}
    rows = []
    for (loss, kl_weight), own in {**baselines, **candidates}.items():
        low = own[own["ratio"] <= LOW_NOISE]
        gains = [low[low["metric"] == metric]["vs_before"].mean() for metric in reversed(METRICS)]
        rows.append([loss, kl_weight, *gains, own["vs_before"].min(), int(harmed(own).sum()), len(own)])
    names = ["loss", "KL weight", "kappa, noise 0 to 0.4", "macro F1, noise 0 to 0.4", "lowest", "harmed", "cells"]
    table = pd.DataFrame(rows, columns=names).sort_values(names[2], ascending=False)
    print("the choice: mean change by fine-tuning on the test parts of the first halves, 8 seeds")
    print_table(
        names, [[f"{v:+.4f}" if 2 <= n <= 4 else str(v) for n, v in enumerate(row)] for row in table.to_numpy()]
    )
    possible = table[(table["harmed"] == 0) & table["loss"].isin([*LOSSES, NEEDS_INFORMATION])]
    loss, kl_weight = possible.iloc[0][["loss", "KL weight"]]
    print(f"chosen: --loss {loss} --kl-weight {kl_weight}\n")
    return str(loss), str(kl_weight)


def judge(
    files: Sequence[Path],
    output: Path,
    losses: Sequence[str],
    kl_weights: Sequence[str],
    *options: str,
    studies: Sequence[str] = tuple(STUDIES),
) -> pd.DataFrame:
    """The cells of the judgement; with `options` of other settings in folders of their own."""
    place = output / "_".join(("judged", *(option.strip("-") for option in options)))
    return pd.concat(
        sweep(file, study, place / file.parent.name / file.stem, losses, kl_weights, *JUDGEMENT_SEEDS, *options)
        for file in files
        for study in studies
    )


def of(cells: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The cells of one loss, KL weight or kind of noise."""
    for name, value in values.items():
        cells = cells[cells[name] == (float(value) if name == "kl_weight" else value)]
    return cells


def counts(name: str, cells: pd.DataFrame) -> list[str]:
    """A row of the summary: cells, how many intervals lie below and above 0, and the mean gain of kappa."""
    low = cells[cells["ratio"] <= LOW_NOISE]
    kappa = low[low["metric"] == "quadratic_weighted_kappa"]["vs_before"]
    numbers = (
        len(cells),
        f"{CHANCE * len(cells):.1f}",
        (cells["vs_before_ci_high"] < 0).sum(),
        (cells["vs_before_ci_low"] > 0).sum(),
    )
    by_data = [
        f"{low[(low['data'] == data) & (low['metric'] == 'quadratic_weighted_kappa')]['vs_before'].mean():+.4f}"
        for data in dict.fromkeys(cells["data"])
    ]
    return [name, *map(str, numbers), f"{kappa.mean():+.4f}", *by_data]


def most_frequent(cells: pd.DataFrame) -> pd.DataFrame:
    """The same cells for always predicting the most frequent rating of the training part instead of fine-tuning."""
    rows = []
    for _, row in cells.iterrows():
        runs = select(row)
        runs = runs[runs["ratio"] == row["ratio"]]
        test = paired_t_test("vs_before", *(runs[f"{stage}_{row['metric']}"].to_numpy() for stage in BASELINES))
        rows.append(row.to_dict() | test)
    return pd.DataFrame(rows)


def unchanged(cells: pd.DataFrame) -> pd.DataFrame:
    """The same cells without fine-tuning."""
    return cells.assign(vs_before=0.0, vs_before_ci_low=0.0, vs_before_ci_high=0.0, vs_before_p=1.0)


def paired(chosen: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Per cell of both the paired difference of the test metric at the last epoch, chosen minus other, over seeds."""
    rows = []
    for (data, study, noise, metric), own in chosen.groupby(["data", "study", "noise", "metric"]):
        same = (other["data"] == data) & (other["study"] == study) & (other["noise"] == noise)
        runs = [select(own.iloc[0]), select(other[same].iloc[0])]
        for ratio in sorted(set(own["ratio"])):
            values = [found[found["ratio"] == ratio].sort_values("seed")[f"last_{metric}"].to_numpy() for found in runs]
            rows.append(
                {"data": data, "study": study, "noise": noise, "metric": metric, "ratio": ratio}
                | paired_t_test("difference", *values)
            )
    return pd.DataFrame(rows)


def select(row: pd.Series) -> pd.DataFrame:
    """The runs that a row of `sweep` summarises, at every ratio."""
    runs = pd.read_csv(Path(row["folder"]) / "runs.csv")
    return runs[(runs[["loss", "kl_weight", "noise"]] == row[["loss", "kl_weight", "noise"]]).all(axis=1)]


def change_by_noise(cells: pd.DataFrame, data: str) -> pd.DataFrame:
    """Change of kappa by fine-tuning on one data set, the mean of the studies; per noise ratio, paired over seeds."""
    kappa = "quadratic_weighted_kappa"
    own = cells[(cells["data"] == data) & (cells["metric"] == kappa)]
    studies = own.drop_duplicates("study")
    runs = pd.concat([select(row) for _, row in studies.iterrows()])
    rows = []
    for ratio, of_ratio in runs.groupby("ratio"):
        means = of_ratio.groupby("seed")[[f"last_{kappa}", f"before_{kappa}"]].mean()
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
            for number, (label, cells) in enumerate(judged.items()):
                rows = change_by_noise(cells, data)
                lowest = min(lowest, rows["change"].min())
                errors = rows["change_ci_high"] - rows["change"]
                places = rows["ratio"] + (RATIOS[1] - RATIOS[0]) * plots.dodge(number, len(judged))
                style = plots.line_style(number)
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
    print(title)
    rows = []
    for (data, study, metric), own in cells.groupby(["data", "study", "metric"], sort=False):
        rows.append(
            [str(data), str(study), METRICS[str(metric)], *(change(row, "vs_before") for _, row in own.iterrows())]
        )
    print_table(["data", "study", "metric", *(f"noise {ratio:g}" for ratio in RATIOS)], rows)
    print()


def work(given: Namespace) -> None:
    check_files([*given.data, *given.unseen])
    check_writable(given.output)
    check_writable(given.figure.parent, "--figure")
    if given.chosen and (given.chosen[0] not in LOSSES or given.chosen[1] not in KL_WEIGHTS):
        raise InputError(
            f"--chosen {' '.join(given.chosen)}: one of {', '.join(LOSSES)} and one of {', '.join(KL_WEIGHTS)}"
        )
    folders = [split_in_halves(file, given.output) for file in given.data]
    loss, kl_weight = given.chosen or choose(folders)
    files = [*(folder / "judgement.csv" for folder in folders), *given.unseen]
    study = judge(files, given.output, STUDY[:1], STUDY[1:])
    found = judge(files, given.output, list({loss, EARLIER[0]}), KL_WEIGHTS)
    shown = {"the study's loss": study} | {
        f"{loss}, KL weight {weight}": of(found, loss=loss, kl_weight=weight) for weight in KL_WEIGHTS
    }
    draw(shown, given.figure)
    ours, earlier = of(found, loss=loss, kl_weight=kl_weight), of(found, loss=EARLIER[0], kl_weight=EARLIER[1])
    judged = {
        "most frequent rating": most_frequent(ours),
        "no fine-tuning": unchanged(ours),
        **shown,
    }
    other_noise = judge(files, given.output, [loss], KL_WEIGHTS, "--noise", *OTHER_NOISE, "--ratio", str(LOW_NOISE))
    for weight in KL_WEIGHTS:
        judged |= {
            f"KL weight {weight}, {noise} noise {LOW_NOISE}": of(other_noise, kl_weight=weight, noise=noise)
            for noise in OTHER_NOISE
        }
    judged |= known_less(files, given.output, loss)
    names = list(dict.fromkeys(ours["data"]))
    print("the judgement: 20 seeds, test part, last epoch against before fine-tuning")
    columns = ["setting", "cells", "by chance", "worse", "better", "kappa, noise 0 to 0.4", *names]
    print_table(columns, [counts(name, cells) for name, cells in judged.items()])
    print()
    for weight in KL_WEIGHTS:
        if (loss, weight) != EARLIER:
            print_difference(
                f"{loss}, {weight} minus {', '.join(EARLIER)}", paired(shown[f"{loss}, KL weight {weight}"], earlier)
            )
    for name, cells in shown.items():
        print_cells(f"\n{name}: change of test metrics [95 % interval]", cells)


def print_difference(name: str, differences: pd.DataFrame) -> None:
    """The paired differences of two candidates, in short."""
    for metric, shown in METRICS.items():
        own = differences[differences["metric"] == metric]
        low = own[own["ratio"] <= LOW_NOISE]
        below, above = (own["difference_ci_high"] < 0).sum(), (own["difference_ci_low"] > 0).sum()
        print(
            f"{name}, {shown}: mean {low['difference'].mean():+.4f} for noise 0 to {LOW_NOISE}; of {len(own)} cells "
            f"{above} above 0, {below} below"
        )


def known_less(files: Sequence[Path], output: Path, loss: str) -> dict[str, pd.DataFrame]:
    """Lists of four under settings that nobody has chosen, and losses that need a flip rate, known and estimated."""
    few = {"studies": (LISTS_OF_FOUR,)}
    settings: dict[str, tuple[str, ...]] = {
        "30 epochs, batches of 512": (),
        "100 epochs": ("--epochs-f", "100"),
        "batches of 64": ("--batch-f", "64"),
    }
    found: dict[str, pd.DataFrame] = {}
    for setting, options in settings.items():
        cells = judge(files, output, [loss], MORE_KL_WEIGHTS, *options, **few)
        found |= {f"k = 3, KL weight {w}, {setting}": of(cells, kl_weight=w) for w in MORE_KL_WEIGHTS}
    flip_rates: dict[str, tuple[str, ...]] = {"known": (), "estimated": ("--flip-rate", "estimated")}
    for how, flip_rate in flip_rates.items():
        cells = judge(files, output, NEED_FLIP_RATE, KL_WEIGHTS[:2], *flip_rate, **few)
        found |= {
            f"k = 3, KL weight {w}, {name}, {how} flip rate": of(cells, loss=name, kl_weight=w)
            for name in NEED_FLIP_RATE
            for w in KL_WEIGHTS[:2]
        }
    return found


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FILE", help="files to choose and judge on"
    )
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], metavar="FILE", help="files to judge on alone")
    parser.add_argument(
        "--chosen", nargs=2, metavar=("LOSS", "WEIGHT"), help="judge these, which an earlier command has chosen"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the halves and the sweeps")
    parser.add_argument("--figure", type=Path, required=True, metavar="FILE", help="the figure to draw")
    sys.exit(run_script(parser, work))
