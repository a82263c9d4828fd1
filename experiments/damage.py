"""Why does noise reduce the damage by the study's loss in `binary`? What moves, with and without noise, on skewed data.

    python experiments/damage.py --data noise_and_comparisons/sst5_skewed.csv \\
        remedies/tripadvisor_hotel_reviews/judgement.csv

All variants of a seed start from the same training. Printed are, over seeds: the comparisons; the change of test kappa,
and its difference to the variant without noise with the p-value of a paired t-test; how far the expected ratings of the
test reviews move, without sign and with it, in stars; and the change of kappa if their mean is moved back.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from sweeps import check_files, data_name, integer_from, make_parser, print_table, run_script
from tqdm import tqdm

from noisy_feedback.config import Config, default_values
from noisy_feedback.evaluation.statistics import paired_t_test
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.learning.model import predict
from noisy_feedback.learning.training import select_rows, single_threaded
from noisy_feedback.metrics import confusion_matrix, expected_rating, quadratic_weighted_kappa
from noisy_feedback.prepare import prepare


def variants_of(config: Config) -> dict[str, Config]:
    """Noise in ratings; in comparisons alone, of about as many wrong ones; and smaller steps without noise."""
    return {
        "no noise": config,
        "ratings, noise 0.4": replace(config, ratio=0.4),
        "comparisons reversed, 0.2": replace(config, noise="reversed", ratio=0.2),
        "no noise, half the learning rate": replace(config, lr_f=config.lr_f / 2),
        "no noise, half the epochs": replace(config, epochs_f=config.epochs_f // 2),
        "no noise, KL weight 0.1": replace(config, kl_weight=0.1),
    }


def kappa_of(ratings: np.ndarray, true: np.ndarray, scale: np.ndarray) -> float:
    """Quadratic weighted kappa of ratings (n,), rounded to the nearest on the scale; `true` (n,) are classes."""
    nearest = np.abs(ratings[:, None] - scale).argmin(axis=1)
    return quadratic_weighted_kappa(confusion_matrix(true, nearest, len(scale)), scale)


def work(given: Namespace) -> None:
    check_files(given.data)
    for file in given.data:
        values = default_values("binary", "config.py") | {"path": file, "shuffle": True, "select": "macro_f1"}
        config = Config(**(values | {"seed": 1, "ratio": 0.0}))
        dataset = prepare([config])
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in variants_of(config)}
        with single_threaded():
            for seed in tqdm(range(1, given.seeds + 1), desc=data_name(file), unit=" seeds"):
                trained = train_model(replace(config, seed=seed), dataset)
                x, true = select_rows(dataset.embeddings, trained.splits.test), dataset.ratings[trained.splits.test]
                for name, variant in variants_of(replace(config, seed=seed)).items():
                    tuned = fine_tune_model(variant, dataset, trained)
                    before, last = (
                        expected_rating(predict(tuned.models[stage], x).cpu().numpy(), dataset.scale)
                        for stage in ("before", "last")
                    )
                    shift = float((last - before).mean())
                    kappas = [kappa_of(ratings, true, dataset.scale) for ratings in (before, last, last - shift)]
                    changes = kappas[1] - kappas[0], float(np.abs(last - before).mean()), shift, kappas[2] - kappas[0]
                    found[name].append((tuned.result.comparisons["count"], *changes))
        rows = []
        for name, of_seeds in found.items():
            values_of = np.array(of_seeds)
            test = paired_t_test("d", values_of[:, 1], np.array(found["no noise"])[:, 1])
            against = "" if name == "no noise" else f"{test['d']:+.3f} p={test['d_p']:.3f}"
            count, kappa, moved, shift, moved_back = values_of.mean(0)
            movement = f"{moved:.2f}", f"{shift:+.2f}", f"{moved_back:+.3f}"
            rows.append([name, f"{count:.0f}", f"{kappa:+.3f}", against, *movement])
        print(f"{data_name(file)}: mean of {given.seeds} seeds")
        columns = [
            "feedback",
            "pairs",
            "kappa",
            "minus no noise",
            "ratings move",
            "their mean",
            "kappa, mean moved back",
        ]
        print_table(columns, rows)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of skewed reviews")
    parser.add_argument("--seeds", type=integer_from(2), default=20, metavar="N", help="how many seeds, from 1 on")
    sys.exit(run_script(parser, work))
