"""Does knowing the texts help to find the right order of a pair, and reliable annotators, with five judgements or one?

    pip install crowd-kit==1.4.2
    python experiments/annotators.py --data data/arguments.csv --comparisons data/argument_comparisons.parquet

Compared on the fine-tuning part, whose topics the rating model has not seen: the audit with the texts (its prior is the
model's), the audit without (every prior 1/2), and three methods of crowd-kit, without the texts: MACE (Hovy et al.
2013), Dawid-Skene (1979), and a Bradley-Terry model of texts and annotators (Chen et al. 2013), which uses that a text
is in many pairs. The true orders are the corpus's, which MACE found from all five judgements: with five it repeats
itself, so that its result there is no measure of quality.

Printed too is how much annotators differ: kappa of the beta distribution of their reliabilities, as the audit without
texts estimates it, as follows from how often they agree with the majority of the other judgements of a pair, and with
the true orders.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sweeps import integer_from, make_parser, print_table, run_script

from noisy_feedback.config import PROTOCOLS, Config
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import Trained, train_model
from noisy_feedback.feedback import human
from noisy_feedback.feedback.audit import audit_comparisons, audit_feedback
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.prepare import prepare

MANY = 20  # judgements of an annotator whose reliability is compared with the true one


def audit_with_texts(trained: Trained, feedback: Feedback) -> np.ndarray:
    """P(right) of every judgement, by the audit."""
    pairs = trained.calibration_pairs
    return 1 - audit_feedback(feedback, trained.probabilities, trained.temperature, pairs).p_wrong


def audit_without_texts(trained: Trained, feedback: Feedback) -> np.ndarray:
    """The same, where the model says nothing."""
    better = feedback.lists[:, 0]
    return 1 - audit_comparisons(np.full(len(better), 0.5), better, feedback.pairs, feedback.annotators).p_wrong


def votes(trained: Trained, feedback: Feedback) -> np.ndarray:
    """The share of the judgements of the pair that agree."""
    assert feedback.pairs is not None
    _, pair = np.unique(feedback.pairs, return_inverse=True)
    first = label_of(feedback)
    share = np.bincount(pair, first) / np.bincount(pair)
    return np.where(first == 1, share[pair], 1 - share[pair])


def by_labels(name: str) -> Callable[[Trained, Feedback], np.ndarray]:
    """MACE or Dawid-Skene: the order of a pair is a label of two."""

    def p_right(trained: Trained, feedback: Feedback) -> np.ndarray:
        from crowdkit import aggregation

        label = label_of(feedback)
        table = pd.DataFrame({"task": feedback.pairs, "worker": feedback.annotators, "label": label})
        probabilities = getattr(aggregation, name)().fit(table).probas_
        of_one = probabilities[1].reindex(feedback.pairs).to_numpy()
        return np.where(label == 1, of_one, 1 - of_one)

    return p_right


def noisy_bradley_terry(trained: Trained, feedback: Feedback) -> np.ndarray:
    """Every text has a score, every annotator a skill and a bias."""
    from crowdkit.aggregation import NoisyBradleyTerry

    left, right = feedback.lists.T
    table = pd.DataFrame({"worker": feedback.annotators, "left": left, "right": right, "label": left})
    scores = NoisyBradleyTerry(n_iter=20).fit(table).scores_
    margins = scores.reindex(left).to_numpy() - scores.reindex(right).to_numpy()
    return np.where(margins == 0, 0.5, margins > 0)


METHODS: dict[str, Callable[[Trained, Feedback], np.ndarray]] = {
    "votes": votes,
    "Dawid-Skene": by_labels("DawidSkene"),
    "MACE": by_labels("MACE"),
    "Noisy Bradley-Terry": noisy_bradley_terry,
    "audit without texts": audit_without_texts,
    "audit": audit_with_texts,
}


def label_of(feedback: Feedback) -> np.ndarray:
    """1 where a judgement prefers the text of its pair that comes first in the file, else 0."""
    return (feedback.lists[:, 0] < feedback.lists[:, 1]).astype(int)


def scores(p_right: np.ndarray, feedback: Feedback) -> tuple[float, float]:
    """Share of pairs whose order is found (undecided: half); error of the reliability of annotators of MANY."""
    correct = 1 - feedback.flipped[:, 0]
    assert feedback.pairs is not None
    _, first = np.unique(feedback.pairs, return_index=True)
    decided = np.where(p_right == 0.5, 0.5, (p_right > 0.5) == (correct == 1))
    counts = np.bincount(feedback.annotators)  # type: ignore[arg-type]
    estimated, true = (np.bincount(feedback.annotators, values) for values in (p_right, correct))  # type: ignore[arg-type]
    many = counts >= MANY
    return float(decided[first].mean()), float(np.abs(estimated - true)[many].sum() / counts[many].sum())


def kappa_of(right: np.ndarray, annotators: np.ndarray, slope: float = 1.0) -> float:
    """Kappa of the reliabilities of annotators, from `right` (J,): whether each judgement agrees with a standard.

    The variance between annotators of P(agree), by products of an annotator's own judgements (Kleinman 1973); P(agree)
    grows with the reliability by `slope`. Judgements that are NaN do not count.
    """
    known = ~np.isnan(right)
    difference, of_known = right[known] - right[known].mean(), annotators[known]
    counts = np.bincount(of_known)
    products = np.bincount(of_known, difference) ** 2 - np.bincount(of_known, difference**2)
    variance = products.sum() / (counts * (counts - 1)).sum() / slope**2
    mean = (right[known].mean() - (1 - slope) / 2) / slope
    return float(mean * (1 - mean) / variance - 1)


def print_kappas(feedback: Feedback) -> None:
    """How much annotators differ, by three standards."""
    assert feedback.pairs is not None and feedback.annotators is not None
    _, pair = np.unique(feedback.pairs, return_inverse=True)
    first = 2 * label_of(feedback) - 1
    others = np.bincount(pair, first)[pair] - first
    agrees = np.where(others == 0, np.nan, others * first > 0)
    better = feedback.lists[:, 0]
    found = audit_comparisons(np.full(len(better), 0.5), better, feedback.pairs, feedback.annotators)
    assert found.annotators is not None
    # P(agree) = r q + (1 - r) (1 - q), where q is how often the majority of the others is right; its slope is 2 q - 1.
    slope = (2 * float(np.nanmean(agrees)) - 1) / (1 - 2 * found.estimated_flip_rate)
    print(f"kappa, audit without texts: {found.annotators.strength:.0f}")
    print(f"kappa, agreement with the majority of the others: {kappa_of(agrees, feedback.annotators, slope):.0f}")
    print(f"kappa, agreement with the true orders: {kappa_of(1 - feedback.flipped[:, 0], feedback.annotators):.0f}")


def work(given: Namespace) -> None:
    try:
        import crowdkit  # noqa: F401 (only to see that it is there)
    except ImportError:
        raise InputError("this experiment compares with crowd-kit: pip install crowd-kit==1.4.2") from None
    defaults = dict(PROTOCOLS["human"]["main.py"]) | {"path": given.data, "comparisons": given.comparisons}
    config = Config(protocol="human", group_column="Topic", shuffle=True, **defaults)
    dataset = prepare([config])
    assert dataset.judgements is not None
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(1, given.seeds + 1):
        with single_threaded():
            trained = train_model(replace(config, seed=seed), dataset)
        for labels in ("all", "one"):
            run = replace(config, seed=seed, labels=labels)
            feedback = human.feedback(run, dataset.judgements, trained.splits, dataset.ratings)
            for name, method in METHODS.items():
                found.setdefault((name, labels), []).append(scores(method(trained, feedback), feedback))
    print_kappas(human.feedback_of(dataset.judgements, np.arange(len(dataset.judgements.chosen))))
    rows = []
    for name in METHODS:
        cells = [np.array(found[name, labels]) for labels in ("all", "one")]
        rows.append(
            [name, *(f"{of.mean(0)[0]:.3f} ({of.std(0, ddof=1)[0]:.3f})" for of in cells), f"{cells[0].mean(0)[1]:.3f}"]
        )
    print(f"mean (standard deviation) of {given.seeds} seeds")
    print_table(
        [
            "method",
            "order found, all judgements",
            "one judgement a pair",
            f"error of reliability, {MANY} and more judgements",
        ],
        rows,
    )


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the arguments")
    parser.add_argument("--comparisons", type=Path, required=True, metavar="FILE", help="judgements of them")
    parser.add_argument("--seeds", type=integer_from(2), default=5, metavar="N", help="how many seeds, from 1 on")
    sys.exit(run_script(parser, work))
