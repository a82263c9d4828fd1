"""What one run found: metrics before and after fine-tuning, epochs, noise, comparisons and their audit."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements, number_pairs
from noisy_feedback.data.reviews import Splits
from noisy_feedback.data.splits import TEST
from noisy_feedback.data.summary import disagreement_of, implied_flip_rate
from noisy_feedback.evaluation.statistics import interval_over_pairs
from noisy_feedback.feedback import human
from noisy_feedback.feedback.audit import Audit, audit_scores
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.model import RatingMLP, predict
from noisy_feedback.learning.training import EpochStats, FitResult, select_rows
from noisy_feedback.metrics import Metrics, evaluate, expected_class, majority_baseline, preference_accuracy


@dataclass(frozen=True)
class RunResult:
    """Everything that one run found. `best` and `last` are None, and their epoch 0, where nothing was fine-tuned."""

    config: Config
    noise: dict[str, Any]  # ratio, changed, total
    comparisons: dict[str, Any]  # count, k, reviews_used, ties, attainable_accuracy
    audit: dict[str, Any] | None  # estimated_flip_rate with its interval, known, true_flip_rate, auroc, precision
    best_epochs: dict[str, int]  # training, fine_tuning
    training: list[EpochStats]
    fine_tuning: list[EpochStats]
    majority: Metrics  # of always predicting the most frequent rating of the training part
    before: Metrics
    best: Metrics | None
    last: Metrics | None
    kl_weight_used: float | None = None  # None where nothing was fine-tuned


def make_result(
    config: Config,
    dataset: Dataset,
    splits: Splits,
    training: FitResult,
    before: Metrics,
    feedback: Feedback | None = None,
    audit: Audit | None = None,
    fine_tuning: FitResult | None = None,
    used: Config | None = None,
) -> RunResult:
    """The result of a run that was trained, and fine-tuned on audited feedback where these are given.

    `used` is `config` with the KL weight as a number.
    """
    noise = {"ratio": config.ratio, "changed": 0, "total": len(splits.fine_tuning)}
    comparisons = {"count": 0, "k": config.k, "reviews_used": 0, "ties": 0}
    if feedback is not None:
        noise |= {"changed": feedback.changed, "total": feedback.total}
        comparisons |= {"count": len(feedback.lists), "ties": feedback.ties}
        comparisons["reviews_used"] = len(np.unique(feedback.lists))
    majority, ratings = Metrics(), dataset.ratings
    if dataset.is_rated:
        majority = majority_baseline(ratings[splits.train], ratings[splits.test], dataset.scale)
    if before.preference_accuracy >= 0:  # there are comparisons: for a constant prediction all are ties
        majority = replace(majority, preference_accuracy=0.5)
    return RunResult(
        config=config,
        noise=noise,
        comparisons=comparisons | {"attainable_accuracy": attainable_accuracy(dataset.judgements, splits)},
        audit=audit_record(feedback, audit) if feedback and audit else None,
        best_epochs={"training": training.best_epoch, "fine_tuning": fine_tuning.best_epoch if fine_tuning else 0},
        training=training.epochs,
        fine_tuning=fine_tuning.epochs if fine_tuning else [],
        majority=majority,
        before=before,
        best=evaluate_on_test(fine_tuning.best, dataset, splits) if fine_tuning else None,
        last=evaluate_on_test(fine_tuning.last, dataset, splits) if fine_tuning else None,
        kl_weight_used=float(used.kl_weight) if used and used.epochs_f else None,
    )


def audit_record(feedback: Feedback, audit: Audit) -> dict[str, float | bool | None]:
    """The flip rate, estimated and true, and how well p_wrong finds what is wrong; None where there is no truth.

    A comparison of texts with the same true rating counts as half wrong, as it does in the estimate: for the model such
    texts are those whose order it is least sure of.
    """
    flipped = feedback.flipped.ravel()
    known = flipped[~np.isnan(flipped)]
    auroc, precision = audit_scores(audit.p_wrong, flipped)
    record = {
        "estimated_flip_rate": audit.estimated_flip_rate,
        "flip_rate_low": audit.flip_rate_low,
        "flip_rate_high": audit.flip_rate_high,
        "known": audit.known,
        "true_flip_rate": float(known.mean()) if len(known) else math.nan,
        "auroc": auroc,
        "precision": precision,
    }
    return {name: None if math.isnan(value) else value for name, value in record.items()}


def evaluate_on_test(model: RatingMLP, dataset: Dataset, splits: Splits) -> Metrics:
    """Metrics on the test part, against the true ratings, and on its comparisons, against the true orders."""
    found = Metrics()
    if dataset.is_rated:
        output = predict(model, select_rows(dataset.embeddings, splits.test)).cpu().numpy()
        found = evaluate(output, dataset.ratings[splits.test], dataset.scale)
    compared = human.comparisons_to_score(dataset.judgements, splits, TEST)
    if not len(compared):
        return found
    rewards = expected_class(predict(model, dataset.embeddings).cpu().numpy())
    margins = rewards[compared[:, 0]] - rewards[compared[:, 1]]
    interval = interval_over_pairs((margins > 0) + 0.5 * (margins == 0), number_pairs(*compared.T))
    return replace(found, preference_accuracy=preference_accuracy(margins), preference_interval=interval)


def attainable_accuracy(judgements: Judgements | None, splits: Splits) -> float | None:
    """The most that a model can expect of its preference accuracy on the test part: its judgements are noisy.

    None where true orders are scored against, or no pair has two judgements.
    """
    if judgements is None or splits.judgements is None:
        return None
    rows = np.flatnonzero(splits.judgements == TEST)
    if judgements.correct is not None and not np.isnan(judgements.correct[rows]).all():
        return None
    disagreement = disagreement_of(judgements.chosen[rows], judgements.pairs[rows])
    return None if disagreement is None else 1 - implied_flip_rate(disagreement)
