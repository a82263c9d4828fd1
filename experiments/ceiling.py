"""How much could feedback add to a frozen encoder, and how much of that does it add? What does it take to win half?

    python experiments/ceiling.py --data sst5.csv tripadvisor_hotel_reviews.csv arguments.csv --output ceiling

The ceiling is a rating model that is trained on the TRUE ratings of the training and the fine-tuning part together:
they say more than any comparison of them. Printed are the paired changes of test metrics against the model that
fine-tuning starts from: of the ceiling, and of pairs (k = 1) under several settings, after the last epoch. The share of
the ceiling is given where the ceiling's own interval lies above 0.

remedies.py writes the two halves of a data set. On the first ones settings can be tried, and judged on the others:

    python experiments/ceiling.py --data remedies/*/choice.csv --first 101 --seeds 8 --output ceiling
    python experiments/ceiling.py --data remedies/*/judgement.csv arguments.csv --output ceiling
"""

import sys
from argparse import Namespace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import (
    LOW_NOISE,
    METRICS,
    change,
    check_files,
    data_name,
    group_column,
    harmed,
    integer_from,
    last_epoch,
    make_parser,
    print_table,
    run_script,
    run_sweep,
    seed_options,
    weight_text,
)

from noisy_feedback.config import ADAPTIVE, Config, default_values, grid
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.evaluation.results import evaluate_on_test
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.experiment import Trained, train_model
from noisy_feedback.files import check_writable
from noisy_feedback.learning.examples import single_reviews, validation_part
from noisy_feedback.learning.model import init_model
from noisy_feedback.learning.objective import TRAINING_OBJECTIVES
from noisy_feedback.learning.training import TrainingTask, fit, single_threaded
from noisy_feedback.metrics import Metrics, majority_baseline
from noisy_feedback.prepare import prepare
from noisy_feedback.rng import rng_for

RATIOS = (0.0, 0.2, 0.4, 0.8)
SETTINGS: dict[str, dict[str, str]] = {
    "recommended": {},
    "KL weight 0.1": {"--kl-weight": "0.1"},
    "KL weight 0.3": {"--kl-weight": "0.3"},
    "100 epochs": {"--epochs-f": "100"},
    "3 lists per review": {"--lists-per-review": "3"},
}


def train_on_both(config: Config, dataset: Dataset, trained: Trained) -> Metrics:
    """Test metrics of a model trained as `train_model` does, but on the training and the fine-tuning part together."""
    splits = trained.splits
    widths = (dataset.embeddings.shape[1], *config.hidden, len(dataset.scale))
    task = TrainingTask(
        examples=single_reviews(dataset, np.concatenate([splits.train, splits.fine_tuning])),
        validation=validation_part(config, dataset, splits),
        objective=TRAINING_OBJECTIVES[config.head],
        rng=rng_for(config.seed, "training batches"),
        learning_rate=config.lr_t,
        batch=config.batch_t,
        epochs=config.epochs_t,
        select=config.select,
    )
    fitted = fit(init_model(widths, rng_for(config.seed, "initial weights")), dataset.embeddings, task)
    return evaluate_on_test(fitted.best, dataset, splits)


def ceiling(file: Path, seeds: range) -> dict[str, pd.Series]:
    """Per metric the mean before, and the paired change from there to the ceiling."""
    more = {"path": file, "shuffle": True, "group_column": group_column(file), "seed": [*seeds], "ratio": 0.0}
    runs = grid(default_values("multiclass", "config.py") | more)
    dataset = prepare(runs)
    before, after, most_frequent = [], [], []
    with single_threaded():
        for run in runs:
            trained = train_model(run, dataset)
            before.append(trained.before)
            after.append(train_on_both(run, dataset, trained))
            train, test = (dataset.ratings[part] for part in (trained.splits.train, trained.splits.test))
            most_frequent.append(majority_baseline(train, test, dataset.scale))
    found = {}
    for metric in METRICS:
        values, reference, constant = (
            np.array([getattr(scores, metric) for scores in stage]) for stage in (after, before, most_frequent)
        )
        means = {"before": reference.mean(), "most_frequent": constant.mean() - reference.mean()}
        found[metric] = pd.Series(means | paired_t_test("vs_before", values, reference))
    return found


