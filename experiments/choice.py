"""The choice of the recommended loss and KL weight: every candidate on one half of each data set; see remedies.py.

The candidates of one training are fine-tuned in this process, each with a KL weight computed from its own audit, so
that forms of the adaptive weight can be compared which the program does not offer.
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from sweeps import LOW_NOISE, METRICS, print_table, read
from tqdm import tqdm

from noisy_feedback.config import ESTIMATED, RATIOS, Config, default_values
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.experiment import Trained, fine_tune_model, train_model
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.files import atomic_write
from noisy_feedback.learning.objective import adaptive_kl_weight
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.prepare import prepare

LOSSES = ("symmetric-sigmoid", "holder-dpo", "robust")
SEEDS = tuple(range(101, 109))
FIRST_STUDIES, FIRST_SEEDS, GO_ON = ("k = 3", "binary"), SEEDS[:3], 8  # of the first round
LARGE, SEEDS_OF_LARGE = 2000, 4  # rows of a file that takes long, and its seeds
LEVEL = 0.05
# Of a candidate's cells, how many may be negative with p < LEVEL: half of LEVEL is what chance gives.
FIRST_LIMIT, LIMIT = 0.05, 0.025


@dataclass(frozen=True)
class Weight:
    """A fixed KL weight, or with `power` the adaptive one, base / (1 - 2 e)^power, of the estimate or its limit."""

    base: float
    power: float | None = None
    upper: bool = False

    def of(self, audit: Audit) -> float:
        if self.power is None:
            return self.base
        rate = audit.flip_rate_high if self.upper or not audit.known else audit.estimated_flip_rate
        return adaptive_kl_weight(rate, self.base, self.power)

    def __str__(self) -> str:
        if self.power is None:
            return f"{self.base:g}"
        return f"{self.base:g} / (1 - 2 {'upper limit' if self.upper else 'e'})^{self.power:g}"


WEIGHTS = (
    *map(Weight, (0.1, 0.3, 1.0)),
    *(Weight(*form) for form in product((0.05, 0.1, 0.2), (1.0, 1.5, 2.0), (False, True))),
)


Candidate = tuple[str, Weight, int]  # loss, KL weight, lists per review


@dataclass(frozen=True)
class Task:
    """One training, and all candidates that are fine-tuned from it; results are kept in `file`."""

    data: str
    study: str
    config: Config
    candidates: Sequence[Candidate]
    file: Path


def choose(
    files: Mapping[str, Path], studies: Mapping[str, tuple[str, Mapping[str, int]]], output: Path, workers: int
) -> Candidate:
    """Apply the rule of remedies.py; prints every candidate.

    `files` are first halves by the name of the data set; `studies` are a protocol and its options by name.
    """
    candidates = list(product(LOSSES, WEIGHTS, (1,)))
    first = {name: studies[name] for name in FIRST_STUDIES}
    found = run_all(candidates, files, first, FIRST_SEEDS, output / "choice_first_round", workers)
    best = [(loss, weight) for loss, weight, _ in ranking(found, candidates, FIRST_LIMIT)[:GO_ON]]
    candidates = [(loss, weight, lists) for (loss, weight), lists in product(best, (1, 3))]
    found = run_all(candidates, files, studies, SEEDS, output / "choice", workers)
    chosen = ranking(found, candidates, LIMIT)[0]
    print(f"chosen: {', '.join(map(str, chosen))}\n")
    return chosen


def run_all(
    candidates: Sequence[Candidate],
    files: Mapping[str, Path],
    studies: Mapping[str, tuple[str, Mapping[str, int]]],
    seeds: Sequence[int],
    output: Path,
    workers: int,
) -> pd.DataFrame:
    """The change of every metric by every candidate in every run; what an earlier command has computed is kept."""
    tasks = []
    for (data, file), (study, (protocol, options)) in product(files.items(), studies.items()):
        of_data = seeds[:SEEDS_OF_LARGE] if len(read(file).texts) > LARGE else seeds
        values = default_values(protocol, "config.py") | dict(options) | {"path": file, "shuffle": True, "ratio": 0.0}
        for seed in of_data:
            name = f"{data}_{study.replace(' ', '')}_{seed}.csv"
            tasks.append(Task(data, study, Config(**(values | {"seed": seed})), candidates, output / name))
    missing = [task for task in tasks if not task.file.exists()]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for _ in tqdm(pool.map(try_candidates, missing), total=len(missing), desc="choice", unit=" trainings"):
            pass
    return pd.concat(pd.read_csv(task.file) for task in tasks)


def try_candidates(task: Task) -> None:
    """Write the change of each metric by each candidate at each noise ratio, on the test part, to the task's file."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        dataset = prepare([task.config])
    rows = []
    with single_threaded():
        trained = train_model(task.config, dataset)
        for ratio, lists in product(RATIOS, sorted({lists for _, _, lists in task.candidates})):
            config = replace(task.config, ratio=ratio, lists_per_review=lists)
            audit = fine_tune_model(replace(config, epochs_f=1, kl_weight=1.0), dataset, trained).audit
            assert audit is not None
            changes: dict[tuple[str, float], dict[str, float]] = {}
            for loss, weight, of_lists in task.candidates:
                if of_lists != lists:
                    continue
                value = weight.of(audit)
                if (loss, value) not in changes:
                    run = replace(config, loss=loss, flip_rate=ESTIMATED if loss == "robust" else None)
                    changes[loss, value] = change_by(run, value, dataset, trained)
                found = {"ratio": ratio, "loss": loss, "weight": str(weight), "lists": lists, "kl_weight": value}
                rows.append(
                    {"data": task.data, "study": task.study, "seed": config.seed} | found | changes[loss, value]
                )
    with atomic_write(task.file) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def change_by(config: Config, kl_weight: float, dataset: Dataset, trained: Trained) -> dict[str, float]:
    """The change of each metric by one fine-tuning; 0 with an infinite weight or a flip rate that is not known."""
    try:
        result = fine_tune_model(replace(config, kl_weight=kl_weight), dataset, trained).result
    except (InputError, ValueError):
        return dict.fromkeys(METRICS, 0.0)
    return {metric: getattr(result.last, metric) - getattr(result.before, metric) for metric in METRICS}


