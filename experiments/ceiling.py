"""How much can feedback add to a frozen encoder at all? Train on the fine-tuning part's true ratings too, and see.

    python experiments/ceiling.py --data sst5.csv

Prints the paired change of test macro F1 and kappa against training on the training part alone, over seeds.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import METRICS, change_and_p, make_parser, run_script

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


def work(given: Namespace) -> None:
    defaults = PROTOCOLS["multiclass"]["config.py"]
    config = Config(protocol="multiclass", path=given.data, shuffle=True, **defaults)
    runs = [replace(config, seed=seed) for seed in range(1, given.seeds + 1)]
    dataset = prepare(runs)
    before, after = [], []
    with single_threaded():
        for run in runs:
            trained = train_model(run, dataset)
            before.append(trained.before)
            after.append(train_on_both(run, dataset, trained))
    for metric, name in METRICS.items():
        values, reference = (np.array([getattr(found, metric) for found in stage]) for stage in (after, before))
        row = pd.Series(paired_t_test("change", values, reference))
        print(f"{name}: {reference.mean():.3f} -> {values.mean():.3f}, change {change_and_p(row, 'change')}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="a file of reviews")
    parser.add_argument("--seeds", type=int_at_least(2), default=20, metavar="N", help="how many seeds, from 1 on")
    sys.exit(run_script(parser, work))