def settings(file: Path, given: Namespace) -> pd.DataFrame:
    """The last epoch's rows of the summaries of all settings on one data set, with the setting's name."""
    groups = group_column(file)
    found = []
    for setting in given.settings or SETTINGS:
        options = {"--loss": given.loss, "--kl-weight": given.kl_weight} | SETTINGS[setting]
        folder = run_sweep(
            file,
            given.output / file.parent.name / file.stem,
            *("--shuffle", *chain.from_iterable(options.items()), *seed_options(given.seeds, given.first)),
            *(("--group-column", groups) if groups else ()),
            *("--ratio", *map(str, RATIOS)),
        )
        cells = pd.concat([last_epoch(folder, metric) for metric in METRICS])
        own = (cells["loss"] == given.loss) & (cells["kl_weight"].map(weight_text) == options["--kl-weight"])
        found.append(cells[own].assign(setting=setting))
    return pd.concat(found)


def print_metric(metric: str, most: dict[str, dict[str, pd.Series]], found: dict[str, pd.DataFrame]) -> None:
    """One table of a metric: the baselines, the ceiling and every setting, on every data set."""
    ceilings = {data: rows[metric] for data, rows in most.items()}
    nothing = [""] * (len(RATIOS) - 1)
    rows = [
        [name, *chain.from_iterable([shown(row), *nothing] for row in ceilings.values())]
        for name, shown in {
            "most frequent rating": lambda row: f"{row['most_frequent']:+.3f}",
            "no fine-tuning": lambda row: f"0 (from {row['before']:.3f})",
            "trained on the true ratings": lambda row: change(row, "vs_before"),
        }.items()
    ]
    for setting in dict.fromkeys(next(iter(found.values()))["setting"]):
        values = []
        for data, cells in found.items():
            own = cells[(cells["setting"] == setting) & (cells["metric"] == metric)]
            values += [short(row, ceilings[data]) for _, row in own.iterrows()]
        rows.append([str(setting), *values])
    print(f"\n{METRICS[metric]}: change by fine-tuning; * = its 95 % interval leaves out 0; (share of the ceiling)")
    print_table(["setting", *(f"{data}, noise {ratio:g}" for data in found for ratio in RATIOS)], rows)


def short(row: pd.Series, most: pd.Series) -> str:
    """A change, a star where it is significant, and its share of the ceiling where that is certainly above 0."""
    star = "*" if row["vs_before_ci_low"] > 0 or row["vs_before_ci_high"] < 0 else ""
    share = f" ({row['vs_before'] / most['vs_before']:.0%})" if most["vs_before_ci_low"] > 0 else ""
    return f"{row['vs_before']:+.3f}{star}{share}"


def work(given: Namespace) -> None:
    check_files(given.data)
    check_writable(given.output)
    seeds = range(given.first, given.first + given.seeds)
    most = {data_name(file): ceiling(file, seeds) for file in given.data}
    found = {data_name(file): settings(file, given) for file in given.data}
    print(f"--loss {given.loss} --kl-weight {given.kl_weight}, k = 1, {given.seeds} seeds")
    for metric in METRICS:
        print_metric(metric, most, found)
    print("\nall data sets: mean change of kappa; in how many cells a setting is harmful")
    lowest = min(scores[metric]["most_frequent"] for scores in most.values() for metric in METRICS)
    constant = np.mean([scores["quadratic_weighted_kappa"]["most_frequent"] for scores in most.values()])
    rows = [["most frequent rating", *2 * [f"{constant:+.4f}"], f"{lowest:+.4f}", "all"]]
    rows += [["no fine-tuning", "0", "0", "0", "none"]]
    for setting, own in pd.concat(found.values()).groupby("setting", sort=False):
        kappa = own[own["metric"] == "quadratic_weighted_kappa"]
        means = [kappa[kappa["ratio"] <= highest]["vs_before"].mean() for highest in (0.0, LOW_NOISE)]
        numbers = [f"{value:+.4f}" for value in (*means, own["vs_before"].min())]
        rows.append([str(setting), *numbers, f"{harmed(own).sum()} of {len(own)}"])
    print_table(["setting", "noise 0", f"noise 0 to {LOW_NOISE}", "lowest", "harmed"], rows)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of reviews")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the sweeps")
    parser.add_argument("--loss", default="holder-dpo", metavar="NAME", help="preference loss")
    parser.add_argument("--kl-weight", default=ADAPTIVE, metavar="WEIGHT", help="weight of the KL penalty")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, metavar="NAME", help="only these settings")
    parser.add_argument("--seeds", type=integer_from(2), default=20, metavar="N", help="how many seeds")
    parser.add_argument("--first", type=integer_from(0), default=1, metavar="N", help="the first seed")
    sys.exit(run_script(parser, work))
