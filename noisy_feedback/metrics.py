"""Predictions -> what is reported of them. Definitions as in scikit-learn, which the tests compare with."""

from dataclasses import dataclass

import numpy as np

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "mean_absolute_error": "mean absolute error (stars)",
    "quadratic_weighted_kappa": "quadratic weighted kappa",
    "pairwise_accuracy": "pairwise accuracy",
}


@dataclass(frozen=True)
class Metrics:
    """Quality of predicted ratings. NaN where a metric is not defined (no two different ratings, say)."""

    accuracy: float
    macro_f1: float
    macro_precision: float
    macro_recall: float
    mean_absolute_error: float  # of the expected rating, in stars
    quadratic_weighted_kappa: float  # of the expected rating, rounded to the nearest on the scale
    pairwise_accuracy: float
    confusion_matrix: list[list[int]]  # true class down, most probable class across


def evaluate(output: np.ndarray, ratings: np.ndarray, labels: np.ndarray) -> Metrics:
    """All metrics of predicted distributions (n, C), or of a scalar head's output (n, 1), against true classes (n,).

    `labels` (C,) are the stars that the classes stand for.
    """
    classes = len(labels)
    expected = expected_rating(output, labels)
    rounded = np.abs(expected[:, None] - labels).argmin(axis=1)
    predicted = rounded if output.shape[1] == 1 else output.argmax(axis=1)
    matrix = confusion_matrix(ratings, predicted, classes)
    precision, recall, f1 = precision_recall_f1(matrix)
    return Metrics(
        accuracy=accuracy(matrix),
        macro_f1=f1,
        macro_precision=precision,
        macro_recall=recall,
        mean_absolute_error=float(np.abs(expected - labels[ratings]).mean()),
        quadratic_weighted_kappa=quadratic_weighted_kappa(confusion_matrix(ratings, rounded, classes), labels),
        pairwise_accuracy=pairwise_accuracy(expected, ratings),
        confusion_matrix=matrix.tolist(),
    )


def expected_rating(output: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The regression output, in stars (n,): the mean of a distribution (n, C) over ratings (C,), or output (n, 1).

    A scalar output counts in classes: between them the stars are interpolated, beyond the ends they go on.
    """
    if output.shape[1] > 1:
        return output @ labels.astype(float)
    position = output[:, 0]
    inside = position.clip(0, len(labels) - 1)
    return np.interp(inside, np.arange(len(labels)), labels) + (position - inside)


def confusion_matrix(ratings: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C): true class down, predicted class across."""
    return np.bincount(ratings * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> float:
    """Share of right predictions; the same as micro-averaged F1."""
    return float(np.trace(matrix) / matrix.sum())


def precision_recall_f1(matrix: np.ndarray) -> tuple[float, float, float]:
    """Macro precision, recall and F1, over the classes that occur in truth or prediction; 0 for 0/0."""
    right, predicted, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    occurring = (predicted + true) > 0
    right, predicted, true = right[occurring], predicted[occurring], true[occurring]
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / (predicted + true)
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def quadratic_weighted_kappa(matrix: np.ndarray, labels: np.ndarray) -> float:
    """Agreement beyond chance with squared distances in stars as weights (Cohen 1968); NaN without variation."""
    distance = np.square(np.subtract.outer(labels, labels).astype(float))
    chance = (distance * np.outer(matrix.sum(axis=1), matrix.sum(axis=0))).sum() / matrix.sum()
    return float(1 - (distance * matrix).sum() / chance) if chance > 0 else float("nan")


def pairwise_accuracy(scores: np.ndarray, ratings: np.ndarray) -> float:
    """Share of pairs with different ratings that the scores order rightly; a tie counts half.

    The concordance index (Harrell et al. 1982); with two ratings, the area under the ROC curve. Takes
    O(C n log n). NaN where no two ratings differ.
    """
    right, pairs = 0.0, 0
    lower = np.empty(0)
    for rating in np.unique(ratings):
        own = scores[ratings == rating]
        right += (np.searchsorted(lower, own, "left") + np.searchsorted(lower, own, "right")).sum() / 2
        pairs += len(own) * len(lower)
        lower = np.sort(np.concatenate([lower, own]))
    return float(right / pairs) if pairs else float("nan")
