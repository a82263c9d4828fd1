"""Which loss and KL weight withstand 30 epochs of noisy feedback? Chosen on one half of the data, judged on the other.

    python experiments/remedies.py --data sst5.csv tripadvisor_hotel_reviews.csv --output remedies

Each file is split once, by a permutation with a fixed seed, into two halves: choice.csv and judgement.csv in the output
folder. No row that takes part in the choice is seen again in the judgement.

The choice: every candidate on the first half, k = 1, 2, 3 and binary, every noise ratio, 8 seeds. The candidate with
the highest mean over all of these is chosen, of validation macro F1 at the last epoch minus that of the trained model.
The judgement: the study's loss and the chosen candidate on the second half, 20 other seeds: the paired change of test
metrics from before fine-tuning to its last epoch.
"""

import sys
from argparse import Namespace
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

from noisy_feedback.config import COMBINATION, RATIOS

LOSSES = ("symmetric-sigmoid", "bradley-terry", "label-smoothing")
KL_WEIGHTS = ("0.3", "1", "3")
CHOICE_SEEDS = seed_options(8, first=101)
JUDGEMENT_SEEDS = seed_options(20)
STUDIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "k = 1": ("multiclass", ("--k", "1")),
    "k = 2": ("multiclass", ("--k", "2")),
    "k = 3": ("multiclass", ("--k", "3")),
    "binary": ("binary", ()),
}
CHANCE = 0.025  # of a 95 % interval to lie on one given side of 0 where nothing changes


def sweep(data: Path, study: str, loss: tuple[str, ...], kl_weight: tuple[str, ...], seeds: tuple[str, ...]) -> Path:
    """Run one sweep on a half; its results folder. Other losses have other folders: tables cover all kept runs."""
    protocol, k = STUDIES[study]
    output = data.parent / data.stem / "_".join((*loss, *kl_weight))
    options = ("--shuffle", *k, *seeds, "--loss", *loss, "--kl-weight", *kl_weight)
    return run_sweep(data, output, *options, protocol=protocol)


def split_in_halves(file: Path, output: Path) -> Path:
    """Write choice.csv and judgement.csv, which share no row, to a folder named after the file; returns the folder."""
    reviews = read(file)
    folder = output / file.name.partition(".")[0]
    order = np.random.default_rng(0).permutation(len(reviews.texts))
    for name, rows in zip(("choice.csv", "judgement.csv"), np.array_split(order, 2), strict=True):
        write_selection(reviews, rows, folder / name)
    return folder


def validation_change(folder: Path) -> pd.DataFrame:
    """Per combination and ratio: validation macro F1 at the last epoch minus the trained model's, mean over seeds."""
    curves, runs = pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "runs.csv")
    training = curves[curves["phase"] == "training"].set_index(["seed", "epoch"])["validation_macro_f1"]
    tuning = curves[curves["phase"] == "fine-tuning"]
    last = tuning[tuning["epoch"] == tuning["epoch"].max()]
    axes = ["seed", *COMBINATION, "ratio"]
    last = last.merge(runs[[*axes, "best_training_epoch"]], on=axes)
    before = training.loc[list(zip(last["seed"], last["best_training_epoch"], strict=True))].to_numpy()
    last = last.assign(change=last["validation_macro_f1"] - before)
    return last.groupby([*COMBINATION, "ratio"], as_index=False)["change"].mean()


def choose(folders: list[Path]) -> tuple[str, str]:
    """The loss and the KL weight with the highest mean validation change."""
    changes = [
        validation_change(sweep(folder / "choice.csv", study, LOSSES, KL_WEIGHTS, CHOICE_SEEDS))
        for folder in folders
        for study in STUDIES
    ]
    candidates = pd.concat(changes).groupby(["loss", "kl_weight"])["change"].agg(["mean", "min"])
    candidates = candidates.sort_values("mean", ascending=False)
    print("validation macro F1, last epoch minus trained model: mean and minimum over data, studies and ratios")
    print(candidates.to_string(float_format="{:+.4f}".format))
    loss, kl_weight = candidates.index.to_list()[0]
    print(f"chosen: --loss {loss} --kl-weight {kl_weight:g}\n")
    return str(loss), f"{kl_weight:g}"


def judge(folders: list[Path], loss: str, kl_weight: str) -> None:
    """Print the change of the test metrics in every cell, and in how many cells its interval is below or above 0."""
    print(f"--loss {loss} --kl-weight {kl_weight}: change of test metrics by fine-tuning, last epoch [95 % interval]")
    rows, cells = [], []
    for folder in folders:
        for study in STUDIES:
            results = sweep(folder / "judgement.csv", study, (loss,), (kl_weight,), JUDGEMENT_SEEDS)
            for metric, name in METRICS.items():
                found = last_epoch(results, metric)
                rows.append([folder.name, study, name, *(change(row, "vs_before") for _, row in found.iterrows())])
                cells.append(found)
    print_table(["data", "study", "metric", *(f"noise {ratio:g}" for ratio in RATIOS)], rows)
    judged = pd.concat(cells)
    low_noise = judged[judged["ratio"] <= 0.4]
    for where, table in (("all cells", judged), ("cells with noise 0 to 0.4", low_noise)):
        print(
            f"{where}: {len(table)}; interval below 0 in {(table['vs_before_ci_high'] < 0).sum()}, above 0 in "
            f"{(table['vs_before_ci_low'] > 0).sum()}; by chance alone {CHANCE * len(table):.1f} each"
        )
    print()


def work(given: Namespace) -> None:
    folders = [split_in_halves(file, given.output) for file in given.data]
    chosen = choose(folders)
    judge(folders, "study", "0")
    judge(folders, *chosen)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of reviews")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the halves and the sweeps")
    sys.exit(run_script(parser, work))
