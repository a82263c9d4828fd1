"""What a person sees on the screen: lines, tables, bars."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from noisy_feedback.embeddings import Embeddings
from noisy_feedback.metrics import METRICS, Metrics
from noisy_feedback.plots import named
from noisy_feedback.results import Outcome
from noisy_feedback.reviews import Parts, Reviews
from noisy_feedback.settings import Settings

SORTED_FILE = 0.25  # contiguous parts whose ratings differ more than this do not come from a mixed file


def parts(reviews: Reviews, cut: Parts, shuffled: bool) -> str:
    """The data set, the sizes of the four parts, and a warning where they look like parts of a sorted file."""
    counts = np.bincount(reviews.ratings)
    shares = ", ".join(f"{label}: {count:,}" for label, count in zip(reviews.labels, counts, strict=True))
    lines = [
        f"reviews    {len(reviews.texts):,} from {reviews.name} ({shares})",
        f"parts      {len(cut.train):,} training, {len(cut.validation):,} validation, "
        f"{len(cut.fine_tuning):,} fine-tuning, {len(cut.test):,} test",
    ]
    train_shares, test_shares = (
        np.bincount(reviews.ratings[rows], minlength=len(counts)) / len(rows) for rows in (cut.train, cut.test)
    )
    apart = np.abs(train_shares - test_shares).sum() / 2  # total variation distance
    shares_of_all = counts / counts.sum()
    variance = shares_of_all * (1 - shares_of_all) * (1 / len(cut.train) + 1 / len(cut.test))
    by_chance = np.sqrt(variance * 2 / np.pi).sum() / 2  # the expected distance of random parts
    if not shuffled and apart > max(SORTED_FILE, 2 * by_chance):
        lines.append(
            f"warning    the ratings of the training and the test part differ by {apart:.0%}: the file seems "
            "sorted; --shuffle mixes it"
        )
    return "\n".join(lines)


def embeddings(found: Embeddings, how: str) -> str:
    line = f"embeddings {found.vectors.shape[1]} dimensions from {found.origin['model']}, {how}"
    if found.truncated:
        line += f"\n           {found.truncated:,} reviews were cut at the model's limit of {found.limit} word pieces"
    return line


def feedback(settings: Settings, changed: int, of: int, lists: tuple[int, ...]) -> str:
    """How much the noise changed, how many comparisons (L, k+1) were built and from how many reviews."""
    if settings.gap is None:
        kind = f"lists of {settings.k + 1} different ratings"
    else:
        kind = f"pairs {settings.gap} stars apart"
    kind_of_noise = "" if settings.noise == "uniform" else f", {settings.noise}"
    what = "lists turned around" if settings.noise == "pairs" else "fine-tuning ratings changed"
    return (
        f"noise      {changed:,} of {of:,} {what} (ratio {settings.ratio:g}{kind_of_noise})\n"
        f"comparing  {lists[0]:,} {kind}, from {math.prod(lists):,} reviews"
    )


def outcome(found: Outcome, labels: Sequence[int]) -> str:
    """Best epochs, test metrics before and after fine-tuning, confusion matrices."""
    best = f"best epoch {found.best_epochs['training']} of {len(found.training)} in training"
    stages = {"before": found.before}
    if found.best and found.last:
        best += f", {found.best_epochs['fine_tuning']} of {len(found.fine_tuning)} in fine-tuning"
        stages |= {"best epoch": found.best, "last epoch": found.last}
    tables = [best, f"test part\n{metrics_table(stages)}"]
    for stage in ("before", "best epoch"):
        if stage in stages:
            tables.append(f"confusion matrix, {stage}\n{confusion_table(stages[stage].confusion_matrix, labels)}")
    return "\n\n".join(tables) + "\n"


def metrics_table(stages: dict[str, Metrics]) -> str:
    """One column per stage of the run, one line per metric."""
    lines = [f"{'':28}" + "".join(f"{stage:>14}" for stage in stages)]
    for field, name in METRICS.items():
        lines.append(f"{name:28}" + "".join(f"{number(getattr(found, field)):>14}" for found in stages.values()))
    return "\n".join(lines)


def confusion_table(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """True ratings down, predicted ones across."""
    width = max(len(str(cell)) for cell in (*labels, *np.ravel(matrix))) + 2
    lines = ["true \\ predicted" + "".join(f"{label:>{width}}" for label in labels)]
    for label, row in zip(labels, matrix, strict=True):
        lines.append(f"{label:>16}" + "".join(f"{cell:>{width}}" for cell in row))
    return "\n".join(lines)


def summary_table(summary: pd.DataFrame) -> str:
    """Per combination and ratio the mean over seeds and its 95 % interval, of the metrics that matter most."""
    summary = summary.assign(combination=named(summary))
    lines = []
    for metric in ("macro_f1", "quadratic_weighted_kappa"):
        rows = summary[summary["metric"] == metric]
        before = rows[rows["stage"] == "before"].iloc[0]
        lines += [
            f"test {METRICS[metric]} ({before['seeds']} seeds; before fine-tuning {number(before['mean'])})",
            f"{'noise ratio':>24}{'best epoch':>24}{'last epoch':>24}{'last epoch, against noise 0':>38}",
        ]
        for name in dict.fromkeys(rows["combination"]):
            for ratio in sorted(set(rows["ratio"])):
                chosen = rows[(rows["combination"] == name) & (rows["ratio"] == ratio)].set_index("stage")
                if "last" not in chosen.index:
                    continue
                best, last = chosen.loc["best"], chosen.loc["last"]
                line = f"{f'{name} {ratio:g}':>24}{interval(best):>24}{interval(last):>24}"
                if not math.isnan(last["difference"]):
                    compared = interval(last, "difference", "difference_")
                    line += f"{compared:>27}  p {probability(last['difference_p'])}"
                lines.append(line)
        lines.append("")
    return "\n".join(lines)


def interval(row: pd.Series, middle: str = "mean", prefix: str = "") -> str:
    return f"{number(row[middle])} [{number(row[prefix + 'low'])}, {number(row[prefix + 'high'])}]"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def probability(value: float) -> str:
    return "= -" if math.isnan(value) else "< 0.001" if value < 0.001 else f"= {value:.3f}"


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their reviews."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" reviews", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


class PhaseBars:
    """One bar per phase of a run, over its epochs, shown while it lasts."""

    def __init__(self, **epochs: int) -> None:
        self.epochs = epochs
        self.bars: dict[str, tqdm] = {}

    def __enter__(self) -> "PhaseBars":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()

    def advance(self, phase: str, runs: int) -> None:
        """`runs` runs have finished one more epoch of `phase`."""
        if phase not in self.bars:
            for finished in self.bars.values():
                finished.close()
            self.bars[phase] = tqdm(total=self.epochs[phase], desc=phase.replace("_", "-"), unit=" epochs", leave=False)
        self.bars[phase].update(runs)
