"""Which comparisons are wrong? The audit, and what a user would take instead, on preference data without ratings.

    pip install cleanlab==2.9.0 crowd-kit==1.4.2
    python experiments/suspects.py --comparisons data/argument_comparisons.parquet --group-column Topic

The truth is held back: a judgement counts as wrong if it is against the majority of three other judgements of its pair,
which no method sees. The methods see one judgement of each pair, or two where there are as many.

Compared are the audit; sorting by the margin of a reward model that was trained on the other folds (the model is TRL's
loss on these embeddings); cleanlab's confident learning (Northcutt et al. 2021) with a logistic regression on the
difference of the two embeddings; and a Bradley-Terry model of the texts (crowd-kit), without embeddings. Printed
are the area under the ROC curve and the precision among as many judgements as are wrong, and the flip rate that
repeated judgements imply beside the audit's, of all pairs and of a random half of them.
"""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import integer_from, make_parser, print_table, run_script

from noisy_feedback.config import PROTOCOLS, Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.splits import kept_together
from noisy_feedback.data.summary import disagreement_of, implied_flip_rate
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import train_model
from noisy_feedback.feedback.audit import Audit, audit_scores
from noisy_feedback.learning.cross_fitting import FOLDS, audit_out_of_sample, cross_fitted_margins
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.prepare import prepare

HELD_BACK = 3  # judgements of a pair whose majority is taken for the truth


def hold_back(judgements: Judgements, seen: int, rng: np.random.Generator) -> tuple[Judgements, np.ndarray]:
    """The first `seen` judgements of each pair, in random order, and which of them (J,) the next three say is wrong."""
    chosen, pairs = judgements.chosen, judgements.pairs
    order = rng.permutation(len(chosen))
    place = np.empty(len(chosen), dtype=int)
    place[order] = pd.Series(pairs[order]).groupby(pairs[order]).cumcount()
    enough = (np.bincount(pairs) >= seen + HELD_BACK)[pairs]
    visible = enough & (place < seen)
    held = enough & (place >= seen) & (place < seen + HELD_BACK)
    smaller = np.minimum(chosen, judgements.rejected)
    votes = np.bincount(pairs[held], np.where(chosen[held] == smaller[held], 1, -1), pairs.max() + 1)
    wrong = (chosen == smaller) != (votes[pairs] > 0)
    return judgements.without(~visible), wrong[visible]


def audit(config: Config, dataset: Dataset, epochs: int) -> tuple[Audit, np.ndarray]:
    """The audit of the judgements of a data set, and the margins (J,) of models that saw other folds."""
    return audit_out_of_sample(config, dataset, epochs)[1], cross_fitted_margins(config, dataset, epochs)


