"""How well does the audit estimate the flip rate and find wrong comparisons? Simulated noise, and judgements of people.

    python experiments/flip_rates.py --data data/sst5.csv
    python experiments/flip_rates.py --data data/arguments.csv --comparisons data/argument_comparisons.parquet

Printed are, over seeds, the true and the estimated flip rate with the largest error of a seed, and the area under the
ROC curve of p_wrong and of the plain margin. Nothing is fine-tuned: the audit comes before it.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import integer_from, make_parser, print_table, run_script
from tqdm import tqdm

from noisy_feedback.config import PROTOCOLS, RATIOS, Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.evaluation.results import audit_record
from noisy_feedback.experiment import Trained, reviews_to_compare, train_model
from noisy_feedback.feedback import comparisons, human, noise
from noisy_feedback.feedback.audit import audit_feedback, audit_scores
from noisy_feedback.feedback.comparisons import Feedback, adjacent_pairs
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.metrics import expected_class
from noisy_feedback.prepare import prepare


def cases_of(given: Namespace) -> dict[str, Config]:
    """What is audited: k = 1 and 3 with every noise ratio; or the judgements of people, all and one of each pair."""
    if given.comparisons is not None:
        defaults = dict(PROTOCOLS["human"]["main.py"]) | {"path": given.data, "comparisons": given.comparisons}
        config = Config(protocol="human", group_column="Topic", shuffle=True, **defaults)
        return {labels: replace(config, labels=labels) for labels in ("all", "one", "flipped", "gold")}
    config = Config(protocol="multiclass", path=given.data, shuffle=True, epochs_t=30, epochs_f=30)
    return {
        f"k = {k}, {noise}, {ratio:g}": replace(config, k=k, noise=noise, ratio=ratio)
        for k in (1, 3)
        for noise in ("uniform", "reversed", "adjacent", "least-confident")
        for ratio in RATIOS
    }


def collect_feedback(config: Config, dataset: Dataset, trained: Trained) -> Feedback:
    """The comparisons of one run: noisy ratings and what follows from them, or human comparisons."""
    if dataset.judgements is not None:
        return human.feedback(config, dataset.judgements, trained.splits, dataset.ratings)
    noisy = noise.make_noisy(config, reviews_to_compare(dataset, trained))
    return comparisons.compare(config, noisy, dataset.ratings, trained.splits.fine_tuning, dataset.scale)


def work(given: Namespace) -> None:
    cases = cases_of(given)
    dataset = prepare(list(cases.values())[:1])
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in cases}
    with single_threaded():
        for seed in tqdm(range(1, given.seeds + 1), desc="audit", unit=" seeds"):
            trained = {k: train_model(replace(next(iter(cases.values())), seed=seed, k=k), dataset) for k in (1, 3)}
            for name, case in cases.items():
                config = replace(case, seed=seed)
                own = trained[config.k]
                feedback = collect_feedback(config, dataset, own)
                audit = audit_feedback(feedback, own.probabilities, own.temperature, own.calibration_pairs)
                scores = audit_record(feedback, audit)
                better, worse = adjacent_pairs(feedback.lists).T
                rewards = expected_class(own.probabilities)
                of_margin, _ = audit_scores(rewards[worse] - rewards[better], feedback.flipped.ravel())
                known = ("true_flip_rate", "estimated_flip_rate", "auroc")
                found[name].append((*(scores[score] for score in known), of_margin))
    rows = []
    for name, of_seeds in found.items():
        table = pd.DataFrame(of_seeds, columns=["true", "estimated", "auroc", "margin"])
        error = (table["estimated"] - table["true"]).abs().max()
        numbers = (
            table["true"].mean(),
            table["estimated"].mean(),
            error,
            table["auroc"].mean(),
            table["margin"].mean(),
        )
        rows.append([name, *("" if np.isnan(number) else f"{number:.3f}" for number in numbers)])
    print_table(["feedback", "flip rate", "estimated", "largest error", "AUROC of p_wrong", "of the margin"], rows)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="a file of reviews")
    parser.add_argument("--comparisons", type=Path, metavar="FILE", help="judgements of them, with a column Topic")
    parser.add_argument("--seeds", type=integer_from(2), default=10, metavar="N", help="how many seeds, from 1 on")
    sys.exit(run_script(parser, work))
