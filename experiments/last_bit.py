"""How far do the headlines of the documents move when the embeddings change in their last bit?

    python experiments/last_bit.py --data data/sst5.csv --human data/arguments.csv \
        --comparisons data/argument_comparisons.parquet --output last_bit

Another processor or version of PyTorch sums in another order, which changes the last bits of the embeddings. Here each
number of each embedding is moved to the next larger or smaller float32, at random. The sweeps behind the headlines are
run with the embeddings as they are and with such copies: what a headline prints must survive this.
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sweeps import check_files, integer_from, make_parser, print_table, run_script, run_sweep, seed_options

from noisy_feedback.config import Config
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.files import atomic_write
from noisy_feedback.prepare import prepare

KAPPA, PREFERENCE = "quadratic_weighted_kappa", "preference_accuracy"
RECOMMENDED = ("holder-dpo", "adaptive")
STUDY = ("study", "0.0")
RATIOS = (0.0, 0.2, 0.4, 0.8)
Numbers = tuple[float, float]  # a mean over seeds, and its p-value or NaN


def copy_with_moved_embeddings(file: Path, vectors: torch.Tensor, folder: Path, number: int) -> Path:
    """A copy of the file beside an embeddings.pt whose numbers are moved by one step of float32; copy 0: unmoved."""
    folder.mkdir(parents=True, exist_ok=True)
    if number:
        up = torch.rand(vectors.shape, generator=torch.Generator().manual_seed(number)) < 0.5
        vectors = vectors.nextafter(torch.where(up, torch.inf, -torch.inf))
    shutil.copyfile(file, folder / file.name)
    with atomic_write(folder / "embeddings.pt") as temporary:
        torch.save(vectors, temporary)
    return folder / file.name


def compare(runs: pd.DataFrame, one: tuple[dict, str], other: tuple[dict, str]) -> Numbers:
    """The mean difference of two columns over seeds, each in the rows that its dictionary selects, and its p-value."""
    values = []
    for selection, column in (one, other):
        rows = runs
        for name, value in selection.items():
            rows = rows[rows[name].astype(str) == str(value)]
        values.append(rows.sort_values("seed")[column].to_numpy())
    found = paired_t_test("difference", *values)
    return found["difference"], found["difference_p"]


def of(setting: tuple[str, str], ratio: float, stage: str = "last") -> tuple[dict, str]:
    """The column of kappa of one stage, in the rows of one loss, KL weight and noise ratio."""
    return {"loss": setting[0], "kl_weight": setting[1], "ratio": ratio}, f"{stage}_{KAPPA}"


def rated_headlines(runs: pd.DataFrame) -> dict[str, Numbers]:
    """The headlines about reviews: kappa before fine-tuning, and changes of it."""
    _, column = of(STUDY, 0.0, "before")
    found: dict[str, Numbers] = {"kappa before": (float(runs[runs["ratio"] == 0.0][column].mean()), np.nan)}
    for name, setting in {"the study's loss": STUDY, "recommended": RECOMMENDED}.items():
        for ratio in RATIOS:
            found[f"{name}, noise {ratio:g} minus before"] = compare(
                runs, of(setting, ratio), of(setting, ratio, "before")
            )
    found["the study's loss, noise 0.2 minus noise 0"] = compare(runs, of(STUDY, 0.2), of(STUDY, 0.0))
    return found


def human_headlines(runs: pd.DataFrame) -> dict[str, Numbers]:
    """The headlines about human comparisons: differences of preference accuracy at the last epoch."""
    names = {label: ({"labels": label}, f"last_{PREFERENCE}") for label in ("gold", "one", "flipped")}
    found = {"gold minus before": compare(runs, names["gold"], ({"labels": "gold"}, f"before_{PREFERENCE}"))}
    for one, other in (("one", "gold"), ("flipped", "gold"), ("one", "flipped")):
        found[f"{one} minus {other}"] = compare(runs, names[one], names[other])
    return found


def sweep_of_copies(
    file: Path,
    given: Namespace,
    config: Config,
    headlines: Callable[[pd.DataFrame], Mapping[str, Numbers]],
    *options: str,
) -> list[Mapping[str, Numbers]]:
    """The headlines with the embeddings as they are, then of each copy."""
    vectors = prepare([config]).embeddings
    found = []
    for number in range(given.copies + 1):
        copy = copy_with_moved_embeddings(file, vectors, given.output / file.stem / f"copy{number}", number)
        folder = run_sweep(copy, copy.parent / "results", "--pc", *options, protocol=config.protocol)
        found.append(headlines(pd.read_csv(folder / "runs.csv")))
    return found


def report(data: str, found: list[Mapping[str, Numbers]]) -> None:
    """Print each headline as it is, and the range of the copies."""
    rows = []
    for name, (mean, p) in found[0].items():
        means, ps = zip(*(copy[name] for copy in found), strict=True)
        row = [data, name, f"{mean:+.4f}", f"{min(means):+.4f} to {max(means):+.4f}"]
        rows.append([*row, *(["", ""] if np.isnan(p) else [f"{p:.3g}", f"{min(ps):.2g} to {max(ps):.2g}"])])
    print_table(["data", "headline", "mean", "of all copies", "p", "of all copies"], rows)


def work(given: Namespace) -> None:
    check_files([given.data, given.human])
    reviews = Config("multiclass", path=given.data, embeddings=given.embeddings, shuffle=True)
    settings = [f"{loss}:{weight}" for loss, weight in (STUDY, RECOMMENDED)]
    options = ["--k", "3", "--loss", *settings, "--ratio", *map(str, RATIOS), *seed_options(given.seeds)]
    found = sweep_of_copies(given.data, given, reviews, rated_headlines, "--shuffle", *options)
    options = ["--comparisons", str(given.comparisons.resolve()), "--group-column", "Topic", "--shuffle"]
    options += ["--labels", "gold", "one", "flipped", *seed_options(2 * given.seeds)]
    arguments = Config("human", path=given.human, comparisons=given.comparisons, embeddings=given.embeddings)
    of_people = sweep_of_copies(given.human, given, arguments, human_headlines, *options)
    report(given.data.stem, found)
    report(given.human.stem, of_people)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the reviews of the headlines")
    parser.add_argument("--human", type=Path, required=True, metavar="FILE", help="the arguments")
    parser.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="judgements of them")
    parser.add_argument("--embeddings", type=Path, metavar="FOLDER", help="of stored embeddings")
    parser.add_argument("--copies", type=integer_from(1), default=3, metavar="N", help="with moved embeddings")
    parser.add_argument("--seeds", type=integer_from(2), default=20, metavar="N", help="of reviews; twice for people")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the copies and the sweeps")
    sys.exit(run_script(parser, work))