def confident_learning(config: Config, judgements: Judgements, vectors: np.ndarray) -> np.ndarray:
    """How doubtful each judgement is (J,), 1 minus cleanlab's self-confidence; groups stay in one fold."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    first = np.minimum(judgements.chosen, judgements.rejected)
    second = np.maximum(judgements.chosen, judgements.rejected)
    labels = (judgements.chosen == first).astype(int)
    model, folds = LogisticRegression(max_iter=1000), GroupKFold(FOLDS, shuffle=True, random_state=0)
    features, groups = vectors[first] - vectors[second], kept_together(config, judgements)
    predicted = cross_val_predict(model, features, labels, groups=groups, cv=folds, method="predict_proba")
    return 1 - get_label_quality_scores(labels, predicted)


def bradley_terry(judgements: Judgements) -> np.ndarray:
    """The margin of the rejected text over the chosen one (J,) in a Bradley-Terry model of texts, by crowd-kit."""
    from crowdkit.aggregation import BradleyTerry

    chosen, rejected = judgements.chosen, judgements.rejected
    table = pd.DataFrame({"worker": 0, "left": chosen, "right": rejected, "label": chosen})
    scores = BradleyTerry(n_iter=100).fit(table).scores_.reindex(range(max(chosen.max(), rejected.max()) + 1))
    return (scores.to_numpy()[rejected] - scores.to_numpy()[chosen]).astype(float)


def compare(config: Config, dataset: Dataset, epochs: int, seen: int) -> dict[str, tuple[float, float]]:
    """The scores of each method where it sees so many judgements of each pair."""
    assert dataset.judgements is not None
    judgements, wrong = hold_back(dataset.judgements, seen, np.random.default_rng(config.seed))
    found, margins = audit(config, replace(dataset, judgements=judgements), epochs)
    doubts = {
        "the audit": found.p_wrong,
        "margin of a reward model": -margins,
        "cleanlab": confident_learning(config, judgements, dataset.embeddings.cpu().numpy()),
        "Bradley-Terry of the texts (crowd-kit)": bradley_terry(judgements),
    }
    return {name: audit_scores(doubt, wrong.astype(float)) for name, doubt in doubts.items()}


def flip_rates(config: Config, dataset: Dataset, epochs: int) -> None:
    """Print the audit's flip rate of all pairs and of a random half beside the one that repeated judgements imply."""
    judgements = dataset.judgements
    assert judgements is not None
    pairs = judgements.pairs.max() + 1
    half = np.random.default_rng(config.seed).permutation(pairs) < pairs // 2
    rows = []
    for name, some in {"all": judgements, "half": judgements.without(~half[judgements.pairs])}.items():
        found, _ = audit(config, replace(dataset, judgements=some), epochs)
        disagreement = disagreement_of(some.chosen, some.pairs)
        implied = "" if disagreement is None else f"{implied_flip_rate(disagreement):.3f}"
        interval = f"{found.flip_rate_low:.3f} to {found.flip_rate_high:.3f}"
        rows.append([name, f"{len(some.chosen):,}", implied, f"{found.estimated_flip_rate:.3f}", interval])
    print_table(["pairs", "judgements", "implied by repeated ones", "audit", "its 95 % interval"], rows)


def work(given: Namespace) -> None:
    try:
        import cleanlab  # noqa: F401 (only to see that it is there)
        import crowdkit  # noqa: F401
    except ImportError:
        raise InputError("this experiment needs pip install cleanlab==2.9.0 crowd-kit==1.4.2") from None
    options = {name: value for name in ("comparisons", "texts", "embeddings", "chosen_column", "rejected_column")
               if (value := getattr(given, name)) is not None}  # fmt: skip
    options |= (
        {"split": "groups", "group_column": given.group_column} if given.group_column else {"split": "comparisons"}
    )
    values = {**PROTOCOLS["human"]["main.py"], **options, "path": None, "head": "scalar", "shuffle": True}
    config = Config("human", **values)
    dataset = prepare([config])
    results: dict[tuple[int, str], list[tuple[float, float]]] = {}
    with single_threaded():
        epochs = train_model(config, dataset).fit.best_epoch
        for seed in range(1, given.seeds + 1):
            for seen in (1, 2):
                for name, scores in compare(replace(config, seed=seed), dataset, epochs, seen).items():
                    results.setdefault((seen, name), []).append(scores)
        print()
        flip_rates(config, dataset, epochs)
    rows = []
    for name in dict.fromkeys(name for _, name in results):
        cells = [np.array(results[seen, name]) for seen in (1, 2)]
        rows.append(
            [
                name,
                *(
                    f"{mean:.3f} ({sd:.3f})"
                    for of in cells
                    for mean, sd in zip(of.mean(0), of.std(0, ddof=1), strict=True)
                ),
            ]
        )
    print(f"\nmean (standard deviation) of {given.seeds} seeds")
    columns = [f"{score}, {seen} seen" for seen in ("one", "two") for score in ("AUROC", "precision")]
    print_table(["method", *columns], rows)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="several judgements of a pair")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="the texts whose ids are compared")
    parser.add_argument("--chosen-column", metavar="NAME", help="column of preferred texts")
    parser.add_argument("--rejected-column", metavar="NAME", help="column of the other texts")
    parser.add_argument("--group-column", metavar="NAME", help="column of groups that stay in one fold")
    parser.add_argument("--embeddings", type=Path, metavar="FOLDER", help="of stored embeddings")
    parser.add_argument("--seeds", type=integer_from(2), default=5, metavar="N", help="how many seeds, from 1 on")
    sys.exit(run_script(parser, work))
