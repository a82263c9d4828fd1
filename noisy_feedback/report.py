"""What a person reads on the screen."""

import math
from collections.abc import Sequence

import numpy as np

from noisy_feedback.metrics import Metrics

NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "mean_absolute_error": "mean absolute error (stars)",
    "quadratic_weighted_kappa": "quadratic weighted kappa",
    "pairwise_accuracy": "pairwise accuracy",
}


def metrics_table(stages: dict[str, Metrics]) -> str:
    """One column per stage of the run, one line per metric."""
    lines = [f"{'':28}" + "".join(f"{stage:>20}" for stage in stages)]
    for field, name in NAMES.items():
        lines.append(f"{name:28}" + "".join(f"{number(getattr(metrics, field)):>20}" for metrics in stages.values()))
    return "\n".join(lines)


def confusion_table(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """True ratings down, predicted ones across."""
    width = max(len(str(cell)) for cell in (*labels, *np.ravel(matrix))) + 2
    lines = ["true \\ predicted" + "".join(f"{label:>{width}}" for label in labels)]
    lines += [
        f"{label:>16}" + "".join(f"{cell:>{width}}" for cell in row) for label, row in zip(labels, matrix, strict=True)
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"
