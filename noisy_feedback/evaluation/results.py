"""What one run found: metrics before and after fine-tuning, epochs, noise, comparisons and their audit."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements, number_pairs
from noisy_feedback.data.splits import TEST, Splits
from noisy_feedback.data.summary import disagreement_of, implied_flip_rate
from noisy_feedback.evaluation.statistics import interval_over_pairs
from noisy_feedback.feedback import human
from noisy_feedback.feedback.audit import Audit, audit_scores
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.model import RatingMLP, predict
from noisy_feedback.learning.training import EpochStats, FitResult, select_rows
from noisy_feedback.metrics import Metrics, evaluate, expected_class, majority_baseline, preference_accuracy


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Everything that one run found. What is not defined is NaN, and None where nothing was fine-tuned."""

    config: Config
    noise: dict[str, Any]  # ratio, changed, total
    comparisons: dict[str, Any]  # count, k, reviews_used, ties, attainable_accuracy
    audit: dict[str, Any] | None = None  # what audit_record says
    best_epochs: dict[str, int]  # training, fine_tuning; 0 where no epoch was run
    kl_weight_used: float | None = None
    training: list[EpochStats]
    majority: Metrics  # of always predicting the most frequent rating of the training part
    before: Metrics
    fine_tuning: list[EpochStats] = field(default_factory=list)
    best: Metrics | None = None
    last: Metrics | None = None


def result_of_training(
    config: Config, dataset: Dataset, splits: Splits, training: FitResult, before: Metrics
) -> RunResult:
    """The result of a run that is not fine-tuned."""
    majority, ratings = Metrics(), dataset.ratings
    if dataset.is_rated:
        majority = majority_baseline(ratings[splits.train], ratings[splits.test], dataset.scale)
    if before.preference_accuracy >= 0:  # there are comparisons: for a constant prediction all are ties
        majority = replace(majority, preference_accuracy=0.5)
    attainable = attainable_accuracy(dataset.judgements, splits)
    return RunResult(
        config=config,
        noise={"ratio": config.ratio, "changed": 0, "total": len(splits.fine_tuning)},
        comparisons={"count": 0, "k": config.k, "reviews_used": 0, "ties": 0, "attainable_accuracy": attainable},
        best_epochs={"training": training.best_epoch, "fine_tuning": 0},
        training=training.epochs,
        majority=majority,
        before=before,
    )


def result_of_fine_tuning(
    trained: RunResult, dataset: Dataset, splits: Splits, feedback: Feedback, audit: Audit, fit: FitResult, used: Config
) -> RunResult:
    """`trained` with what fine-tuning on the audited feedback found; `used` has the KL weight as a number."""
    reviews = len(np.unique(feedback.lists))
    return replace(
        trained,
        noise=trained.noise | {"changed": feedback.changed, "total": feedback.total},
        comparisons=trained.comparisons
        | {"count": len(feedback.lists), "reviews_used": reviews, "ties": feedback.ties},
        audit=audit_record(feedback, audit),
        best_epochs=trained.best_epochs | {"fine_tuning": fit.best_epoch},
        fine_tuning=fit.epochs,
        best=evaluate_on_test(fit.best, dataset, splits),
        last=evaluate_on_test(fit.last, dataset, splits),
        kl_weight_used=float(used.kl_weight) if used.epochs_f else None,
    )


def audit_record(feedback: Feedback, audit: Audit) -> dict[str, float | bool]:
    """The flip rate, estimated and true, and how well p_wrong finds what is wrong; NaN where there is no truth.

    A comparison of texts with the same true rating counts as half wrong, as it does in the estimate: for the model such
    texts are those whose order it is least sure of.
    """
    flipped = feedback.flipped.ravel()
    auroc, precision = audit_scores(audit.p_wrong, flipped)
    return {
        "estimated_flip_rate": audit.estimated_flip_rate,
        "flip_rate_low": audit.flip_rate_low,
        "flip_rate_high": audit.flip_rate_high,
        "known": audit.known,
        "true_flip_rate": float(pd.Series(flipped).mean()),  # of those that are known
        "auroc": auroc,
        "precision": precision,
    }


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
    if judgements is None:
        return None
    rows = np.flatnonzero(splits.judgements == TEST)
    if judgements.correct is not None and not np.isnan(judgements.correct[rows]).all():
        return None
    disagreement = disagreement_of(judgements.chosen[rows], judgements.pairs[rows])
    return None if disagreement is None else 1 - implied_flip_rate(disagreement)
