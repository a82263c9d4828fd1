"""How much could feedback add to a frozen encoder, and how much of that does it add? What does it take to win half?

    python experiments/ceiling.py --data sst5.csv tripadvisor_hotel_reviews.csv arguments.csv --output ceiling

The ceiling is a rating model that is trained on the TRUE ratings of the training and the fine-tuning part together:
they say more than any comparison of them. Printed are, for every data set, the paired change of the test metrics
against the model that fine-tuning starts from: of the ceiling, and of pairs (k = 1) under several settings, after the
last epoch. The share of the ceiling is given where the ceiling's own interval lies above 0.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import METRICS, change, last_epoch, make_parser, print_table, run_script, run_sweep, seed_options

from noisy_feedback.cli import int_at_least
from noisy_feedback.config import PROTOCOLS, Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.evaluation.metrics import Metrics
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.experiment import Trained, evaluate_on_test, single_reviews, train_model, validation_examples
from noisy_feedback.learning.losses import TRAINING_OBJECTIVES
from noisy_feedback.learning.model import init_model
from noisy_feedback.learning.training import TrainConfig, TrainingTask, fit, single_threaded
from noisy_feedback.prepare import prepare
from noisy_feedback.rng import rng_for

RATIOS = (0.0, 0.2, 0.4, 0.8)
MANY = ("--lists-per-review", "20")
SMALL = ("--batch-f", "64")
LONG = ("--epochs-f", "100")
SETTINGS: dict[str, tuple[str, ...]] = {
    "the defaults: 30 epochs, batches of 512": (),
    "batches of 64": SMALL,
    "100 epochs": LONG,
    "KL weight 0.3": ("--kl-weight", "0.3"),
    "learning rate 0.003": ("--lr-f", "0.003"),
    "20 lists per review": MANY,
    "20 lists per review, batches of 64": (*MANY, *SMALL),
    "20 lists per review, KL weight 0.3": (*MANY, "--kl-weight", "0.3"),
    "20 lists per review, batches of 64, KL weight 0.3": (*MANY, *SMALL, "--kl-weight", "0.3"),
}


def train_on_both(config: Config, dataset: Dataset, trained: Trained) -> Metrics:
    """Test metrics of a model trained as `train_model` does, but on the training and the fine-tuning part together."""
    splits = trained.splits
    widths = (dataset.embeddings.shape[1], *config.hidden, len(dataset.scale))
    task = TrainingTask(
        examples=single_reviews(dataset, np.concatenate([splits.train, splits.fine_tuning])),
        validation=validation_examples(config, dataset, splits),
        objective=TRAINING_OBJECTIVES[config.head],
        rng=rng_for(config.seed, "training batches"),
    )
    train_config = TrainConfig(config.lr_t, config.batch_t, config.epochs_t, dataset.scale, config.select)
    fitted = fit(init_model(widths, rng_for(config.seed, "initial weights")), dataset.embeddings, task, train_config)
    return evaluate_on_test(fitted.best, dataset, splits)


def ceiling(file: Path, group_column: str | None, seeds: range) -> pd.DataFrame:
    """Per metric the mean before, and the paired change from there to the ceiling."""
    defaults = PROTOCOLS["multiclass"]["config.py"]
    config = Config(protocol="multiclass", path=file, shuffle=True, group_column=group_column, **defaults)
    runs = [replace(config, seed=seed) for seed in seeds]
    dataset = prepare(runs)
    before, after = [], []
    with single_threaded():
        for run in runs:
            trained = train_model(run, dataset)
            before.append(trained.before)
            after.append(train_on_both(run, dataset, trained))
    rows = []
    for metric in METRICS:
        values, reference = (np.array([getattr(found, metric) for found in stage]) for stage in (after, before))
        rows.append({"metric": metric, "before": reference.mean()} | paired_t_test("vs_before", values, reference))
    return pd.DataFrame(rows).set_index("metric")


def cell(row: pd.Series, most: pd.Series) -> str:
    """A change with its interval, and its share of the ceiling's, where that is certainly above 0."""
    share = f", {row['vs_before'] / most['vs_before']:.0%}" if most["vs_before_ci_low"] > 0 else ""
    return change(row, "vs_before") + share


def report(file: Path, given: Namespace) -> None:
    """Print the table of one data set."""
    groups = "Topic" if "Topic" in pd.read_csv(file, nrows=0) else None
    most = ceiling(file, groups, range(given.first, given.first + given.seeds))
    of = {str(metric): row for metric, row in most.iterrows()}
    columns = ["setting", "metric", *(f"noise {ratio:g}" for ratio in RATIOS)]
    print(
        f"\n{file.stem}, --loss {given.loss} --kl-weight {given.kl_weight}; change of test metrics, {given.seeds} seeds"
    )
    rows = [["no fine-tuning", name, f"0 (from {of[metric]['before']:.3f})"] for metric, name in METRICS.items()]
    rows += [["trained on the true ratings", name, change(of[metric], "vs_before")] for metric, name in METRICS.items()]
    for setting, options in SETTINGS.items():
        kl_weight = () if "--kl-weight" in options else ("--kl-weight", given.kl_weight)
        folder = run_sweep(
            file,
            given.output / file.parent.name / file.stem,
            *("--shuffle", "--loss", given.loss, *kl_weight, *options, *seed_options(given.seeds, given.first)),
            *(("--group-column", groups) if groups else ()),
            *("--ratio", *map(str, RATIOS)),
        )
        weight = float(options[options.index("--kl-weight") + 1] if not kl_weight else given.kl_weight)
        for metric, name in METRICS.items():
            found = last_epoch(folder, metric)
            found = found[(found["loss"] == given.loss) & (found["kl_weight"] == weight)]
            rows.append([setting, name, *(cell(row, of[metric]) for _, row in found.iterrows())])
    print_table(columns, [row + [""] * (len(columns) - len(row)) for row in rows])


def work(given: Namespace) -> None:
    for file in given.data:
        report(file, given)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of reviews")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the sweeps")
    parser.add_argument("--loss", default="symmetric-sigmoid", metavar="NAME", help="preference loss")
    parser.add_argument("--kl-weight", default="1", metavar="WEIGHT", help="weight of the KL penalty")
    parser.add_argument("--seeds", type=int_at_least(2), default=20, metavar="N", help="how many seeds")
    parser.add_argument("--first", type=int_at_least(0), default=1, metavar="N", help="the first seed")
    sys.exit(run_script(parser, work))
