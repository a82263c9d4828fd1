"""Train and fine-tune one rating model. Inside an epoch nothing waits for the device; its end fetches all at once."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noisy_feedback import metrics
from noisy_feedback.errors import InputError
from noisy_feedback.learning.examples import Examples, Validation
from noisy_feedback.learning.losses import margins
from noisy_feedback.learning.model import Learner, RatingMLP, forward, is_scalar, predict_class
from noisy_feedback.learning.objective import Objective


@dataclass(frozen=True)
class TrainingTask:
    """What a model learns from and is scored on, what it minimises, and how."""

    examples: Examples
    validation: Validation
    objective: Objective
    rng: np.random.Generator  # of the order of the examples
    learning_rate: float
    batch: int
    epochs: int
    # What chooses the best epoch: accuracy, macro_f1 or kappa of validation ratings, preference_accuracy of comparisons
    select: str = "accuracy"


@dataclass(frozen=True)
class EpochStats:
    """One epoch. Training accuracy is measured on each batch just before its update, against the ratings learned."""

    objective: float  # mean per list
    training_accuracy: float
    preference_accuracy: float  # share of adjacent items that the reward orders as given; NaN in training
    validation_accuracy: float
    validation_macro_f1: float
    validation_preference_accuracy: float = math.nan  # of human comparisons


@dataclass(frozen=True)
class FitResult:
    """The models of the best and the last epoch, the best epoch (1, 2, ...; 0 where none was run) and every epoch."""

    best: RatingMLP
    last: RatingMLP
    best_epoch: int
    epochs: list[EpochStats]


@torch.no_grad()
def fit(
    model: RatingMLP, embeddings: Tensor, task: TrainingTask, progress: Callable[[], object] = lambda: None
) -> FitResult:
    """Learn by Adam on shuffled batches and keep the first epoch with the highest validation score.

    `model` is left unchanged; `embeddings` (n, d) are frozen; `progress` is called after every epoch.
    Errors: InputError where the objective is not finite.
    """
    model = model.copy()
    learner, validation = Learner(model, task.learning_rate), task.validation
    x_rated = select_rows(embeddings, validation.rows)
    true = torch.from_numpy(validation.ratings).to(embeddings.device)
    x_compared = select_rows(embeddings, validation.comparisons.ravel())
    best, best_epoch, best_score = model, 0, -np.inf
    epochs: list[EpochStats] = []
    for number in range(1, task.epochs + 1):
        learned = run_epoch(learner, embeddings, task)
        counts = confusion_counts(model, x_rated, true, validation.scale)
        compared = preference_accuracy_of(model, x_compared)
        fetched = torch.cat([learned, compared.view(1), counts.flatten()]).cpu().numpy()
        if not np.isfinite(fetched[[0, -1]]).all():
            raise InputError(
                f"the loss or the model's output is not finite in epoch {number}: the embeddings are too large, the "
                "learning rate (--lr-f, --lr-t) is too high, or your own loss has no finite value or gradient there"
            )
        stats, score = epoch_stats(fetched, validation.scale, task.select)
        epochs.append(stats)
        if score > best_score or number == 1:
            best, best_epoch, best_score = model.copy(), number, score
        progress()
    return FitResult(best, model, best_epoch, epochs)


def run_epoch(learner: Learner, embeddings: Tensor, task: TrainingTask) -> Tensor:
    """One pass over the examples in a new random order: mean objective, training and preference accuracy, (3,)."""
    order = task.rng.permutation(len(task.examples.rows))
    rows = torch.from_numpy(task.examples.rows[order]).to(embeddings.device)  # (n, g)
    ratings = torch.from_numpy(task.examples.ratings[order]).to(embeddings.device)  # (n, g)
    reference = task.examples.reference
    if reference is not None:
        reference = reference[torch.from_numpy(order).to(reference.device)]  # (n, g, C)
    logits = embeddings.new_empty(*rows.shape, learner.model.widths[-1])  # (n, g, C or 1)
    # One buffer for the embeddings of all batches: new memory for each makes fine-tuning 1.3 times as long at d = 768.
    buffer = embeddings.new_empty(rows[: task.batch].numel(), embeddings.shape[1])
    for start in range(0, len(rows), task.batch):
        batch = slice(start, start + task.batch)
        chosen = rows[batch].flatten()
        x = torch.index_select(embeddings, 0, chosen, out=buffer[: len(chosen)])  # (B * g, d)
        logits[batch] = learner.forward(x).view_as(logits[batch])
        batch_reference = None if reference is None else reference[batch]
        grad_logits = task.objective.gradient(logits[batch], ratings[batch], batch_reference)  # (B, g, C or 1)
        learner.step(grad_logits.flatten(0, 1))
    mean = task.objective.value(logits, ratings, reference).double().mean()
    # Human comparisons may claim no ratings (-1); then there is no accuracy: NaN.
    right = ((predict_class(logits, len(task.validation.scale)) == ratings) & (ratings >= 0)).double().sum()
    accuracy = right / (ratings >= 0).double().sum()
    return torch.stack([mean, accuracy, share_positive(margins(logits))])


def share_positive(z: Tensor) -> Tensor:
    """Share of the margins z that are positive; a tie counts half. On the device of z, as float64; NaN of none."""
    return ((z > 0).double() + 0.5 * (z == 0).double()).mean()


def preference_accuracy_of(model: RatingMLP, x: Tensor) -> Tensor:
    """Share of the pairs x (2V, d), the better text first, that the reward orders right; NaN if one is not finite."""
    logits = forward(model, x)[-1]
    broken = torch.where(logits.isfinite().all(), 0.0, torch.nan)
    return share_positive(margins(logits.unflatten(0, (-1, 2)))) + broken


def confusion_counts(model: RatingMLP, x: Tensor, true: Tensor, scale: np.ndarray) -> Tensor:
    """Confusion matrices (2, C, C), true class down: of the most probable class, and of the expected rating, rounded.

    On the device of x (m, d), as float64; NaN where an output is not finite.
    """
    logits = forward(model, x)[-1]
    classes = len(scale)
    predicted = nearest = predict_class(logits, classes)
    if not is_scalar(logits):
        stars = torch.from_numpy(scale).to(logits)
        expected = (torch.softmax(logits, dim=-1) * stars).sum(-1, keepdim=True)
        nearest = (expected - stars).abs().argmin(-1)
    counts = torch.zeros(2, classes * classes, dtype=torch.float64, device=x.device)
    cells = torch.stack([true * classes + predicted, true * classes + nearest])
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.float64))
    counts += torch.where(logits.isfinite().all(), 0.0, torch.nan)  # a model broken by the epoch's last step
    return counts.view(2, classes, classes)


def epoch_stats(fetched: np.ndarray, scale: np.ndarray, select: str) -> tuple[EpochStats, float]:
    """The statistics of an epoch, of what it gave (4 + 2 * C * C,), and its score: -inf where that is not defined."""
    objective, training_accuracy, preference_accuracy, compared = map(float, fetched[:4])
    if not len(scale):  # comparisons alone
        return EpochStats(objective, math.nan, preference_accuracy, math.nan, math.nan, compared), compared
    confusion, rounded = fetched[4:].reshape(2, len(scale), len(scale)).astype(np.int64)
    scores = {
        "accuracy": metrics.accuracy(confusion),
        "macro_f1": metrics.precision_recall_f1(confusion)[2],
        "kappa": metrics.quadratic_weighted_kappa(rounded, scale),
        "preference_accuracy": compared,
    }
    score = scores[select]
    validation = scores["accuracy"], scores["macro_f1"], compared
    stats = EpochStats(objective, training_accuracy, preference_accuracy, *validation)
    return stats, -math.inf if math.isnan(score) else score


def select_rows(embeddings: Tensor, rows: np.ndarray) -> Tensor:
    """Rows (m, d) of the embeddings; a view where they follow one another, as they do without --shuffle."""
    if len(rows) and (np.diff(rows) == 1).all():
        return embeddings[rows[0] : rows[-1] + 1]
    return embeddings[torch.from_numpy(rows).to(embeddings.device)]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute on one thread, so that sums have one order; restore the number of threads afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
