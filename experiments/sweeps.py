"""What the experiments share: their command line, sweeps by config.py, selections of reviews."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from noisy_feedback.cli import OneLineParser
from noisy_feedback.config import ADAPTIVE
from noisy_feedback.data.columns import read_table, select_columns
from noisy_feedback.data.reviews import Reviews, read_reviews
from noisy_feedback.errors import InputError, run_with_error_messages
from noisy_feedback.files import atomic_write

ROOT = Path(__file__).parents[1]
LEVEL = 0.05
LOW_NOISE = 0.4  # gains are counted up to here
METRICS = {  # that the tables show
    "macro_f1": "macro F1",
    "quadratic_weighted_kappa": "kappa",
    "pairwise_accuracy": "pairwise accuracy",
}


def make_parser(docstring: str | None) -> OneLineParser:
    """A parser that explains itself with the first line of the script's docstring."""
    return OneLineParser(description=(docstring or "").splitlines()[0])


def integer_from(least: int) -> Callable[[str], int]:
    """The type of an argument: integers of at least `least`."""

    def integer(text: str) -> int:
        if int(text) < least:
            raise ArgumentTypeError(f"{text} is not an integer of at least {least}")
        return int(text)

    return integer


def run_script(parser: OneLineParser, work: Callable[[Namespace], None]) -> int:
    """Parse the arguments and do the work; the exit status."""
    return run_with_error_messages(parser.prog, lambda: work(parser.parse_args()))


def read(file: Path) -> Reviews:
    """The reviews of a file with the study's columns. Errors: InputError."""
    return read_reviews(file, "Review", "Rating")


def data_name(file: Path) -> str:
    """The name of a data set: that of its file, or of the folder that `remedies.py` writes the halves of a file to."""
    return file.parent.name if file.stem in ("choice", "judgement") else file.stem


def group_column(file: Path) -> str | None:
    """Topics are not split: the arguments' column Topic, where a file has one. Errors: InputError."""
    table = read_table(file, "review")
    select_columns(file, table, ["Review", "Rating"])
    return "Topic" if "Topic" in table else None


def check_files(files: Sequence[Path]) -> None:
    """Read every file before anything expensive runs. Errors: InputError, also where two data sets have one name."""
    for file in files:
        read(file)
    names = [data_name(file) for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{', '.join(sorted(twice))}: given twice; results are kept by the name of the data set")


def write_selection(reviews: Reviews, rows: np.ndarray, file: Path) -> None:
    """Write some rows (m,) of the reviews, in this order, as a .csv file with the study's columns."""
    texts, stars = [reviews.texts[row] for row in rows], reviews.scale[reviews.ratings[rows]]
    with atomic_write(file) as temporary:
        pd.DataFrame({"Review": texts, "Rating": stars}).to_csv(temporary, index=False, lineterminator="\n")


def run_sweep(data: Path, output: Path, *options: str, protocol: str = "multiclass") -> Path:
    """Run what is missing of a sweep, without network; its results folder. An error has been printed when this exits.

    Runs of the same options are kept in `output`: a command that was interrupted continues where it stopped.
    """
    print(f"{data.name}: {protocol}/config.py {' '.join(options)}", file=sys.stderr)
    paths = ["--path", str(data.resolve()), "--output", str(output.resolve())]
    process = subprocess.run(
        [sys.executable, "config.py", *paths, *options],
        cwd=ROOT / protocol,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.returncode:
        raise SystemExit(process.returncode)
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("results "))
    return Path(line.split(maxsplit=1)[1])


def seed_options(count: int, first: int = 1) -> tuple[str, ...]:
    """`--seeds` with consecutive seeds."""
    return ("--seeds", *(str(seed) for seed in range(first, first + count)))


def weight_text(weight: float | str) -> str:
    """A KL weight of a table as it is typed; a column that also holds `adaptive` is one of texts."""
    return weight if weight == ADAPTIVE else f"{float(weight):g}"


def last_epoch(folder: Path, metric: str) -> pd.DataFrame:
    """The rows of a sweep's summary.csv about one test metric after the last epoch, in the order of the ratios."""
    summary = pd.read_csv(folder / "summary.csv")
    return summary[(summary["stage"] == "last") & (summary["metric"] == metric)].sort_values("ratio")


def harmed(cells: pd.DataFrame) -> pd.Series:
    """Which cells of one candidate are harmful: negative, and significant although there are so many of them."""
    return (cells["vs_before"] < 0) & (cells["vs_before_p"] < LEVEL / len(cells))


def change(row: pd.Series, name: str) -> str:
    """A paired difference of a row of summary.csv, `vs_before` or `vs_noise0`, with its 95 % interval, if defined."""
    if pd.isna(row[name]):
        return ""
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    return f"{row[name]:+.3f}" + ("" if pd.isna(low) else f" [{low:+.3f}, {high:+.3f}]")


def change_and_p(row: pd.Series, name: str) -> str:
    """The same with the p-value of the paired t-test."""
    p = row[f"{name}_p"]
    return change(row, name) + ("" if pd.isna(p) else " p<0.001" if p < 0.001 else f" p={p:.3f}")


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
