"""Train and fine-tune one rating model. Inside an epoch nothing waits for the device."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noisy_feedback.errors import InputError
from noisy_feedback.learning.examples import Examples, Validation
from noisy_feedback.learning.losses import margins
from noisy_feedback.learning.model import Learner, RatingMLP, forward, is_scalar, predict
from noisy_feedback.learning.objective import Objective
from noisy_feedback.metrics import Metrics, evaluate, preference_accuracy


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
    select: str  # the score that chooses the best epoch: accuracy, macro_f1, kappa or preference_accuracy


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
    x_compared = select_rows(embeddings, validation.comparisons.ravel())
    best, best_epoch, best_score = model, 0, -np.inf
    epochs: list[EpochStats] = []
    for number in range(1, task.epochs + 1):
        objective, training_accuracy, in_order = run_epoch(learner, embeddings, task).tolist()
        output = predict(model, x_rated).cpu().numpy()
        compared = margins(forward(model, x_compared)[-1].unflatten(0, (-1, 2))).flatten().cpu().numpy()
        if not all(np.isfinite(numbers).all() for numbers in (objective, output, compared)):
            raise InputError(
                f"the loss or the model's output is not finite in epoch {number}: the embeddings are too large, the "
                "learning rate (--lr-f, --lr-t) is too high, or your own loss has no finite value or gradient there"
            )
        found = Metrics()  # without ratings, no other is defined than the preference accuracy
        if len(validation.scale):
            found = evaluate(output, validation.ratings, validation.scale)
        found = replace(found, preference_accuracy=preference_accuracy(compared))
        validated = found.accuracy, found.macro_f1, found.preference_accuracy
        epochs.append(EpochStats(objective, training_accuracy, in_order, *validated))
        name = "quadratic_weighted_kappa" if task.select == "kappa" else task.select
        score = np.nan_to_num(getattr(found, name), nan=-np.inf)
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
    if is_scalar(logits):
        predicted = logits.squeeze(-1).round().clamp(0, len(task.validation.scale) - 1)  # the nearest
    else:
        predicted = logits.argmax(-1)
    # Human comparisons may claim no ratings (-1); then there is no accuracy: NaN.
    accuracy = ((predicted == ratings) & (ratings >= 0)).double().sum() / (ratings >= 0).double().sum()
    z = margins(logits)
    return torch.stack([mean, accuracy, ((z > 0).double() + 0.5 * (z == 0).double()).mean()])


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
