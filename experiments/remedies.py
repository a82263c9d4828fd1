"""Which loss and KL weight gain most and harm nowhere? Chosen on one half of the data, judged on the other.

    python experiments/remedies.py --data sst5.csv tripadvisor_hotel_reviews.csv --unseen arguments.csv --output out

Each file of --data is split once, by a permutation with a fixed seed, into two halves: choice.csv and judgement.csv in
the output folder. No row that takes part in the choice is seen again in the judgement. The files of --unseen, which
have a column Topic, are judged only.

The rule of the choice, written before it was run. Candidates: six losses with three KL weights. Every candidate is run
on the first halves: k = 1, 2, 3 and binary, noise 0 to 0.8, 8 seeds. Measured is the paired change from before
fine-tuning to the last epoch, on the half's own test part: no epoch was chosen there, so that before and after are
compared fairly, and none of its rows is in the judgement. A candidate is harmful if in one of its cells (data, study,
noise, macro F1 or kappa) the change is negative with p < 0.05 / (number of its cells). Of the others the one with the
highest mean change of kappa over noise 0, 0.2 and 0.4 is chosen.

The judgement, with 20 other seeds on the second halves and the unseen files: cells with an interval below or above 0,
and the paired difference to the earlier recommendation. Then the same with changed settings: a KL weight three times as
large and as small, 100 epochs, batches of 64; and losses that need a flip rate with the audit's estimate of it.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import (
    METRICS,
    change,
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
from noisy_feedback.evaluation.statistics import paired_t_test

LOSSES = ("bradley-terry", "label-smoothing", "symmetric-sigmoid", "holder-dpo", "re-po")
NEEDS_INFORMATION = "robust"  # refuses noise 0.8, at which the flip rate is one half
KL_WEIGHTS = ("0.3", "1", "3")
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
OTHER_NOISE = ("adjacent", "reversed", "least-confident")
LOW_NOISE = 0.4  # gains are counted up to here
CHANCE = 0.025  # of a 95 % interval to lie on one given side of 0 where nothing changes
LEVEL = 0.05


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
    groups = ("--group-column", "Topic") if "Topic" in pd.read_csv(data, nrows=0) else ()
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
    name = data.parent.name if data.stem in ("choice", "judgement") else data.stem
    return found[asked].assign(data=name, study=study, folder=str(folder))


def choose(folders: Sequence[Path]) -> tuple[str, str]:
    """Apply the rule to the first halves; prints every candidate."""
    cells = pd.concat(
        sweep(folder / "choice.csv", study, folder / "choice", (*LOSSES, NEEDS_INFORMATION), KL_WEIGHTS, *CHOICE_SEEDS)
        for folder in folders
        for study in STUDIES
    )
    rows = []
    for (loss, kl_weight), own in cells.groupby(["loss", "kl_weight"]):
        low = own[own["ratio"] <= LOW_NOISE]
        gains = [low[low["metric"] == metric]["vs_before"].mean() for metric in reversed(METRICS)]
        harmed = (own["vs_before"] < 0) & (own["vs_before_p"] < LEVEL / len(own))
        rows.append([loss, kl_weight, *gains, own["vs_before"].min(), int(harmed.sum()), len(own)])
    names = ["loss", "KL weight", "kappa, noise 0 to 0.4", "macro F1, noise 0 to 0.4", "lowest", "harmed", "cells"]
    candidates = pd.DataFrame(rows, columns=names).sort_values(names[2], ascending=False)
    print("the choice: mean change by fine-tuning on the test parts of the first halves, 8 seeds")
    print_table(
        names, [[f"{v:+.4f}" if 2 <= n <= 4 else str(v) for n, v in enumerate(row)] for row in candidates.to_numpy()]
    )
    loss, kl_weight = candidates[candidates["harmed"] == 0].iloc[0][["loss", "KL weight"]]
    print(f"chosen: --loss {loss} --kl-weight {kl_weight:g}\n")
    return str(loss), f"{kl_weight:g}"


def judge(
    files: Sequence[Path], output: Path, candidate: tuple[str, str], *options: str, only: str = ""
) -> pd.DataFrame:
    """The cells of a candidate in the judgement; with `options` of other settings in folders of their own."""
    place = output / "_".join(("judged", *candidate, *(option.strip("-") for option in options)))
    studies = [study for study in STUDIES if only in study]
    return pd.concat(
        sweep(
            file, study, place / file.parent.name / file.stem, candidate[:1], candidate[1:], *JUDGEMENT_SEEDS, *options
        )
        for file in files
        for study in studies
    )


def counts(name: str, cells: pd.DataFrame) -> list[str]:
    """A row of the summary: cells, how many intervals lie below and above 0, and the mean gain of kappa."""
    low = cells[cells["ratio"] <= LOW_NOISE]
    kappa = low[low["metric"] == "quadratic_weighted_kappa"]["vs_before"]
    numbers = (len(cells), (cells["vs_before_ci_high"] < 0).sum(), (cells["vs_before_ci_low"] > 0).sum())
    by_data = [
        f"{low[(low['data'] == data) & (low['metric'] == 'quadratic_weighted_kappa')]['vs_before'].mean():+.4f}"
        for data in dict.fromkeys(cells["data"])
    ]
    return [name, *map(str, numbers), f"{kappa.mean():+.4f}", *by_data]


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
    folders = [split_in_halves(file, given.output) for file in given.data]
    chosen = choose(folders)
    files = [*(folder / "judgement.csv" for folder in folders), *given.unseen]
    loss, kl_weight = chosen
    judged = {
        "the study's loss": judge(files, given.output, STUDY),
        f"{EARLIER[0]}, {EARLIER[1]} (earlier)": judge(files, given.output, EARLIER),
        f"{loss}, {kl_weight} (chosen)": judge(files, given.output, chosen),
    }
    ours, earlier = list(judged.values())[2], list(judged.values())[1]
    for noise in OTHER_NOISE:
        judged[f"chosen, {noise} noise 0.4"] = judge(files, given.output, chosen, "--noise", noise, "--ratio", "0.4")
    for factor in (1 / 3, 3):
        weight = f"{float(kl_weight) * factor:.2g}"
        judged[f"KL weight {weight}"] = judge(files, given.output, (loss, weight))
    for options in (("--epochs-f", "100"), ("--batch-f", "64")):
        judged[f"chosen, {' '.join(options)}"] = judge(files, given.output, chosen, *options)
    for name in ("label-smoothing", "robust"):
        judged[f"{name}, {kl_weight}, known flip rate"] = judge(files, given.output, (name, kl_weight))
        judged[f"{name}, {kl_weight}, estimated"] = judge(
            files, given.output, (name, kl_weight), "--flip-rate", "estimated"
        )
    names = list(dict.fromkeys(ours["data"]))
    print("the judgement: 20 seeds, test part, last epoch against before fine-tuning")
    columns = ["setting", "cells", "worse", "better", "kappa, noise 0 to 0.4", *names]
    print_table(columns, [counts(name, cells) for name, cells in judged.items()])
    print(f"by chance alone {CHANCE * len(ours):.1f} of {len(ours)} cells on each side\n")
    differences = paired(ours, earlier)
    for metric, name in METRICS.items():
        own = differences[differences["metric"] == metric]
        below, above = (own["difference_ci_high"] < 0).sum(), (own["difference_ci_low"] > 0).sum()
        print(
            f"chosen minus earlier, {name}: mean {own['difference'].mean():+.4f}; of {len(own)} cells {above} above 0, "
            f"{below} below"
        )
    print()
    print_cells(f"--loss {loss} --kl-weight {kl_weight}: change of test metrics [95 % interval]", ours)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FILE", help="files to choose and judge on"
    )
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], metavar="FILE", help="files to judge on alone")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the halves and the sweeps")
    sys.exit(run_script(parser, work))
