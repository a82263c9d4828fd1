"""How much can feedback add to a frozen encoder at all? Train on the fine-tuning part's true ratings too, and see.

    python benchmarks/ceiling.py --data sst5.csv --seeds 20

Prints the paired change of test macro F1 and kappa against training on the training part alone, over seeds.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from sweep import SHARED

from noisy_feedback.cli import DEFAULT_ENCODER
from noisy_feedback.experiment import choose_parts, prepare, test_metrics, train_regressors
from noisy_feedback.summary import paired
from noisy_feedback.training import one_thread

STUDY = replace(SHARED, model_name=DEFAULT_ENCODER, pc=False, shuffle=True, k=1, epochs_f=0)  # the training alone


def main(data: Path, seeds: int) -> None:
    runs = [replace(STUDY, path=data, seed=seed) for seed in range(1, seeds + 1)]
    material = prepare(runs)
    half = {run.seed: choose_parts(run, len(material.ratings)) for run in runs}
    both = {
        seed: replace(parts, train=np.concatenate([parts.train, parts.fine_tuning])) for seed, parts in half.items()
    }
    found = []
    with one_thread() as cores:
        for parts in (half, both):
            fitted = train_regressors(runs, parts, material, cores, lambda runs: None)
            found.append(
                [
                    test_metrics(fitted.best[number : number + 1], material, parts[run.seed].test)
                    for number, run in enumerate(runs)
                ]
            )
    for metric in ("macro_f1", "quadratic_weighted_kappa"):
        before, after = (np.array([getattr(metrics, metric) for metrics in stage]) for stage in found)
        change = paired("change", after, before)
        print(
            f"{metric}: {before.mean():.3f} -> {after.mean():.3f}, change {change['change']:+.3f} "
            f"[{change['change_low']:+.3f}, {change['change_high']:+.3f}]"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a file of reviews")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from 1 on")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"--data {arguments.data}: no such file")
    main(arguments.data, arguments.seeds)