def ranking(runs: pd.DataFrame, candidates: Sequence[Candidate], limit: float) -> list[Candidate]:
    """The candidates that do no harm, the highest mean gain first; prints all of them."""
    rows = []
    for loss, weight, lists in candidates:
        own = runs[(runs["loss"] == loss) & (runs["weight"] == str(weight)) & (runs["lists"] == lists)]
        cells = pd.DataFrame(cells_of(own))
        low = cells[cells["ratio"] <= LOW_NOISE]
        gains = [low[low["metric"] == metric]["change"].mean() for metric in METRICS]
        negative = cells[cells["change"] < 0]
        worse, certain = (negative["change_p"] < LEVEL).sum(), (negative["change_p"] < LEVEL / len(cells)).sum()
        harms = bool(certain or worse > limit * len(cells))
        rows.append(
            [loss, weight, lists, low["change"].mean(), *gains, cells["change"].min(), worse, len(cells), harms]
        )
    names = [
        "loss",
        "KL weight",
        "lists per review",
        "mean gain",
        *METRICS.values(),
        "lowest",
        "worse",
        "cells",
        "harms",
    ]
    rows.sort(key=lambda row: -row[3])
    print(f"mean change by fine-tuning, noise 0 to 0.4, test parts of the first halves, {runs['seed'].nunique()} seeds")
    print_table(names, [[f"{v:+.4f}" if isinstance(v, float) else str(v) for v in row] for row in rows])
    return [(loss, weight, lists) for loss, weight, lists, *_, harms in rows if not harms]


def cells_of(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The paired test of each metric in each cell: data, study and noise ratio."""
    for (data, study, ratio), own in runs.groupby(["data", "study", "ratio"]):
        for metric in METRICS:
            test = paired_t_test("change", own[metric].to_numpy(), 0 * own[metric].to_numpy())
            yield {"data": data, "study": study, "ratio": ratio, "metric": metric} | test
