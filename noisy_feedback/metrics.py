"""Scores of predicted ratings. Definitions as in scikit-learn, which the tests compare with."""

import math
from dataclasses import dataclass, field, fields

import numpy as np

STAGES = ("before", "best", "last")  # of fine-tuning: the models that are evaluated and saved


@dataclass(frozen=True)
class Metrics:
    """Quality of predicted ratings. NaN where a metric is not defined (no two different ratings, say)."""

    accuracy: float = math.nan
    macro_f1: float = math.nan
    macro_precision: float = math.nan
    macro_recall: float = math.nan
    mean_absolute_error: float = math.nan  # of the expected rating, in stars
    quadratic_weighted_kappa: float = math.nan  # of the expected rating, rounded to the nearest on the scale
    pairwise_accuracy: float = math.nan
    preference_accuracy: float = math.nan  # of human comparisons, by the reward
    confusion_matrix: list[list[int]] = field(default_factory=list)  # true class down, most probable class across
    preference_interval: list[float] | None = None  # 95 %, over pairs of texts


# The numbers among them: field -> its name on the screen and in figures.
METRICS = {
    metric.name: metric.name.replace("_", " ").replace("f1", "F1").replace("error", "error (stars)")
    for metric in fields(Metrics)
    if metric.type is float
}


def evaluate(output: np.ndarray, ratings: np.ndarray, scale: np.ndarray) -> Metrics:
    """All metrics of predicted distributions (n, C), or of a scalar head's output (n, 1), against true classes (n,).

    `scale` (C,) are the stars that the classes stand for.
    """
    classes = len(scale)
    expected = expected_rating(output, scale)
    rounded = np.abs(expected[:, None] - scale).argmin(axis=1)
    predicted = rounded if output.shape[1] == 1 else output.argmax(axis=1)
    matrix = confusion_matrix(ratings, predicted, classes)
    precision, recall, f1 = precision_recall_f1(matrix)
    return Metrics(
        accuracy=accuracy(matrix),
        macro_f1=f1,
        macro_precision=precision,
        macro_recall=recall,
        mean_absolute_error=float(np.abs(expected - scale[ratings]).mean()),
        quadratic_weighted_kappa=quadratic_weighted_kappa(confusion_matrix(ratings, rounded, classes), scale),
        pairwise_accuracy=pairwise_accuracy(expected, ratings),
        confusion_matrix=matrix.tolist(),
    )


def majority_baseline(train_ratings: np.ndarray, ratings: np.ndarray, scale: np.ndarray) -> Metrics:
    """Metrics on ratings (n,) of always predicting the most frequent of train_ratings (m,), or the lowest of equals."""
    most_frequent = np.bincount(train_ratings).argmax()
    return evaluate(np.eye(len(scale))[np.full(len(ratings), most_frequent)], ratings, scale)


def expected_rating(output: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The regression output, in stars (n,): the mean of a distribution (n, C) over ratings (C,), or output (n, 1).

    A scalar output counts in classes: between two classes it is interpolated, beyond the ends a class is one star.
    """
    if output.shape[1] > 1:
        return output @ scale.astype(float)
    position = output[:, 0]
    inside = position.clip(0, len(scale) - 1)
    return np.interp(inside, np.arange(len(scale)), scale) + (position - inside)


def expected_class(output: np.ndarray) -> np.ndarray:
    """The reward (n,) of predicted distributions (n, C): the expected class; of a scalar head (n, 1) its output."""
    return output @ np.arange(output.shape[1]) if output.shape[1] > 1 else output[:, 0]


def confusion_matrix(ratings: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C): true class down, predicted class across."""
    return np.bincount(ratings * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> float:
    """Share of correct predictions; the same as micro-averaged F1."""
    return float(np.trace(matrix) / matrix.sum())


def precision_recall_f1(matrix: np.ndarray) -> tuple[float, float, float]:
    """Macro precision, recall and F1, over the classes that occur in truth or prediction; 0 for 0/0."""
    correct, predicted, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    occurring = (predicted + true) > 0
    correct, predicted, true = correct[occurring], predicted[occurring], true[occurring]
    precision = correct / np.maximum(predicted, 1)
    recall = correct / np.maximum(true, 1)
    f1 = 2 * correct / (predicted + true)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def quadratic_weighted_kappa(matrix: np.ndarray, scale: np.ndarray) -> float:
    """Agreement beyond chance with squared distances in stars as weights (Cohen 1968); NaN without variation."""
    distance = np.square(np.subtract.outer(scale, scale).astype(float))
    chance = (distance * np.outer(matrix.sum(axis=1), matrix.sum(axis=0))).sum() / matrix.sum()
    return float(1 - (distance * matrix).sum() / chance) if chance > 0 else math.nan


def preference_accuracy(margins: np.ndarray) -> float:
    """Share of comparisons with a positive margin (V,); a tie counts half. NaN where there is no comparison."""
    return float(((margins > 0) + 0.5 * (margins == 0)).mean()) if len(margins) else math.nan


def pairwise_accuracy(scores: np.ndarray, ratings: np.ndarray) -> float:
    """Share of pairs with different ratings that the scores order correctly; a tie counts half.

    The concordance index (Harrell et al. 1982); with two ratings, the area under the ROC curve. Takes
    O(C n log n). NaN where no two ratings differ.
    """
    correct, pairs = 0.0, 0
    lower = np.empty(0)
    for rating in np.unique(ratings):
        own = scores[ratings == rating]
        correct += (np.searchsorted(lower, own, "left") + np.searchsorted(lower, own, "right")).sum() / 2
        pairs += len(own) * len(lower)
        lower = np.sort(np.concatenate([lower, own]))
    return float(correct / pairs) if pairs else math.nan
